//! Repair: weights fitted anew, so that what is left of a model gives what the whole model gave.

mod once;
mod refit;
pub mod sequential;

pub use once::{Repair, repair, repair_channels};
pub(crate) use refit::{Onto, Refit};
