//! Structured pruning of ONNX models that preserves mutual information.
//!
//! One pipeline, one module per stage, plain data between the stages:
//!
//! ```text
//! bytes -> Model -> Graph -> Groups -> Statistics -> Plan -> Model -> Report
//!          onnx     graph    groups    calibrate     select  surgery  report
//!                   ops                mi                    verify
//! ```

pub mod allowance;
pub mod calibrate;
pub mod cli;
pub mod combine;
mod digest;
pub mod divergence;
pub mod graph;
pub mod groups;
pub mod mi;
pub mod onnx;
pub mod ops;
mod outputs;
pub mod pipeline;
mod regular;
pub mod report;
pub mod runtime;
pub mod segments;
pub mod select;
pub mod sequential;
pub mod shown;
pub mod surgery;
pub mod verify;
