//! Mutual information between the inputs and outputs of a linear consumer, in closed form.
//!
//! A consumer computes `Y = W X + b`. With `K = Cov(X)` and isotropic noise of variance `s` on
//! every output (a deterministic map has infinite MI; `s` is the resolution at which information
//! counts), a kept set S of inputs has
//!
//! ```text
//! I(X_S; Y) = 1/2 logdet Cov(X_S) - 1/2 logdet Cov(X_S | Y)
//! ```
//!
//! Both terms are handled through their precisions: `P = inv(K)` and, because `X | Y` is Gaussian
//! with precision `inv(K) + W' W / s`, `H = P + A` with `A = W' W / s`. Leaving a channel c out is
//! a Schur complement of both matrices, and the MI that is lost with it is
//!
//! ```text
//! dI = 1/2 logdet H_cc - 1/2 logdet P_cc
//! ```
//!
//! which equals the form of Mutual Information Preserving Pruning (arXiv 2411.00147) with the
//! refitted linear predictor, `1/2 logdet(I + inv(E + N) dE)`: the ranking is always that of the
//! set that is left, no channel is judged against what is gone already.

mod basis;
mod elimination;
mod exchange;
mod nested;
mod state;

pub use basis::basis;
pub use elimination::{Elimination, Reading, Removal};
pub use exchange::Exchanged;
pub use nested::{nested, pair, unexplained};

#[cfg(test)]
mod tests;
