//! Shrinkage by held-out prediction, for tensors of which few rows are seen.
//!
//! The intensity of Ledoit and Wolf makes the covariance as a whole right, which its large
//! eigenvalues decide. Prediction leans on the small ones: with little more rows than inputs it needs
//! several times as much. So the rows are held in folds, and the intensity is the one with which
//! half of the inputs predicts the other half best on the fold that was left out.

use std::io;

use crate::calibrate::moments::{add_lower, visit_lower};
use crate::calibrate::spread::shift_products;
use faer::linalg::solvers::SelfAdjointEigen;
use faer::{Accum, Mat, Scale, Side};

pub(super) const FOLDS: usize = 4;
/// Beyond so many inputs the eigenvalues cost more than the rest of a run.
const MOST_INPUTS: usize = 2048;
/// With so many rows per input the two intensities no longer differ in effect.
const MANY_ROWS: usize = 8;
/// Intensities that are tried: powers of ten, this many for each.
const STEPS: i32 = 6;
const DECADES: i32 = 4;

/// Sums over the rows of each fold.
#[derive(Debug, Clone)]
pub(super) struct Folds(Vec<Fold>);

#[derive(Debug, Clone)]
struct Fold {
    rows: usize,
    /// Sum of the rows.
    sum: Vec<f64>,
    /// Lower triangle of the sum of the rows' outer products.
    products: Mat<f64>,
}

impl Folds {
    /// For `rows` rows of `inputs`; `None` where the data choose a shrinkage well without.
    pub fn wanted(inputs: usize, rows: usize) -> Option<Self> {
        let few = rows < MANY_ROWS * inputs && (2..=MOST_INPUTS).contains(&inputs);
        let fold = || Fold {
            rows: 0,
            sum: vec![0.0; inputs],
            products: Mat::zeros(inputs, inputs),
        };
        few.then(|| Folds((0..FOLDS).map(|_| fold()).collect()))
    }

    /// Adds rows of whole samples, each fold its share.
    pub fn add(&mut self, data: &Mat<f64>, samples: usize) {
        let per_sample = data.nrows() / samples.max(1);
        for (number, fold) in self.0.iter_mut().enumerate() {
            let [from, to] = [number, number + 1].map(|at| samples * at / FOLDS * per_sample);
            fold.rows += to - from;
            let part = data.as_ref().subrows(from, to - from);
            for (column, sum) in fold.sum.iter_mut().enumerate() {
                *sum += part.col(column).iter().sum::<f64>();
            }
            super::moments::product(&mut fold.products, Accum::Add, part);
        }
    }

    /// Room for the sums of a file, with the rows of each fold.
    pub fn stored(inputs: usize, rows: &[usize]) -> Self {
        let fold = |&rows: &usize| Fold {
            rows,
            sum: vec![0.0; inputs],
            products: Mat::zeros(inputs, inputs),
        };
        Folds(rows.iter().map(fold).collect())
    }

    /// Rows of each fold.
    pub fn rows(&self) -> Vec<usize> {
        self.0.iter().map(|fold| fold.rows).collect()
    }

    /// Shows all sums, fold by fold.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&mut [f64]) -> io::Result<()>) -> io::Result<()> {
        for fold in &mut self.0 {
            visit(&mut fold.sum)?;
            visit_lower(&mut fold.products, visit)?;
        }
        Ok(())
    }

    /// Adds the folds of another run, whose rows are `by` too large.
    pub fn merge(&mut self, other: Folds, by: &[f64]) {
        for (fold, mut more) in self.0.iter_mut().zip(other.0) {
            shift_products(&mut more.products, by, &more.sum, more.rows);
            add_lower(&mut fold.products, &more.products);
            for ((sum, value), by) in fold.sum.iter_mut().zip(&more.sum).zip(by) {
                *sum += value - more.rows as f64 * by;
            }
            fold.rows += more.rows;
        }
    }

    /// The best intensity; `offset` is the mean of the rows. `None` where a fold has no rows.
    pub fn shrinkage(&self, offset: &[f64]) -> Option<f64> {
        if self.0.iter().any(|fold| fold.rows == 0) {
            return None;
        }
        let tried: Vec<f64> = (-STEPS * DECADES..0)
            .map(|step| 10f64.powf(f64::from(step) / f64::from(STEPS)))
            .collect();
        let mut errors = vec![0.0; tried.len()];
        for held in 0..self.0.len() {
            let [rest, held] = [false, true].map(|own| self.covariance(offset, held, own));
            for (error, more) in errors.iter_mut().zip(predict(&rest, &held, &tried)?) {
                *error += more;
            }
        }
        let best = (0..tried.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]))?;
        tried.get(best).copied()
    }

    /// Covariance of one fold, or of all others.
    fn covariance(&self, offset: &[f64], fold: usize, own: bool) -> Mat<f64> {
        let size = offset.len();
        let folds = || {
            let all = self.0.iter().enumerate();
            all.filter(move |(index, _)| (*index == fold) == own)
        };
        let rows: usize = folds().map(|(_, fold)| fold.rows).sum();
        Mat::from_fn(size, size, |i, j| {
            let at = (i.max(j), i.min(j));
            let sum: f64 = folds().map(|(_, fold)| fold.products[at]).sum();
            sum / rows.max(1) as f64 - offset[i] * offset[j]
        })
    }
}

/// For each intensity, the squared error with which the first half of the inputs, fitted on `rest`,
/// predicts the second on `held`; less what no intensity changes.
fn predict(rest: &Mat<f64>, held: &Mat<f64>, tried: &[f64]) -> Option<Vec<f64>> {
    let half = rest.nrows() / 2;
    let split = |matrix: &Mat<f64>| {
        let first = matrix.submatrix(0, 0, half, half).to_owned();
        let across = matrix
            .submatrix(half, 0, matrix.nrows() - half, half)
            .to_owned();
        (first, across)
    };
    let ((first, across), (held_first, held_across)) = (split(rest), split(held));
    let eigen = SelfAdjointEigen::new(first.as_ref(), Side::Lower).ok()?;
    let basis = eigen.U();
    let values = eigen.S().column_vector();
    let (across, held_across) = (&across * basis, &held_across * basis);
    let held_first = basis.transpose() * &held_first * basis;
    let size = rest.nrows().max(1) as f64;
    let mean: f64 = (0..rest.nrows()).map(|i| rest[(i, i)]).sum::<f64>() / size;
    let error = |&intensity: &f64| {
        let map = Mat::from_fn(across.nrows(), half, |i, j| {
            let shrunk = (1.0 - intensity) * values[j] + intensity * mean;
            (1.0 - intensity) * across[(i, j)] / shrunk.max(f64::MIN_POSITIVE)
        });
        let spread = &map * &held_first - &held_across * Scale(2.0);
        let columns = (0..half).map(|j| {
            let pairs = map.col_as_slice(j).iter().zip(spread.col_as_slice(j));
            pairs.map(|(a, b)| a * b).sum::<f64>()
        });
        columns.sum()
    };
    Some(tried.iter().map(error).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Rows of `size` inputs that share three factors, and noise.
    fn rows(count: usize, size: usize, noise: f64, seed: u64) -> Mat<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        let factors = Mat::from_fn(count, 3, |_, _| draw());
        let noises = Mat::from_fn(count, size, |_, _| draw() * noise);
        let mut weights = ChaCha8Rng::seed_from_u64(99);
        let loads = Mat::from_fn(3, size, |_, _| {
            f64::from(weights.next_u32()) / f64::from(u32::MAX) - 0.5
        });
        factors * loads + noises
    }

    fn shrinkage(count: usize, noise: f64) -> f64 {
        let mut folds = Folds::wanted(40, count).unwrap();
        folds.add(&rows(count, 40, noise, 1), count);
        folds.shrinkage(&[0.0; 40]).unwrap()
    }

    #[test]
    fn noise_and_few_rows_ask_for_more() {
        let [little, much, many] = [shrinkage(60, 0.02), shrinkage(60, 1.0), shrinkage(300, 1.0)];
        assert!(much > 10.0 * little, "{little} {much}");
        assert!(much > many, "{much} {many}");
    }

    #[test]
    fn the_choice_predicts_new_rows_about_as_well_as_the_best() {
        let (train, test) = (rows(60, 40, 0.5, 1), rows(4000, 40, 0.5, 2));
        let covariance = |m: &Mat<f64>| m.transpose() * m * Scale(1.0 / m.nrows() as f64);
        let found = shrinkage(60, 0.5);
        let tried = [1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.6, 0.9, found];
        let errors = predict(&covariance(&train), &covariance(&test), &tried).unwrap();
        let span = |error: f64| error - errors.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            span(errors[8]) < 0.1 * span(errors[0]),
            "{found} {errors:?}"
        );
    }

    #[test]
    fn many_rows_need_no_folds() {
        assert!(Folds::wanted(10, 80).is_none());
        assert!(Folds::wanted(10, 79).is_some());
        assert!(Folds::wanted(4096, 100).is_none());
    }
}
