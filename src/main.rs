//! The `onnx-mipp` program.
fn main() {}
