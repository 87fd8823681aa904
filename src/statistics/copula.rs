//! Covariances by ranks: the correlations of the Gaussian copula with robust deviations.
//!
//! A few huge values decide a covariance. Their ranks do not: every channel's values are replaced
//! by normal scores, whose correlations `R` are those of the Gaussian copula, and the covariance is
//! `D R D` with `D` the deviations (Ince et al., *A statistical framework for neuroimaging data
//! analysis based on mutual information estimated via a Gaussian copula*, Human Brain Mapping 38,
//! 2017). Ranks need rows, so a few are kept.

use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::linalg::triangle::Lower;
use crate::statistics::covariance::Covariance;
use crate::statistics::moments::Moments;
use crate::statistics::normal::normal_scores;

/// What the mutual information is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Estimator {
    /// Covariances of the values.
    #[default]
    Gaussian,
    /// Correlations of the values' normal scores: heavy tails count by rank.
    Copula,
}

/// Rows kept of one tensor at most.
const MOST_ROWS: usize = 4096;
/// Bytes of rows kept of all tensors together at most.
const MOST_BYTES: usize = 256 << 20;
/// Share of the rows at either end that deviations take for as far out as the next one.
const CLIPPED: f64 = 0.005;

/// Rows to keep of each tensor where all have so many channels.
pub(super) fn rows_of_each(channels: usize) -> usize {
    let fitting = MOST_BYTES / size_of::<f32>() / channels.max(1);
    fitting.clamp(1, MOST_ROWS)
}

/// Rows of a tensor's channels, as many of each sample.
pub(super) struct SampledRows {
    channels: usize,
    /// Inputs per channel, of which each row has one, in turn.
    kernel: usize,
    /// Rows to keep and samples to come.
    wanted: usize,
    samples: usize,
    /// Samples seen, samples of which rows were kept.
    seen: usize,
    kept: usize,
    rng: ChaCha8Rng,
    values: Vec<f32>,
}

impl SampledRows {
    /// None yet, of `channels` with `kernel` inputs each, where `samples` will come.
    pub fn new(channels: usize, kernel: usize, samples: usize, wanted: usize, seed: u64) -> Self {
        SampledRows {
            channels,
            kernel: kernel.max(1),
            wanted,
            samples: samples.max(1),
            seen: 0,
            kept: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            values: Vec::new(),
        }
    }

    /// Keeps some rows of `samples` samples, which follow each other in `data`.
    pub fn add(&mut self, data: &Mat<f64>, samples: usize) {
        let of_each = data.nrows() / samples.max(1);
        let take = (self.wanted / self.samples).clamp(1, of_each.max(1));
        for sample in 0..samples {
            // Where there are more samples than rows are wanted, some give none.
            let due = |seen: usize| seen.saturating_mul(self.wanted) / self.samples;
            let is_due = due(self.seen + 1) > due(self.seen);
            self.seen += 1;
            if !is_due || of_each == 0 || self.kept * take >= self.wanted {
                continue;
            }
            let mut drawn = index::sample(&mut self.rng, of_each, take).into_vec();
            drawn.sort_unstable();
            for row in drawn {
                let position = self.values.len() / self.channels.max(1) % self.kernel;
                let row = sample * of_each + row;
                let inputs = (0..self.channels).map(|channel| channel * self.kernel + position);
                self.values
                    .extend(inputs.map(|input| data[(row, input)] as f32));
            }
            self.kept += 1;
        }
    }

    /// The covariance of some of the channels; `None` where no row was kept.
    ///
    /// Its shrinkage is that of the scores, chosen from them as that of a covariance is from
    /// values.
    pub fn covariance(&self, first: usize, count: usize) -> Option<Covariance> {
        let rows = self.values.len() / self.channels.max(1);
        let values = Mat::from_fn(rows, count, |row, column| {
            let value = self.values.get(row * self.channels + first + column);
            value.copied().map_or(0.0, f64::from)
        });
        let (mean, deviations): (Vec<f64>, Vec<f64>) = (0..count)
            .map(|channel| clipped(values.col_as_slice(channel)))
            .unzip();
        let mut moments = Moments::of_rows(count, rows);
        moments.add(scores(values.as_ref()), self.kept);
        let found = moments.covariance()?;
        let mut lower = found.lower;
        for (j, own) in deviations.iter().enumerate() {
            let below = lower.below(j).iter_mut().zip(&deviations[j..]);
            below.for_each(|(value, other)| *value *= other * own);
        }
        Some(Covariance {
            mean,
            lower,
            shrinkage: found.shrinkage,
        })
    }
}

/// Each column's normal scores, of mean 0 and variance 1 unless all values are equal.
fn scores(values: MatRef<'_, f64>) -> Mat<f64> {
    let mut scores = Mat::zeros(values.nrows(), values.ncols());
    for channel in 0..values.ncols() {
        let column: Vec<f64> = values.col(channel).iter().copied().collect();
        let found = normal_scores(&column);
        let (mean, deviation) = mean_and_deviation(&found);
        let scale = if deviation > 0.0 {
            1.0 / deviation
        } else {
            0.0
        };
        let target = scores.col_as_slice_mut(channel).iter_mut();
        target
            .zip(found)
            .for_each(|(to, score)| *to = (score - mean) * scale);
    }
    scores
}

/// Mean and standard deviation of values of which the outermost count as the next ones further in:
/// so that they do not decide the variance, which no rank changes. (Winsorised; that it is too
/// small by the same factor for channels alike does not matter, since the noise floor goes with the
/// variances.)
fn clipped(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let out = (CLIPPED * sorted.len() as f64) as usize;
    let ends = sorted.get(out).zip(sorted.iter().rev().nth(out));
    let Some((&low, &high)) = ends else {
        return (0.0, 0.0);
    };
    sorted
        .iter_mut()
        .for_each(|value| *value = value.clamp(low, high));
    mean_and_deviation(&sorted)
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests;
