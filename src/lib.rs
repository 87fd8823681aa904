//! Structured pruning of ONNX models that preserves mutual information.

pub mod calibrate;
pub mod onnx;
pub mod runtime;
