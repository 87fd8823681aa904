//! What every value of a model is: its shape, and its data where these are constant.

mod infer;
mod probe;

pub use infer::{forecast, infer};
pub use probe::probe;
