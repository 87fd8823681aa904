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
pub mod cli;
pub mod combine;
pub mod data;
mod digest;
pub mod graph;
pub mod groups;
pub mod linalg;
pub mod mi;
pub mod onnx;
pub mod ops;
mod outputs;
pub mod pipeline;
mod regular;
pub mod repair;
pub mod report;
pub mod runtime;
pub mod select;
pub mod shapes;
pub mod shown;
pub mod statistics;
pub mod subgraph;
pub mod surgery;
mod synthetic;
pub mod taps;
pub mod trials;
pub mod verify;
