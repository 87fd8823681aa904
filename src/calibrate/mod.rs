//! Calibration: reading the data that show what a model's channels carry.

mod error;
pub mod reader;

pub use error::CalibrateError;
