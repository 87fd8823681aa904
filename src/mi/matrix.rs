//! The few matrix functions that selection and repair need, on faer.

use faer::linalg::solvers::{DenseSolveCore, Solve};
use faer::{Mat, MatRef, Side};

use crate::mi::MiError;

fn factor(matrix: MatRef<'_, f64>) -> Result<faer::linalg::solvers::Llt<f64>, MiError> {
    let failed = |_| MiError::NotPositiveDefinite {
        size: matrix.nrows(),
    };
    matrix.llt(Side::Lower).map_err(failed)
}

/// Inverse of a symmetric positive definite matrix, of which the lower triangle is read.
///
/// # Errors
/// The matrix is not positive definite.
pub fn inverse(matrix: MatRef<'_, f64>) -> Result<Mat<f64>, MiError> {
    if matrix.nrows() == 0 {
        return Ok(Mat::new());
    }
    let inverse = factor(matrix)?.inverse();
    if inverse.norm_max().is_finite() {
        Ok(inverse)
    } else {
        Err(MiError::NotPositiveDefinite {
            size: matrix.nrows(),
        })
    }
}

/// `log(det(matrix))` of a symmetric positive definite matrix, of which the lower triangle is read.
///
/// # Errors
/// The matrix is not positive definite.
pub fn log_determinant(matrix: MatRef<'_, f64>) -> Result<f64, MiError> {
    if matrix.nrows() == 0 {
        return Ok(0.0);
    }
    let factor = factor(matrix)?;
    let lower = factor.L();
    let sum: f64 = (0..matrix.nrows()).map(|i| lower[(i, i)].ln()).sum();
    if sum.is_finite() {
        Ok(2.0 * sum)
    } else {
        Err(MiError::NotPositiveDefinite {
            size: matrix.nrows(),
        })
    }
}

/// `right * inv(matrix)` for a symmetric positive definite matrix.
///
/// # Errors
/// The matrix is not positive definite.
pub fn solve_right(matrix: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Result<Mat<f64>, MiError> {
    if matrix.nrows() == 0 {
        return Ok(Mat::zeros(right.nrows(), 0));
    }
    Ok(factor(matrix)?
        .solve(right.transpose())
        .transpose()
        .to_owned())
}
