//! How far outputs have moved, and how sure the samples are of it.
//!
//! Of sample i with the output `x_i`, and `y_i` of the other model, the divergence is `d_i = |y_i -
//! x_i|^2 / V`, where `V` is the variance of the outputs, `sum |x_i - mean|^2 / (n - 1)`: 0 is the
//! same, 1 is what any constant would do. The samples are independent, so that the mean of `d` is
//! no larger than its estimate and Student's t times its standard error with a confidence of 90 %.

use serde::Serialize;

/// One-sided quantiles of Student's t for 90 %, from one degree of freedom on.
const STUDENT: [f64; 5] = [3.078, 1.886, 1.638, 1.533, 1.476];
/// The same of the normal distribution.
const NORMAL: f64 = 1.2816;
/// An output that hardly varies is measured by this share of its mean square instead: below it,
/// changes are taken for rounding.
const LEAST_VARIANCE: f64 = 1e-6;

/// Squared change of an output over its variance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Divergence {
    /// Its mean over the samples; null in JSON where it is not finite.
    #[cfg_attr(test, schemars(with = "Option<f64>", range(min = 0)))]
    pub mean: f64,
    /// Upper end of its interval: the mean of all samples that could be drawn lies below, with a
    /// confidence of 90 %; null in JSON where it is not finite.
    #[cfg_attr(test, schemars(with = "Option<f64>", range(min = 0)))]
    pub high: f64,
}

impl Divergence {
    /// Where nothing tells how far it is.
    pub const UNKNOWN: Divergence = Divergence {
        mean: f64::INFINITY,
        high: f64::INFINITY,
    };
}

/// What is known of one output.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Per sample, its squared change.
    changes: Vec<f64>,
    /// Per entry, the sum over the samples; empty where these differ in size.
    sums: Vec<f64>,
    squares: f64,
    /// Whether changes already are shares.
    is_counted: bool,
}

impl Moves {
    /// Adds a sample of numbers. Entries that the original leaves infinite or undefined do not
    /// count.
    pub fn add(&mut self, before: &[f64], after: &[f64]) {
        if self.changes.is_empty() {
            self.sums = vec![0.0; before.len()];
        } else if self.sums.len() != before.len() {
            self.sums.clear();
        }
        let pairs = before.iter().zip(after);
        let numbers = pairs.filter(|(before, _)| before.is_finite());
        self.changes
            .push(numbers.map(|(b, a)| (a - b) * (a - b)).sum());
        for (place, value) in before.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            self.squares += value * value;
            if let Some(sum) = self.sums.get_mut(place) {
                *sum += value;
            }
        }
    }

    /// Adds a sample of decisions, such as classes: the share of them that differ.
    pub fn add_decisions(&mut self, differing: usize, all: usize) {
        let all = all.max(1) as f64;
        if self.changes.is_empty() {
            // None that differ among few samples do not say that none would: one more than was
            // seen.
            self.changes.push(1.0 / all);
        }
        self.is_counted = true;
        self.changes.push(differing as f64 / all);
    }

    /// The divergence; `None` of fewer than two samples.
    pub fn divergence(&self) -> Option<Divergence> {
        let count = self.changes.len();
        let quantile = student(count.checked_sub(1)?)?;
        let samples = count as f64;
        let scale = if self.is_counted { 1.0 } else { self.scale() };
        let mean = self.changes.iter().sum::<f64>() / samples;
        let squares = self.changes.iter().map(|change| (change - mean).powi(2));
        let error = (squares.sum::<f64>() / (samples - 1.0) / samples).sqrt();
        let over = |change: f64| match change {
            0.0 => 0.0,
            change if scale > 0.0 && change.is_finite() => change / scale,
            _ => f64::INFINITY,
        };
        Some(Divergence {
            mean: over(mean),
            high: over(mean + quantile * error),
        })
    }

    /// The variance of a sample's entries together.
    fn scale(&self) -> f64 {
        let samples = self.changes.len() as f64;
        let square = self.squares / samples;
        if self.sums.is_empty() {
            return square;
        }
        let of_mean: f64 = self.sums.iter().map(|sum| (sum / samples).powi(2)).sum();
        let variance = (square - of_mean) * samples / (samples - 1.0).max(1.0);
        variance.max(LEAST_VARIANCE * square)
    }
}

/// The quantile of Student's t; `None` without a degree of freedom. Beyond the table, the first
/// terms of its expansion at the normal distribution (Abramowitz and Stegun, 26.7.5).
fn student(freedom: usize) -> Option<f64> {
    let listed = STUDENT.get(freedom.checked_sub(1)?);
    let (z, n) = (NORMAL, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    Some(listed.copied().unwrap_or(z + first / n + second / (n * n)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn moved(pairs: &[(&[f64], &[f64])]) -> Option<Divergence> {
        let mut moves = Moves::default();
        for (before, after) in pairs {
            moves.add(before, after);
        }
        moves.divergence()
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Any table of Student's t, one-sided 90 %.
        for (freedom, expected) in [
            (1, 3.078),
            (4, 1.533),
            (5, 1.476),
            (10, 1.372),
            (30, 1.310),
            (120, 1.289),
        ] {
            let found = student(freedom).unwrap();
            assert!((found - expected).abs() < 1.5e-3, "{freedom}: {found}");
        }
        assert_eq!(student(0), None);
    }

    #[test]
    fn it_is_the_change_over_the_variance() {
        // Variance 2 (n - 1 = 1) about the mean 1; squared changes 1 and 0: mean 0.25, standard
        // error 0.25.
        let found = moved(&[(&[0.0], &[1.0]), (&[2.0], &[2.0])]).unwrap();
        assert!((found.mean - 0.25).abs() < 1e-12);
        assert!((found.high - (0.25 + 3.078 * 0.25)).abs() < 1e-12);
    }

    #[test]
    fn one_sample_tells_nothing() {
        assert_eq!(moved(&[(&[0.0], &[0.0])]), None);
        assert_eq!(moved(&[]), None);
    }

    #[test]
    fn what_does_not_vary_is_measured_by_its_size() {
        let same: &[f64] = &[1.0, -1.0];
        assert_eq!(moved(&[(same, same), (same, same)]).unwrap().high, 0.0);
        let rounded: &[f64] = &[1.0 + 1e-7, -1.0];
        assert!(moved(&[(same, rounded), (same, rounded)]).unwrap().high < 1e-6);
        let other: &[f64] = &[1.1, -1.0];
        assert!(moved(&[(same, other), (same, other)]).unwrap().high > 1.0);
        // Of an output of zeros, any change is all of it.
        let zeros: &[f64] = &[0.0];
        assert_eq!(
            moved(&[(zeros, &[1.0]), (zeros, &[1.0])]).unwrap().high,
            f64::INFINITY
        );
    }

    #[test]
    fn what_is_no_number_in_the_original_does_not_count() {
        let found = moved(&[
            (&[0.0, f64::NEG_INFINITY], &[0.0, f64::NEG_INFINITY]),
            (&[2.0, f64::NEG_INFINITY], &[2.0, 5.0]),
        ]);
        assert_eq!(found.unwrap().high, 0.0);
        let lost = moved(&[(&[0.0], &[f64::NAN]), (&[2.0], &[2.0])]).unwrap();
        assert_eq!(lost.high, f64::INFINITY);
    }

    #[test]
    fn samples_of_other_sizes_are_measured_by_their_squares() {
        // Squares 1 and 8, mean 4.5; changes 0 and 0.9.
        let found = moved(&[(&[1.0], &[1.0]), (&[2.0, 2.0], &[2.0, 2.0 + 0.9f64.sqrt()])]);
        assert!((found.unwrap().mean - 0.45 / 4.5).abs() < 1e-12);
    }

    #[test]
    fn decisions_that_all_agree_are_as_sure_as_there_are_many() {
        let agreed = |samples: usize| {
            let mut moves = Moves::default();
            (0..samples).for_each(|_| moves.add_decisions(0, 1));
            moves.divergence().unwrap().high
        };
        // The true bound is 1 - 0.1^(1/n): 0.206 and 0.009.
        assert!((0.15..0.3).contains(&agreed(10)), "{}", agreed(10));
        assert!((0.006..0.012).contains(&agreed(256)), "{}", agreed(256));
    }
}
