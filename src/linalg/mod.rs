//! Symmetric matrices, products of many columns, factors, sweeps and downdates, on faer.

mod downdate;
mod error;
mod matrix;
pub(crate) mod products;
mod sweep;
pub(crate) mod triangle;
mod tuning;

pub use error::LinalgError;
pub use matrix::{Divisor, inverse, log_determinant, solve_right};
pub(crate) use matrix::{log_steps, log_steps_and_inverse, lower, lower_gram, mirror, product};
pub(crate) use sweep::Swept;
