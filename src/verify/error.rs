//! How far pruned models are from the original on given samples, to choose among them.

use crate::data::{Batch, DataError, Padding};
use crate::verify::{Check, VerifyError, floats, is_number};

impl Check {
    /// The squared error of each pruned model: at every output of floats the squared difference
    /// from the original over the variance of the original across the samples, summed over the
    /// outputs. Where nothing varies, as with one sample, the original's square takes the
    /// variance's place. A value that is not finite makes it infinite.
    ///
    /// # Errors
    /// Data that cannot be read, or a model that fails.
    pub fn squared_errors(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, DataError>>,
    ) -> Result<Vec<f64>, VerifyError> {
        let names = self.before.outputs();
        let mut spreads: Vec<OutputVariance> =
            names.iter().map(|_| OutputVariance::default()).collect();
        let mut all = vec![vec![0.0; names.len()]; self.after.len()];
        for batch in batches {
            let batch = batch?;
            let samples = batch.first().and_then(|(_, t)| t.shape.first().copied());
            let padding = Padding::of(&batch);
            let expected = self.before.run(&batch, &names)?;
            let mut values = Vec::new();
            for ((name, tensor), spread) in names.iter().zip(&expected).zip(&mut spreads) {
                let failed = |error| VerifyError::Tensor {
                    output: name.clone(),
                    error,
                };
                let found = if is_number(tensor) {
                    let mut values = floats(tensor).map_err(failed)?;
                    if let Some(padding) = &padding {
                        padding.fill(&mut values, &tensor.shape, f64::NAN);
                    }
                    Some(values)
                } else {
                    None
                };
                if let Some(found) = &found {
                    spread.add(found, samples.unwrap_or(1));
                }
                values.push(found);
            }
            for (after, sums) in self.after.iter_mut().zip(&mut all) {
                let found = after.run(&batch, &names)?;
                for ((sum, expected), found) in sums.iter_mut().zip(&values).zip(&found) {
                    let Some(expected) = expected else { continue };
                    *sum += floats(found).map_or(f64::INFINITY, |found| squared(expected, &found));
                }
            }
        }
        let total = |sums: Vec<f64>| {
            let each = sums.iter().zip(&spreads);
            let all: f64 = each.map(|(sum, spread)| spread.share(*sum)).sum();
            if all.is_nan() { f64::INFINITY } else { all }
        };
        Ok(all.into_iter().map(total).collect())
    }
}

/// The squared difference; infinite where the lengths differ.
fn squared(left: &[f64], right: &[f64]) -> f64 {
    if left.len() != right.len() {
        return f64::INFINITY;
    }
    let pairs = left.iter().zip(right);
    // What is no number in both models is no difference.
    let finite = pairs.filter(|(left, _)| left.is_finite());
    finite.map(|(left, right)| (left - right).powi(2)).sum()
}

/// Sums over the samples of one output.
#[derive(Default)]
struct OutputVariance {
    count: f64,
    /// Per element, the first sample, and the sum of what the others are above it.
    first: Vec<f64>,
    above: Vec<f64>,
    /// Sums of squares above the first sample, and above zero.
    squares: [f64; 2],
}

impl OutputVariance {
    fn add(&mut self, values: &[f64], samples: usize) {
        let size = (values.len() / samples.max(1)).max(1);
        for row in values.chunks(size) {
            if self.first.is_empty() {
                let finite = |&value: &f64| if value.is_finite() { value } else { 0.0 };
                self.first = row.iter().map(finite).collect();
                self.above = vec![0.0; row.len()];
            }
            self.count += 1.0;
            let elements = row.iter().zip(&self.first).zip(&mut self.above);
            for ((&value, &first), above) in elements.filter(|((value, _), _)| value.is_finite()) {
                *above += value - first;
                self.squares[0] += (value - first).powi(2);
                self.squares[1] += value.powi(2);
            }
        }
    }

    /// A squared difference as a share of the variance.
    fn share(&self, squared: f64) -> f64 {
        let moved: f64 = self.above.iter().map(|above| above * above).sum();
        let variance = self.squares[0] - moved / self.count.max(1.0);
        let scale = [variance, self.squares[1]];
        let scale = scale.into_iter().find(|&scale| scale > 0.0);
        squared / scale.unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_by_the_variance_across_samples() {
        let mut spread = OutputVariance::default();
        // Two elements of four samples, in two batches: variances 5 and 20 around 1.5 and 3.
        spread.add(&[0.0, 0.0, 1.0, 2.0], 2);
        spread.add(&[2.0, 4.0, 3.0, 6.0], 2);
        assert_eq!(spread.share(50.0), 2.0);
        // One sample, and nothing at all.
        let mut one = OutputVariance::default();
        one.add(&[3.0, 4.0], 1);
        assert_eq!(one.share(50.0), 2.0);
        assert_eq!(OutputVariance::default().share(50.0), 50.0);
        // What is no number does not count, wherever it comes.
        let mut some = OutputVariance::default();
        some.add(&[f64::NAN, 1.0, f64::NAN, 3.0], 2);
        assert_eq!(some.share(2.0), 1.0);
    }

    #[test]
    fn what_is_not_finite_is_infinitely_far() {
        assert!(!squared(&[1.0, 2.0], &[1.0, f64::NAN]).is_finite());
        assert!(squared(&[1.0], &[1.0, 2.0]).is_infinite());
        assert_eq!(squared(&[f64::NAN, 2.0], &[f64::NAN, 0.0]), 4.0);
    }
}
