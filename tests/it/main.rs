//! The integration tests, one binary: one module per stage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod builder;
mod graphs;
mod masked;
mod rules;
mod wire;
