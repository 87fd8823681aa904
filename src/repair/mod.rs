//! Repair: weights fitted anew, so that what is left of a model gives what the whole model gave.

mod fold;
mod once;
pub mod sequential;

pub(crate) use fold::{Fold, Onto};
pub use once::{Repair, repair, repair_channels};
