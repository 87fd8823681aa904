//! Calibration: reading the data that show what a model's channels carry, and the statistics of
//! what they show.

mod copula;
mod covariance;
mod error;
mod folds;
mod geometry;
mod infer;
mod moments;
mod normal;
mod parts;
mod patches;
mod probe;
pub(crate) mod products;
pub mod reader;
mod spread;
mod statistics;
mod store;
mod sums;
pub(crate) mod tap;
mod triangle;
mod turn;

pub use copula::Estimator;
pub use covariance::Covariance;
pub use error::CalibrateError;
pub use infer::infer;
pub use moments::{Apart, Moments};
pub use normal::normal_scores;
pub use probe::probe;
pub use reader::Batch;
pub use statistics::{GatherOptions, Observed, Statistics, StatisticsError};
pub(crate) use store::stage;
pub use store::{Origin, read};
pub use sums::Sums;
