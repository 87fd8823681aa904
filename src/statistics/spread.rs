//! What lets the sums of different runs be added: a change of the shift under which they were made.
//!
//! Rows are squared about a shift that each run takes from its own first batch. First and second
//! moments move to another shift by themselves. The scatter, which is of fourth order, needs the
//! samples' means too: with `x' = x - d`, a sample's second moment S and mean m become
//! `S' = S - d m' - m d' + d d'`, so that
//!
//! ```text
//! |S'|^2 = |S|^2 + 2 |d|^2 |m|^2 + 2 (d.m)^2 + |d|^4 - 4 d.(S m) + 2 d.(S d) - 4 |d|^2 (d.m)
//! ```
//!
//! of which all sums over samples follow from those of `m m'`, `S m`, `S` and `m`.

use faer::linalg::matmul::matmul;
use faer::{Accum, ColRef, Mat, MatRef, Par};

use crate::linalg::triangle::Lower;
use crate::statistics::moments::product;

/// Sums over the samples, each of equally many rows.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    /// Lower triangle of the sum of `m m'`.
    pub means: Mat<f64>,
    /// Sum of `S m`.
    pub pulls: Vec<f64>,
}

impl Spread {
    pub fn new(inputs: usize) -> Self {
        Spread {
            means: Mat::zeros(inputs, inputs),
            pulls: vec![0.0; inputs],
        }
    }

    /// Adds samples of `rows` rows each, one after the other.
    pub fn add(&mut self, data: &Mat<f64>, samples: usize) {
        let rows = data.nrows() / samples.max(1);
        let share = 1.0 / rows.max(1) as f64;
        let mut means = Mat::zeros(samples, data.ncols());
        for sample in 0..samples {
            let part = data.as_ref().subrows(sample * rows, rows);
            let mean = Mat::from_fn(data.ncols(), 1, |column, _| {
                part.col(column).iter().sum::<f64>() * share
            });
            let pull = times(part.transpose(), times(part, mean.as_ref()).as_ref());
            for (column, sum) in self.pulls.iter_mut().enumerate() {
                *sum += pull[(column, 0)] * share;
                means[(sample, column)] = mean[(column, 0)];
            }
        }
        product(&mut self.means, Accum::Add, means.as_ref());
    }

    /// What the scatter grows by when the shift does by `by`; `sum` and `products` are those of all
    /// rows of `samples` samples before it.
    pub fn growth(
        &self,
        by: &[f64],
        sum: &[f64],
        products: &Mat<f64>,
        (rows, samples): (usize, usize),
    ) -> f64 {
        let count = samples as f64;
        let per_sample = rows as f64 / count.max(1.0);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norm = dot(by, by);
        let trace: f64 = (0..by.len()).map(|i| self.means[(i, i)]).sum();
        2.0 * norm * trace + 2.0 * form(&self.means, by) + count * norm * norm
            - 4.0 * dot(by, &self.pulls)
            + 2.0 * form(products, by) / per_sample
            - 4.0 * norm * dot(by, sum) / per_sample
    }
}

fn times(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut found = Mat::zeros(left.nrows(), right.ncols());
    matmul(&mut found, Accum::Replace, left, right, 1.0, Par::Seq);
    found
}

/// `d' A d` of a symmetric matrix of which the lower triangle is stored.
fn form(lower: &Mat<f64>, d: &[f64]) -> f64 {
    let column = |j: usize| -> f64 {
        let below: ColRef<'_, f64> = lower.as_ref().col(j);
        let rows = below.iter().zip(d).skip(j + 1);
        let off: f64 = rows.map(|(value, d)| value * d).sum();
        d[j] * (lower[(j, j)] * d[j] + 2.0 * off)
    };
    (0..d.len()).map(column).sum()
}

/// The sums of products after a shift by `by`: `sum` is that of the rows before it.
pub(super) fn shift_products(products: &mut impl Lower, by: &[f64], sum: &[f64], rows: usize) {
    let count = rows as f64;
    for j in 0..by.len() {
        for (i, value) in (j..).zip(products.below(j)) {
            *value += count * by[i] * by[j] - sum[i] * by[j] - by[i] * sum[j];
        }
    }
}
