//! Shrinkage by held-out prediction, for tensors of which few rows are seen.
//!
//! The intensity of Ledoit and Wolf makes the covariance as a whole right, which its large
//! eigenvalues decide. Prediction leans on the small ones: with little more rows than inputs it
//! needs several times as much. So the rows are held in folds, and the intensity is the one with
//! which half of the inputs predicts the other half best on the fold that was left out.

use std::io;

use crate::linalg::products::Rows;
use crate::linalg::triangle::Triangle;
use crate::linalg::{mirror, solve_right};
use crate::statistics::spread::shift_products;
use faer::{Mat, MatRef, Scale};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub(super) const FOLDS: usize = 4;
/// Beyond so many inputs the fits cost more than the rest of a run.
const MOST_INPUTS: usize = 2048;
/// With so many rows per input the two intensities no longer differ in effect.
const MANY_ROWS: usize = 8;
/// Intensities that are tried: powers of ten, this many for each.
const STEPS: i32 = 6;
const DECADES: i32 = 4;
/// Random mixtures of inputs that are predicted, where there are more inputs.
const MIXTURES: usize = 64;

/// Sums over the rows of each fold.
#[derive(Debug, Clone)]
pub(super) struct Folds(Vec<Fold>);

#[derive(Debug, Clone)]
struct Fold {
    rows: usize,
    /// Sum of the rows.
    sum: Vec<f64>,
    /// Sum of the rows' outer products.
    products: Triangle,
}

/// Whether so few rows of `inputs` choose their shrinkage by prediction.
pub(super) fn are_few(inputs: usize, rows: usize) -> bool {
    rows < MANY_ROWS * inputs && (2..=MOST_INPUTS).contains(&inputs)
}

impl Folds {
    /// For `rows` rows of `inputs`; `None` where the data choose a shrinkage well without.
    pub fn wanted(inputs: usize, rows: usize) -> Option<Self> {
        let few = are_few(inputs, rows);
        let fold = || Fold {
            rows: 0,
            sum: vec![0.0; inputs],
            products: Triangle::new(inputs),
        };
        few.then(|| Folds((0..FOLDS).map(|_| fold()).collect()))
    }

    /// Adds rows of whole samples, each fold its share.
    pub fn add(&mut self, rows: &Rows<'_>, samples: usize) {
        let per_sample = rows.count() / samples.max(1);
        for (number, fold) in self.0.iter_mut().enumerate() {
            let [from, to] = [number, number + 1].map(|at| samples * at / FOLDS * per_sample);
            fold.rows += to - from;
            for (column, sum) in fold.sum.iter_mut().enumerate() {
                *sum += rows.sum(column, from..to);
            }
            rows.add_lower(from..to, &mut fold.products);
        }
    }

    /// Room for the sums of a file, with the rows of each fold.
    pub fn stored(inputs: usize, rows: &[usize]) -> Self {
        let fold = |&rows: &usize| Fold {
            rows,
            sum: vec![0.0; inputs],
            products: Triangle::new(inputs),
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
            visit(&mut fold.products.values)?;
        }
        Ok(())
    }

    /// Adds the folds of another run, whose rows are `by` too large.
    pub fn merge(&mut self, other: Folds, by: &[f64]) {
        for (fold, mut more) in self.0.iter_mut().zip(other.0) {
            shift_products(&mut more.products, by, &more.sum, more.rows);
            fold.products.add(&more.products);
            for ((sum, value), by) in fold.sum.iter_mut().zip(&more.sum).zip(by) {
                *sum += value - more.rows as f64 * by;
            }
            fold.rows += more.rows;
        }
    }

    /// The best intensity; `offset` is the mean of the rows. `None` where a fold has no rows.
    pub fn shrinkage(&self, offset: &[f64]) -> Option<f64> {
        let folds: Vec<Seen<'_>> = self.0.iter().map(|f| (f.rows, &f.products)).collect();
        shrinkage(&folds, offset)
    }
}

/// Rows of a fold, and the sum of their outer products.
pub(super) type Seen<'a> = (usize, &'a Triangle);

/// The best intensity; `None` for few folds or where one has no rows.
pub(super) fn shrinkage(folds: &[Seen<'_>], offset: &[f64]) -> Option<f64> {
    if folds.len() < FOLDS || folds.iter().any(|(rows, _)| *rows == 0) {
        return None;
    }
    let tried: Vec<f64> = (-STEPS * DECADES..0)
        .map(|step| 10f64.powf(f64::from(step) / f64::from(STEPS)))
        .collect();
    let folds: Vec<HeldOut> = (0..folds.len())
        .into_par_iter()
        .map(|held| {
            let variances = variances(folds, offset, held);
            let mean = variances.iter().sum::<f64>() / offset.len().max(1) as f64;
            let [rest, held] = [false, true].map(|own| covariance(folds, offset, held, own));
            HeldOut::new(rest.as_ref(), held.as_ref(), mean)
        })
        .collect();
    let mut errors = vec![f64::INFINITY; tried.len()];
    let mut measure = |indices: &[usize]| {
        let all: Vec<f64> = indices
            .par_iter()
            .map(|&index| folds.iter().map(|fold| fold.error(tried[index])).sum())
            .collect();
        for (&index, error) in indices.iter().zip(all) {
            errors[index] = error;
        }
        (0..errors.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]))
    };
    // The error falls and rises once, so that not all have to be tried.
    let coarse: Vec<usize> = (1..tried.len()).step_by(4).collect();
    let about = measure(&coarse)?;
    let near = about.saturating_sub(2)..(about + 3).min(tried.len());
    let near: Vec<usize> = near.filter(|&index| index != about).collect();
    tried.get(measure(&near)?).copied()
}

/// The first half of the inputs' columns of the covariance of one fold, or of all others; what lies
/// above the diagonal in them is 0.
fn covariance(folds: &[Seen<'_>], offset: &[f64], fold: usize, own: bool) -> Mat<f64> {
    let size = offset.len();
    let folds = || {
        let all = folds.iter().enumerate();
        all.filter(move |(index, _)| (*index == fold) == own)
    };
    let rows: usize = folds().map(|(_, (rows, _))| rows).sum();
    let rows = rows.max(1) as f64;
    let mut matrix = Mat::zeros(size, size / 2);
    for j in 0..size / 2 {
        let below = &mut matrix.col_as_slice_mut(j)[j..];
        for (_, (_, products)) in folds() {
            let pairs = below.iter_mut().zip(products.column(j));
            pairs.for_each(|(sum, more)| *sum += more);
        }
        for (value, of_row) in below.iter_mut().zip(&offset[j..]) {
            *value = *value / rows - of_row * offset[j];
        }
    }
    matrix
}

/// Variances of all inputs over the rows of all folds but one.
fn variances(folds: &[Seen<'_>], offset: &[f64], held: usize) -> Vec<f64> {
    let others = || {
        let all = folds.iter().enumerate();
        all.filter(move |(index, _)| *index != held)
    };
    let rows: usize = others().map(|(_, (rows, _))| rows).sum();
    let variance = |j: usize| {
        let sum: f64 = others().map(|(_, (_, products))| products.at(j, j)).sum();
        sum / rows.max(1) as f64 - offset[j] * offset[j]
    };
    (0..offset.len()).map(variance).collect()
}

/// What it takes to predict the second half of the inputs from the first on rows that no fit has
/// seen.
struct HeldOut {
    /// Covariances of the rows to fit: of the first half, and of mixtures of the second with it.
    first: Mat<f64>,
    across: Mat<f64>,
    /// The same of the rows held back.
    held_first: Mat<f64>,
    held_across: Mat<f64>,
    /// Mean variance of the rows to fit.
    mean: f64,
}

impl HeldOut {
    /// The squared error over all of the second half is that over random mixtures of it, but for a
    /// factor and a noise that all intensities share; fewer have to be predicted. Of the
    /// covariances the first half of the columns is read, from the diagonal down.
    fn new(rest: MatRef<'_, f64>, held: MatRef<'_, f64>, mean: f64) -> Self {
        let half = rest.nrows() / 2;
        let others = rest.nrows() - half;
        let mix = (others > MIXTURES).then(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(others as u64);
            Mat::from_fn(MIXTURES, others, |_, _| match rng.next_u32() % 2 {
                0 => -1.0,
                _ => 1.0,
            })
        });
        let split = |matrix: MatRef<'_, f64>| {
            let mut first = matrix.submatrix(0, 0, half, half).to_owned();
            mirror(&mut first);
            let across = matrix.submatrix(half, 0, others, half);
            let across = mix
                .as_ref()
                .map_or_else(|| across.to_owned(), |mix| mix * across);
            (first, across)
        };
        let ((first, across), (held_first, held_across)) = (split(rest), split(held));
        HeldOut {
            first,
            across,
            held_first,
            held_across,
            mean,
        }
    }

    /// The squared error of the fit of that intensity, less what no intensity changes; infinite
    /// where there is no fit.
    fn error(&self, intensity: f64) -> f64 {
        let mut shrunk = &self.first * Scale(1.0 - intensity);
        for i in 0..shrunk.nrows() {
            shrunk[(i, i)] += intensity * self.mean;
        }
        let across = &self.across * Scale(1.0 - intensity);
        let Ok(map) = solve_right(shrunk.as_ref(), across.as_ref()) else {
            return f64::INFINITY;
        };
        let spread = &map * &self.held_first - &self.held_across * Scale(2.0);
        let columns = (0..map.ncols()).map(|j| {
            let pairs = map.col_as_slice(j).iter().zip(spread.col_as_slice(j));
            pairs.map(|(a, b)| a * b).sum::<f64>()
        });
        columns.sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        let rows = rows(count, 40, noise, 1);
        folds.add(&Rows::new(&rows), count);
        folds.shrinkage(&[0.0; 40]).unwrap()
    }

    fn held_out(rest: &Mat<f64>, held: &Mat<f64>) -> HeldOut {
        let trace: f64 = (0..rest.nrows()).map(|i| rest[(i, i)]).sum();
        HeldOut::new(rest.as_ref(), held.as_ref(), trace / rest.nrows() as f64)
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
        let held = held_out(&covariance(&train), &covariance(&test));
        let errors = tried.map(|intensity| held.error(intensity));
        let span = |error: f64| error - errors.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            span(errors[8]) < 0.1 * span(errors[0]),
            "{found} {errors:?}"
        );
    }

    #[test]
    fn mixtures_ask_for_about_what_all_inputs_do() {
        let size = 4 * MIXTURES;
        let tried = [-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, -0.1].map(|power| 10f64.powf(power));
        let best = |held: &HeldOut| {
            let errors = tried.map(|intensity| held.error(intensity));
            (0..tried.len())
                .min_by(|a, b| errors[*a].total_cmp(&errors[*b]))
                .unwrap()
        };
        for (count, noise) in [(300, 0.02), (300, 0.5), (600, 1.0)] {
            let covariance = |seed| {
                let rows = rows(count, size, noise, seed);
                rows.transpose() * &rows * Scale(1.0 / count as f64)
            };
            let (rest, held) = (covariance(1), covariance(2));
            let mixed = held_out(&rest, &held);
            assert_eq!(mixed.across.nrows(), MIXTURES);
            let half = size / 2;
            let across = |m: &Mat<f64>| m.submatrix(half, 0, half, half).to_owned();
            let whole = HeldOut {
                across: across(&rest),
                held_across: across(&held),
                ..held_out(&rest, &held)
            };
            assert!(best(&mixed).abs_diff(best(&whole)) <= 1);
        }
    }

    #[test]
    fn many_rows_need_no_folds() {
        assert!(Folds::wanted(10, 80).is_none());
        assert!(Folds::wanted(10, 79).is_some());
        assert!(Folds::wanted(4096, 100).is_none());
    }
}
