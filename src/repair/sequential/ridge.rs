//! How far a fit is pulled to its start: as far as predicts samples best that it was not fitted to.
//!
//! Rows of one image resemble each other, so that many rows may be few samples, and a fit on them
//! repeats what they happen to have in common. One sample in four is held back: the others are
//! fitted with several ridges, and the one is taken that leaves least of the residual on the
//! samples held back. Then all are fitted with it. With `R` the residual of the start and `D` the
//! change of the weight,
//!
//! ```text
//! |R - D x|^2 = |R|^2 - 2 tr(D c') + tr(D C D')        c = E[R x'],  C = E[x x']
//! ```
//!
//! about the means of the samples that were fitted, whatever the fit: no row is looked at again.

use crate::linalg;
use faer::{Mat, MatRef};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::linalg::{Divisor, LinalgError};

/// One sample in so many is held back.
const HELD_BACK: usize = 4;
/// Fewer samples are all fitted.
const LEAST_SAMPLES: usize = 8;
/// Ridges are tried from this many times the mean variance of the inputs down, as long as they
/// gain, in steps of this factor.
const WIDEST: f64 = 10.0;
const STEP: f64 = 4.0;
/// So many times the mean variance leave the start as it is.
const NO_CHANGE: f64 = 1e6;
/// Of more targets than twice this, so many random sums are looked at.
const MIXTURES: usize = 64;

/// Rows of the samples of a batch that are held back: `first` is the number of its first sample.
pub(super) fn held(first: usize, samples: usize, per_sample: usize) -> Vec<usize> {
    let held = (0..samples).filter(|sample| (first + sample) % HELD_BACK == HELD_BACK - 1);
    held.flat_map(|sample| sample * per_sample..(sample + 1) * per_sample)
        .collect()
}

/// Whether so many samples are enough to hold some back.
pub(super) fn can_hold(samples: usize) -> bool {
    samples >= LEAST_SAMPLES
}

/// Second moments of two lists of variables over some rows.
#[derive(Debug, Clone)]
pub(super) struct SecondMoments {
    pub count: f64,
    /// Means of the variables along the rows, and along the columns.
    pub means: [Vec<f64>; 2],
    pub covariance: Mat<f64>,
}

impl SecondMoments {
    /// Variables with themselves.
    pub fn of(count: usize, mean: &[f64], covariance: Mat<f64>) -> SecondMoments {
        SecondMoments {
            count: count as f64,
            means: [mean.to_vec(), mean.to_vec()],
            covariance,
        }
    }

    /// The same without some of the rows.
    fn without(&self, part: &SecondMoments) -> SecondMoments {
        let count = self.count - part.count;
        let mean = |axis: usize| -> Vec<f64> {
            let pairs = self.means[axis].iter().zip(&part.means[axis]);
            pairs
                .map(|(all, part_)| (self.count * all - part.count * part_) / count)
                .collect()
        };
        let means = [mean(0), mean(1)];
        let of = |m: &[Vec<f64>; 2], i: usize, j: usize| {
            (m[0][i] - self.means[0][i]) * (m[1][j] - self.means[1][j])
        };
        let (rows, columns) = (self.covariance.nrows(), self.covariance.ncols());
        let covariance = Mat::from_fn(rows, columns, |i, j| {
            let all = self.count * self.covariance[(i, j)];
            let less = part.count * (part.covariance[(i, j)] + of(&part.means, i, j));
            (all - less) / count - of(&means, i, j)
        });
        SecondMoments {
            count,
            means,
            covariance,
        }
    }

    /// The second moments about other means.
    fn about(&self, means: &[Vec<f64>; 2]) -> Mat<f64> {
        let (rows, columns) = (self.covariance.nrows(), self.covariance.ncols());
        Mat::from_fn(rows, columns, |i, j| {
            self.covariance[(i, j)]
                + (self.means[0][i] - means[0][i]) * (self.means[1][j] - means[1][j])
        })
    }

    /// Of mixtures of the variables along the rows.
    fn mixed(&self, mixtures: &Mat<f64>) -> SecondMoments {
        let [rows, columns] = &self.means;
        let mean = |i: usize| -> f64 {
            let terms = rows.iter().enumerate();
            terms.map(|(j, mean)| mixtures[(i, j)] * mean).sum()
        };
        SecondMoments {
            count: self.count,
            means: [(0..mixtures.nrows()).map(mean).collect(), columns.clone()],
            covariance: mixtures * &self.covariance,
        }
    }

    /// Of targets less what a weight makes of the inputs.
    fn less(&self, weight: &Mat<f64>, inputs: &SecondMoments) -> SecondMoments {
        let made = |i: usize| -> f64 {
            let row = inputs.means[0].iter().enumerate();
            row.map(|(j, mean)| weight[(i, j)] * mean).sum()
        };
        let mut means = self.means.clone();
        means[0]
            .iter_mut()
            .enumerate()
            .for_each(|(i, mean)| *mean -= made(i));
        SecondMoments {
            count: self.count,
            means,
            covariance: &self.covariance - weight * &inputs.covariance,
        }
    }
}

/// The ridge that predicts best what is held back, at least `least`. `inputs` and `targets` are of
/// all rows, the latter's as the rows of `targets`, and of those held back; `start` is the weight
/// that fits are pulled to.
///
/// # Errors
/// A covariance that cannot be factorised.
pub(super) fn choose(
    inputs: [&SecondMoments; 2],
    targets: [&SecondMoments; 2],
    start: &Mat<f64>,
    least: f64,
) -> Result<f64, LinalgError> {
    let mixtures = mixtures(start.nrows());
    let mix = |targets: &SecondMoments| match &mixtures {
        Some(mixtures) => targets.mixed(mixtures),
        None => targets.clone(),
    };
    let mixed_start = mixtures.as_ref().map(|mixtures| mixtures * start);
    let start = mixed_start.as_ref().unwrap_or(start);
    let [all, held] = targets.map(mix);
    let fitted = inputs[0].without(inputs[1]);
    let residual = all.without(&held).less(start, &fitted);
    let wanted = held.less(start, inputs[1]).about(&residual.means);
    let held = inputs[1].about(&fitted.means);
    let size = fitted.covariance.nrows();
    let trace: f64 = fitted.covariance.diagonal().column_vector().iter().sum();
    let variance = trace / size.max(1) as f64;
    let left = |ridge: f64| -> Result<f64, LinalgError> {
        let divisor = Divisor::new(ridged(&fitted.covariance, ridge).as_ref())?;
        let change = divisor.divide(residual.covariance.as_ref());
        let made = linalg::product(change.as_ref(), held.as_ref());
        Ok(inner(made.as_ref(), change.as_ref()) - 2.0 * inner(change.as_ref(), wanted.as_ref()))
    };
    let next = |ridge: f64| (ridge / STEP).max(least);
    let mut best = ((NO_CHANGE * variance).max(least), 0.0);
    let mut ridge = (WIDEST * variance).max(least);
    loop {
        // Mostly the second is needed as well.
        let (one, other) = rayon::join(|| left(ridge), || left(next(ridge)));
        for (ridge, left) in [(ridge, one?), (next(ridge), other?)] {
            if left > best.1 {
                return Ok(best.0);
            }
            best = (ridge, left);
            if ridge <= least {
                return Ok(best.0);
            }
        }
        ridge = next(next(ridge));
    }
}

/// A covariance with a ridge.
pub(super) fn ridged(covariance: &Mat<f64>, ridge: f64) -> Mat<f64> {
    let mut ridged = covariance.clone();
    (0..ridged.nrows()).for_each(|i| ridged[(i, i)] += ridge);
    ridged
}

/// Random sums and differences of so many targets, where there are more than need be looked at.
fn mixtures(targets: usize) -> Option<Mat<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let sign = |_, _| if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
    (targets > 2 * MIXTURES).then(|| Mat::from_fn(MIXTURES, targets, sign))
}

fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    (0..a.ncols())
        .map(|j| (0..a.nrows()).map(|i| a[(i, j)] * b[(i, j)]).sum::<f64>())
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAMPLES: usize = 40;
    const PER_SAMPLE: usize = 5;
    const INPUTS: usize = 12;

    /// Rows of inputs that resemble each other within a sample, and targets that follow them as
    /// `slope` says, and each sample's own noise otherwise.
    fn rows(targets: usize, slope: f64, noise: f64) -> (Mat<f64>, Mat<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        let of_sample = Mat::from_fn(SAMPLES, INPUTS + targets, |_, _| uniform());
        let own = Mat::from_fn(SAMPLES * PER_SAMPLE, INPUTS, |_, _| 0.3 * uniform());
        let x = Mat::from_fn(own.nrows(), INPUTS, |i, j| {
            3.0 + of_sample[(i / PER_SAMPLE, j)] + own[(i, j)]
        });
        let t = Mat::from_fn(own.nrows(), targets, |i, j| {
            slope * x[(i, j % INPUTS)] + noise * of_sample[(i / PER_SAMPLE, INPUTS + j)] - 1.0
        });
        (x, t)
    }

    fn second(left: &Mat<f64>, right: &Mat<f64>, rows: &[usize]) -> SecondMoments {
        let count = rows.len() as f64;
        let mean = |m: &Mat<f64>| -> Vec<f64> {
            let of = |j| rows.iter().map(|&i| m[(i, j)]).sum::<f64>() / count;
            (0..m.ncols()).map(of).collect()
        };
        let means = [mean(left), mean(right)];
        let covariance = Mat::from_fn(left.ncols(), right.ncols(), |a, b| {
            let product = |&i: &usize| (left[(i, a)] - means[0][a]) * (right[(i, b)] - means[1][b]);
            rows.iter().map(product).sum::<f64>() / count
        });
        SecondMoments {
            count,
            means,
            covariance,
        }
    }

    fn chosen(x: &Mat<f64>, t: &Mat<f64>, start: &Mat<f64>, least: f64) -> f64 {
        let all: Vec<usize> = (0..x.nrows()).collect();
        let held = held(0, SAMPLES, PER_SAMPLE);
        let inputs = [second(x, x, &all), second(x, x, &held)];
        let targets = [second(t, x, &all), second(t, x, &held)];
        choose(
            [&inputs[0], &inputs[1]],
            [&targets[0], &targets[1]],
            start,
            least,
        )
        .unwrap()
    }

    /// What a fit with a ridge leaves of the targets that it did not see, row by row.
    fn left(x: &Mat<f64>, t: &Mat<f64>, start: &Mat<f64>, ridge: f64) -> f64 {
        let held = held(0, SAMPLES, PER_SAMPLE);
        let fitted: Vec<usize> = (0..x.nrows()).filter(|i| !held.contains(i)).collect();
        let (xx, tx) = (second(x, x, &fitted), second(t, x, &fitted));
        let residual = &tx.covariance - start * &xx.covariance;
        let ridged = ridged(&xx.covariance, ridge);
        let weight =
            start + crate::linalg::solve_right(ridged.as_ref(), residual.as_ref()).unwrap();
        let error = |i: usize, j: usize| {
            let made = |k: usize| weight[(j, k)] * (x[(i, k)] - xx.means[0][k]);
            t[(i, j)] - tx.means[0][j] - (0..INPUTS).map(made).sum::<f64>()
        };
        let of_row = |&i: &usize| (0..t.ncols()).map(|j| error(i, j).powi(2)).sum::<f64>();
        held.iter().map(of_row).sum()
    }

    #[test]
    fn the_ridge_is_the_first_after_which_rows_held_back_are_predicted_worse() {
        for (slope, noise) in [(1.0, 0.0), (1.0, 0.5), (0.3, 1.0), (0.1, 2.0)] {
            let (x, t) = rows(3, slope, noise);
            let start = Mat::zeros(3, INPUTS);
            let fitted = chosen(&x, &t, &start, 1e-4);
            let error = |ridge: f64| left(&x, &t, &start, ridge);
            let is_least = fitted <= 1e-4;
            assert!(error(fitted) <= error(fitted * STEP) * (1.0 + 1e-9));
            assert!(is_least || error(fitted) <= error((fitted / STEP).max(1e-4)));
        }
    }

    #[test]
    fn what_follows_the_inputs_is_fitted_and_what_does_not_is_left() {
        let start = Mat::zeros(3, INPUTS);
        let (x, t) = rows(3, 1.0, 0.0);
        assert_eq!(chosen(&x, &t, &start, 1e-4), 1e-4);
        // Few samples, each with a value of its own: a fit finds what is not there.
        let (x, t) = rows(3, 0.0, 1.0);
        assert!(chosen(&x, &t, &start, 1e-4) > 1e3);
        // A start that is right already leaves nothing to fit.
        let (x, t) = rows(3, 1.0, 1.0);
        let right = Mat::from_fn(3, INPUTS, |i, j| f64::from(u8::from(i == j)));
        assert!(chosen(&x, &t, &right, 1e-4) > 1e3);
    }

    /// Of many targets random sums are looked at.
    #[test]
    fn many_targets_choose_as_few_do() {
        let start = Mat::zeros(3 * MIXTURES, INPUTS);
        let (x, t) = rows(3 * MIXTURES, 1.0, 0.0);
        assert_eq!(chosen(&x, &t, &start, 1e-4), 1e-4);
        let (x, t) = rows(3 * MIXTURES, 0.0, 1.0);
        // Nearly nothing of a fit is left where the ridge is more than the inputs' variance of a
        // tenth.
        assert!(chosen(&x, &t, &start, 1e-4) > 0.2);
    }

    #[test]
    fn moments_without_some_rows_are_those_of_the_others() {
        let (x, t) = rows(3, 1.0, 1.0);
        let all: Vec<usize> = (0..x.nrows()).collect();
        let held = held(2, SAMPLES, PER_SAMPLE);
        let others: Vec<usize> = (0..x.nrows()).filter(|i| !held.contains(i)).collect();
        let found = second(&t, &x, &all).without(&second(&t, &x, &held));
        let wanted = second(&t, &x, &others);
        assert!((&found.covariance - &wanted.covariance).norm_max() < 1e-12);
        let pairs = found
            .means
            .iter()
            .flatten()
            .zip(wanted.means.iter().flatten());
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
    }

    #[test]
    fn one_sample_in_four_is_held_back_across_batches() {
        assert_eq!(held(0, 5, 2), [6, 7]);
        assert_eq!(held(5, 5, 1), [2]);
        assert_eq!(held(3, 5, 1), [0, 4]);
    }
}
