//! A covariance swept on some of its variables: what regression on them needs, kept up to date as
//! single variables join and leave them.
//!
//! With `S` the variables that are in and `R` the others,
//!
//! ```text
//! T_SS = -inv(K_SS)      T_SR = inv(K_SS) K_SR      T_RR = K_RR - K_RS inv(K_SS) K_SR
//! ```
//!
//! Sweeping (Goodnight, *A tutorial on the SWEEP operator*, 1979) moves variables `p` from one side
//! to the other with one product of their columns, `T <- T - T_:p inv(T_pp) T_p:`.

use faer::Mat;

use crate::linalg::downdate::BlockedDowndate;
use crate::linalg::{LinalgError, inverse};

pub(crate) struct Swept {
    table: BlockedDowndate,
    diagonal: Vec<f64>,
}

impl Swept {
    /// A covariance with all variables in, by its inverse, of which the lower triangle counts; so
    /// many products of columns are subtracted together.
    pub fn of_precision(mut precision: Mat<f64>, together: usize) -> Self {
        for column in 0..precision.ncols() {
            let values = precision.col_as_slice_mut(column);
            values.iter_mut().for_each(|value| *value = -*value);
        }
        Swept {
            diagonal: (0..precision.nrows()).map(|i| precision[(i, i)]).collect(),
            table: BlockedDowndate::new(precision, together),
        }
    }

    /// Forgets all variables but those of `picked`.
    pub fn keep(&mut self, picked: &[usize]) {
        self.table.keep(picked);
        self.diagonal = picked.iter().map(|&row| self.diagonal[row]).collect();
    }

    /// From here on more columns are read than variables moved.
    pub fn keep_whole(&mut self) {
        self.table.keep_whole();
    }

    /// One element of the diagonal.
    pub fn own(&self, variable: usize) -> f64 {
        self.diagonal[variable]
    }

    /// Rows and columns of some variables.
    pub fn block(&self, picked: &[usize]) -> Mat<f64> {
        self.table.block(picked)
    }

    /// Columns of some variables.
    pub fn columns(&self, picked: &[usize]) -> Mat<f64> {
        self.table.columns(picked)
    }

    /// Moves variables, all of them on one side, to the other; `join` says to which.
    ///
    /// # Errors
    /// Their covariance given those inside is not positive definite.
    pub fn sweep(&mut self, picked: &[usize], join: bool) -> Result<(), LinalgError> {
        // Of those inside the block is the negative of a precision.
        let sign = if join { 1.0 } else { -1.0 };
        let block = self.table.block(picked) * faer::Scale(sign);
        let divisor = inverse(block.as_ref())? * faer::Scale(sign);
        let columns = self.table.columns(picked);
        let spread = &columns * &divisor;
        for k in 0..picked.len() {
            let pairs = columns.col_as_slice(k).iter().zip(spread.col_as_slice(k));
            for (value, (left, right)) in self.diagonal.iter_mut().zip(pairs) {
                *value -= left * right;
            }
        }
        self.table.subtract(&columns, &spread, false);
        let mut moved = spread * faer::Scale(sign);
        for (i, &row) in picked.iter().enumerate() {
            for j in 0..picked.len() {
                moved[(row, j)] = -divisor[(i, j)];
            }
            self.diagonal[row] = -divisor[(i, i)];
        }
        for &row in picked {
            self.table.clear(row);
        }
        for (j, &column) in picked.iter().enumerate() {
            self.table.put(column, moved.col_as_slice(j));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIZE: usize = 8;

    fn covariance() -> Mat<f64> {
        let loads = Mat::from_fn(SIZE, SIZE, |i, j| {
            ((i * 5 + j * 3 + i * j) % 7) as f64 / 3.0
        });
        let own = Mat::<f64>::identity(SIZE, SIZE) * faer::Scale(0.5);
        &loads * loads.transpose() + own
    }

    /// Sweeps one way and the other end at what regression on the same variables gives from
    /// scratch.
    #[test]
    fn sweeps_are_the_regression_on_what_is_in() {
        let covariance = covariance();
        let mut is_in = [true, false, true, true, false, false, true, false];
        let precision = inverse(covariance.as_ref()).unwrap();
        let mut swept = Swept::of_precision(precision, 3);
        swept.sweep(&[1, 4, 5, 7], false).unwrap();
        let moves: [(&[usize], bool); 5] = [
            (&[1], true),
            (&[0, 6], false),
            (&[6, 4], true),
            (&[3], false),
            (&[2, 1, 6], false),
        ];
        for (picked, join) in moves {
            swept.sweep(picked, join).unwrap();
            picked.iter().for_each(|&i| is_in[i] = join);
            let inside: Vec<usize> = (0..SIZE).filter(|&i| is_in[i]).collect();
            let k_ss = Mat::from_fn(inside.len(), inside.len(), |i, j| {
                covariance[(inside[i], inside[j])]
            });
            let k_sa = Mat::from_fn(inside.len(), SIZE, |i, j| covariance[(inside[i], j)]);
            let precision = inverse(k_ss.as_ref()).unwrap();
            let map = &precision * &k_sa;
            let rest = &covariance - k_sa.transpose() * &map;
            let all: Vec<usize> = (0..SIZE).collect();
            let found = swept.block(&all);
            let place = |i: usize| inside.iter().position(|&other| other == i);
            for i in 0..SIZE {
                for j in 0..SIZE {
                    let expected = match (place(i), place(j)) {
                        (Some(i), Some(j)) => -precision[(i, j)],
                        (Some(i), None) => map[(i, j)],
                        (None, Some(j)) => map[(j, i)],
                        (None, None) => rest[(i, j)],
                    };
                    assert!((found[(i, j)] - expected).abs() < 1e-9, "{i} {j}");
                }
                assert!((swept.own(i) - found[(i, i)]).abs() < 1e-9);
            }
        }
    }
}
