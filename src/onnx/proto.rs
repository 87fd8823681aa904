//! The messages of the ONNX format, generated from proto/onnx.proto at build time.
//! Field meanings: <https://github.com/onnx/onnx/blob/main/docs/IR.md>.
#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
