//! Structured pruning of ONNX models that preserves mutual information.

pub mod onnx;
pub mod runtime;
