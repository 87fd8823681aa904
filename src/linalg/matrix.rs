//! The few matrix functions that selection and repair need, on faer.

use std::ops::Range;

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::{DenseSolveCore, Llt, Solve};
use faer::{Accum, Mat, MatRef, Par, Side};
use rayon::prelude::*;

use crate::linalg::LinalgError;
use crate::linalg::tuning::{PANEL, TILE, WORTH_SHARING};

/// Shares of the mean of the diagonal that are added to it until a matrix can be factored: rounding
/// leaves a covariance of inputs that depend on each other with eigenvalues a little below zero.
const ADDED: [f64; 5] = [0.0, 1e-6, 1e-5, 1e-4, 1e-3];

fn factor(matrix: MatRef<'_, f64>) -> Result<Llt<f64>, LinalgError> {
    let size = matrix.nrows();
    let mean = (0..size).map(|i| matrix[(i, i)]).sum::<f64>() / size.max(1) as f64;
    let mut factored = ADDED.iter().map(|share| match *share {
        0.0 => matrix.llt(Side::Lower),
        share => {
            let mut more = matrix.to_owned();
            (0..size).for_each(|i| more[(i, i)] += share * mean);
            more.llt(Side::Lower)
        }
    });
    let found = factored.find_map(Result::ok);
    found.ok_or(LinalgError::NotPositiveDefinite { size })
}

/// Inverse of a symmetric positive definite matrix, of which the lower triangle is read.
///
/// # Errors
/// The matrix is not positive definite.
pub fn inverse(matrix: MatRef<'_, f64>) -> Result<Mat<f64>, LinalgError> {
    if matrix.nrows() == 0 {
        return Ok(Mat::new());
    }
    let inverse = factor(matrix)?.inverse();
    if inverse.norm_max().is_finite() {
        Ok(inverse)
    } else {
        Err(LinalgError::NotPositiveDefinite {
            size: matrix.nrows(),
        })
    }
}

/// The lower triangular factor of a symmetric positive definite matrix, of which the lower triangle
/// is read.
pub(crate) fn lower(matrix: MatRef<'_, f64>) -> Result<Mat<f64>, LinalgError> {
    if matrix.nrows() == 0 {
        return Ok(Mat::new());
    }
    Ok(factor(matrix)?.L().to_owned())
}

/// The lower triangle of `rows' rows`, and zeros above it.
pub(crate) fn lower_gram(rows: MatRef<'_, f64>) -> Mat<f64> {
    let mut gram = Mat::zeros(rows.ncols(), rows.ncols());
    triangular::matmul(
        &mut gram,
        BlockStructure::TriangularLower,
        Accum::Replace,
        rows.transpose(),
        BlockStructure::Rectangular,
        rows,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    gram
}

/// Makes the upper triangle that of the lower one.
pub(crate) fn mirror<T: Copy>(matrix: &mut Mat<T>) {
    let size = matrix.nrows();
    let tiles = || (0..size).step_by(TILE);
    for left in tiles() {
        for top in tiles().filter(|&top| top >= left) {
            for column in left..size.min(left + TILE) {
                for row in top.max(column + 1)..size.min(top + TILE) {
                    matrix[(column, row)] = matrix[(row, column)];
                }
            }
        }
    }
}

/// `left right`, shared between threads.
pub(crate) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let each = left.nrows() * left.ncols();
    let made = side_by_side(right.ncols(), each, |columns| {
        left * right.subcols(columns.start, columns.len())
    });
    from_columns(left.nrows(), &made)
}

/// What `make` makes of so many columns, some at a time; the panels are the same whatever the
/// number of threads.
fn side_by_side(
    columns: usize,
    work_of_each: usize,
    make: impl Fn(Range<usize>) -> Mat<f64> + Send + Sync,
) -> Vec<Mat<f64>> {
    let starts = (0..columns).step_by(PANEL);
    let panels: Vec<_> = starts
        .map(|first| first..columns.min(first + PANEL))
        .collect();
    if columns.saturating_mul(work_of_each) < WORTH_SHARING {
        panels.into_iter().map(make).collect()
    } else {
        panels.into_par_iter().map(make).collect()
    }
}

/// Panels of columns as one matrix.
fn from_columns(rows: usize, panels: &[Mat<f64>]) -> Mat<f64> {
    let mut all = Mat::zeros(rows, panels.iter().map(Mat::ncols).sum());
    let mut first = 0;
    for panel in panels {
        all.subcols_mut(first, panel.ncols()).copy_from(panel);
        first += panel.ncols();
    }
    all
}

/// `log(det(matrix))` of a symmetric positive definite matrix, of which the lower triangle is read.
///
/// # Errors
/// The matrix is not positive definite.
pub fn log_determinant(matrix: MatRef<'_, f64>) -> Result<f64, LinalgError> {
    if matrix.nrows() == 0 {
        return Ok(0.0);
    }
    Ok(log_steps(matrix)?.iter().sum())
}

/// For each row of a symmetric positive definite matrix, of which the lower triangle is read, what
/// `log(det)` grows by when it and its column come to those before it.
///
/// # Errors
/// The matrix is not positive definite.
pub(crate) fn log_steps(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, LinalgError> {
    steps_of(&factor(matrix)?)
}

/// [`log_steps`] and [`inverse`] of one factor.
///
/// # Errors
/// The matrix is not positive definite.
pub(crate) fn log_steps_and_inverse(
    matrix: MatRef<'_, f64>,
) -> Result<(Vec<f64>, Mat<f64>), LinalgError> {
    let factor = factor(matrix)?;
    Ok((steps_of(&factor)?, factor.inverse()))
}

fn steps_of(factor: &Llt<f64>) -> Result<Vec<f64>, LinalgError> {
    let lower = factor.L();
    let size = lower.nrows();
    let steps: Vec<f64> = (0..size).map(|i| 2.0 * lower[(i, i)].ln()).collect();
    if steps.iter().all(|step| step.is_finite()) {
        Ok(steps)
    } else {
        Err(LinalgError::NotPositiveDefinite { size })
    }
}

/// A symmetric positive definite matrix, factored once for several right hand sides.
#[derive(Debug)]
pub struct Divisor(Option<Llt<f64>>);

impl Divisor {
    /// Factors the matrix, of which the lower triangle is read.
    ///
    /// # Errors
    /// The matrix is not positive definite.
    pub fn new(matrix: MatRef<'_, f64>) -> Result<Self, LinalgError> {
        let factored = (matrix.nrows() > 0).then(|| factor(matrix));
        Ok(Divisor(factored.transpose()?))
    }

    /// `right * inv(matrix)`; `right` has as many columns as the matrix.
    #[must_use]
    pub fn divide(&self, right: MatRef<'_, f64>) -> Mat<f64> {
        match &self.0 {
            Some(factor) => {
                let size = right.ncols();
                let solved = side_by_side(right.nrows(), size * size, |rows| {
                    let part = right.subrows(rows.start, rows.len());
                    factor.solve(part.transpose())
                });
                from_columns(size, &solved).transpose().to_owned()
            }
            None => Mat::zeros(right.nrows(), 0),
        }
    }
}

/// `right * inv(matrix)` for a symmetric positive definite matrix.
///
/// # Errors
/// The matrix is not positive definite.
pub fn solve_right(
    matrix: MatRef<'_, f64>,
    right: MatRef<'_, f64>,
) -> Result<Mat<f64>, LinalgError> {
    Ok(Divisor::new(matrix)?.divide(right))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As large as threads share, and no multiple of a panel.
    #[test]
    fn panels_side_by_side_make_the_whole() {
        let (rows, size) = (PANEL + 31, 3 * PANEL + 5);
        assert!(rows * size * size > WORTH_SHARING);
        let entry = |i: usize, j: usize| ((i * 5 + j * 3 + i * j) % 17) as f64 / 17.0;
        let left = Mat::from_fn(rows, size, entry);
        let right = Mat::from_fn(size, size, |i, j| entry(i + 2, j + 1));
        let whole = product(left.as_ref(), right.as_ref());
        assert!((&whole - &left * &right).norm_max() < 1e-9);
        let positive = &right * right.transpose() + Mat::<f64>::identity(size, size);
        let divided = Divisor::new(positive.as_ref())
            .unwrap()
            .divide(left.as_ref());
        assert!((divided * positive - left).norm_max() < 1e-6);
    }
}
