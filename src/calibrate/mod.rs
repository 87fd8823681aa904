//! Calibration: reading the data that show what a model's channels carry, and the statistics of
//! what they show.

mod error;
mod folds;
mod moments;
mod probe;
pub mod reader;
mod statistics;
pub(crate) mod tap;

pub use error::CalibrateError;
pub use moments::{Covariance, Moments};
pub use probe::probe;
pub use reader::Batch;
pub use statistics::{GatherOptions, Observed, Statistics, StatisticsError};
