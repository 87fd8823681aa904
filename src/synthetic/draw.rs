//! Random numbers of the distributions that made-up data need.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Evenly between two numbers.
pub fn uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// Between two positive numbers, as likely in each octave.
pub fn log_uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    uniform(rng, low.ln(), high.ln()).exp()
}

/// Whether something of that probability happens.
pub fn chance(rng: &mut ChaCha8Rng, probability: f32) -> bool {
    rng.random::<f32>() < probability
}

/// A number of `low..=high`.
pub fn count(rng: &mut ChaCha8Rng, low: usize, high: usize) -> usize {
    rng.random_range(low..=high)
}

/// One of the items; `None` where there is none.
pub fn pick<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T]) -> Option<&'a T> {
    let last = items.len().checked_sub(1)?;
    items.get(count(rng, 0, last))
}

/// A standard normal number (Box and Muller). By hand: rand_distr would draw other pictures from
/// the same seed.
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

/// Nearly a standard normal number, faster: the sum of four even ones of 16 bits.
pub fn rough_normal(rng: &mut ChaCha8Rng) -> f32 {
    let bits = rng.random::<u64>();
    let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
    // Each has mean 1/2 and variance 1/12, in units of 65536.
    (sum as f32 / 65536.0 - 2.0) * f32::sqrt(3.0)
}
