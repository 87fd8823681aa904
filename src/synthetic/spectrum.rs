//! Noise whose amplitude falls with the frequency, as that of natural images and sounds does.

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::rough_normal;

/// A square of noise with amplitude 1/f^`exponent`, row by row, that goes on at the opposite edge,
/// of zero mean and unit variance. Its side is the next power of two.
///
/// Octave by octave, from coarse to fine: what is there is drawn twice as large, and random numbers
/// are added, for cells of s pixels of deviation s^(exponent - 1), which makes the amplitude fall
/// like that in two dimensions.
pub fn tile(rng: &mut ChaCha8Rng, side: usize, exponent: f32) -> Tile {
    let side = side.next_power_of_two().max(2);
    let mut size = 1;
    let mut values = vec![0.0];
    while size < side {
        values = doubled(&values, size);
        size *= 2;
        let weight = ((side / size) as f32).powf(exponent - 1.0);
        for value in &mut values {
            *value += weight * rough_normal(rng);
        }
    }
    standardise(&mut values);
    Tile { side, values }
}

/// A square of noise without edges.
#[derive(Debug)]
pub struct Tile {
    side: usize,
    values: Vec<f32>,
}

impl Tile {
    /// The value at a place, counted round.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        let mask = self.side - 1;
        let place = (row & mask) * self.side + (column & mask);
        self.values.get(place).copied().unwrap_or(0.0)
    }
}

/// Twice as large, interpolated between the centres of the cells.
fn doubled(values: &[f32], size: usize) -> Vec<f32> {
    let mut wide = vec![0.0; 4 * size * size];
    for (y, row) in wide.chunks_exact_mut(2 * size).enumerate() {
        let near = y / 2;
        let far = (near + size + y % 2 * 2 - 1) % size;
        let (near, far) = (
            &values[near * size..][..size],
            &values[far * size..][..size],
        );
        let line = |x: usize| 0.75 * near[x] + 0.25 * far[x];
        for (x, value) in row.iter_mut().enumerate() {
            let at = x / 2;
            let beside = (at + size + x % 2 * 2 - 1) % size;
            *value = 0.75 * line(at) + 0.25 * line(beside);
        }
    }
    wide
}

/// A line of noise with amplitude 1/f^`exponent`, of zero mean and unit variance.
pub fn line(rng: &mut ChaCha8Rng, length: usize, exponent: f32) -> Vec<f32> {
    let whole = length.next_power_of_two().max(2);
    let mut values = vec![0.0];
    while values.len() < whole {
        let size = values.len();
        let weight = ((whole / (2 * size)) as f32).powf(exponent - 0.5);
        values = (0..2 * size)
            .map(|x| {
                let beside = (x / 2 + size + x % 2 * 2 - 1) % size;
                0.75 * values[x / 2] + 0.25 * values[beside] + weight * rough_normal(rng)
            })
            .collect();
    }
    values.truncate(length);
    standardise(&mut values);
    values
}

fn standardise(values: &mut [f32]) {
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
    let scale = 1.0 / variance.sqrt().max(f32::MIN_POSITIVE);
    for value in values {
        *value = (*value - mean) * scale;
    }
}
