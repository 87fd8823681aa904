//! A symmetric matrix from which products of vectors are subtracted, many at a time: one pass over
//! the matrix for each vector costs more in memory traffic than in arithmetic.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::linalg::matrix::mirror;
use crate::linalg::tuning::{DOWNDATE_WORTH_SHARING, FEW, PANEL};

/// `matrix - left right'`, where the columns of `left` and `right` wait to be multiplied.
pub(crate) struct BlockedDowndate {
    /// The lower triangle counts, and the upper one where `is_whole`.
    matrix: Mat<f64>,
    is_whole: bool,
    left: Vec<f64>,
    right: Vec<f64>,
    /// So many columns are multiplied together.
    together: usize,
}

impl BlockedDowndate {
    /// Of a symmetric matrix.
    pub fn new(matrix: Mat<f64>, together: usize) -> Self {
        BlockedDowndate {
            matrix,
            is_whole: false,
            left: Vec::new(),
            right: Vec::new(),
            together,
        }
    }

    /// Keeps the upper triangle as well from here on, for those who read more columns than they
    /// subtract.
    pub fn keep_whole(&mut self) {
        self.is_whole = true;
        self.settle();
    }

    /// One element.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let size = self.matrix.nrows();
        let waiting = self.left.chunks_exact(size);
        let pairs = waiting.zip(self.right.chunks_exact(size));
        let sum: f64 = pairs.map(|(left, right)| left[i] * right[j]).sum();
        self.matrix[(i.max(j), i.min(j))] - sum
    }

    /// The rows and columns of `picked`.
    pub fn block(&self, picked: &[usize]) -> Mat<f64> {
        if picked.len() <= FEW {
            return Mat::from_fn(picked.len(), picked.len(), |i, j| {
                self.at(picked[i], picked[j])
            });
        }
        let mut block = Mat::from_fn(picked.len(), picked.len(), |i, j| {
            let (row, column) = (picked[i], picked[j]);
            self.matrix[(row.max(column), row.min(column))]
        });
        let size = self.matrix.nrows();
        let [left, right] = [&self.left, &self.right].map(|waiting| {
            let vectors = waiting.len() / size.max(1);
            Mat::from_fn(picked.len(), vectors, |i, k| waiting[k * size + picked[i]])
        });
        block -= left * right.transpose();
        block
    }

    /// The columns of `picked`.
    pub fn columns(&self, picked: &[usize]) -> Mat<f64> {
        let size = self.matrix.nrows();
        let mut columns = if self.is_whole {
            Mat::from_fn(size, picked.len(), |i, j| self.matrix[(i, picked[j])])
        } else {
            Mat::from_fn(size, picked.len(), |i, j| {
                let column = picked[j];
                self.matrix[(i.max(column), i.min(column))]
            })
        };
        for (j, &column) in picked.iter().enumerate() {
            let target = columns.col_as_slice_mut(j);
            let waiting = self.left.chunks_exact(size);
            for (left, right) in waiting.zip(self.right.chunks_exact(size)) {
                let factor = right[column];
                let pairs = target.iter_mut().zip(left);
                pairs.for_each(|(value, left)| *value -= left * factor);
            }
        }
        columns
    }

    /// Subtracts `left right'`, which is symmetric, or its sum with its transpose where `twice`.
    pub fn subtract(&mut self, left: &Mat<f64>, right: &Mat<f64>, twice: bool) {
        for k in 0..left.ncols() {
            let (left, right) = (left.col_as_slice(k), right.col_as_slice(k));
            self.left.extend_from_slice(left);
            self.right.extend_from_slice(right);
            if twice {
                self.left.extend_from_slice(right);
                self.right.extend_from_slice(left);
            }
        }
        if self.left.len() >= self.together * self.matrix.nrows() {
            self.settle();
        }
    }

    /// Makes a row and its column zero.
    pub fn clear(&mut self, row: usize) {
        let size = self.matrix.nrows();
        for waiting in [&mut self.left, &mut self.right] {
            waiting.iter_mut().skip(row).step_by(size).for_each(zero);
        }
        let below = self.matrix.col_as_slice_mut(row).iter_mut();
        below.for_each(zero);
        let columns = if self.is_whole { size } else { row };
        for column in 0..columns {
            self.matrix[(row, column)] = 0.0;
        }
    }

    /// Sets a row, which is clear, and its column.
    pub fn put(&mut self, row: usize, values: &[f64]) {
        for (other, &value) in values.iter().enumerate() {
            self.matrix[(row.max(other), row.min(other))] = value;
            if self.is_whole {
                self.matrix[(row.min(other), row.max(other))] = value;
            }
        }
    }

    /// Leaves the rows and columns of `picked`.
    pub fn keep(&mut self, picked: &[usize]) {
        self.settle();
        // Ascending or not, what is picked lies below the diagonal on one side of it.
        let mut kept = Mat::zeros(picked.len(), picked.len());
        for (j, &column) in picked.iter().enumerate() {
            for (i, &row) in picked.iter().enumerate().skip(j) {
                kept[(i, j)] = self.matrix[(row.max(column), row.min(column))];
            }
        }
        self.matrix = kept;
        self.is_whole = false;
    }

    /// Multiplies what waits.
    fn settle(&mut self) {
        let size = self.matrix.nrows();
        let waiting = self.left.len() / size.max(1);
        if waiting > 0 {
            let left = MatRef::from_column_major_slice(&self.left, size, waiting);
            let right = MatRef::from_column_major_slice(&self.right, size, waiting);
            let (mut panels, mut rest) = (Vec::new(), self.matrix.as_mut());
            for first in (0..size).step_by(PANEL) {
                let (panel, more) = rest.split_at_col_mut(PANEL.min(size - first));
                panels.push((first, panel));
                rest = more;
            }
            let settle = |(first, panel)| settle_panel(panel, first, left, right);
            if size * size * waiting < DOWNDATE_WORTH_SHARING {
                panels.into_iter().for_each(settle)
            } else {
                panels.into_par_iter().for_each(settle)
            }
        }
        self.left.clear();
        self.right.clear();
        if self.is_whole {
            mirror(&mut self.matrix);
        }
    }
}

/// Subtracts `left right'` from some columns of a lower triangle; `first` is the number of the
/// first of them.
fn settle_panel(
    panel: MatMut<'_, f64>,
    first: usize,
    left: MatRef<'_, f64>,
    right: MatRef<'_, f64>,
) {
    let (size, width) = (panel.nrows(), panel.ncols());
    let (_, below) = panel.split_at_row_mut(first);
    let (top, bottom) = below.split_at_row_mut(width);
    let right = right.subrows(first, width).transpose();
    triangular::matmul(
        top,
        BlockStructure::TriangularLower,
        Accum::Add,
        left.subrows(first, width),
        BlockStructure::Rectangular,
        right,
        BlockStructure::Rectangular,
        -1.0,
        Par::Seq,
    );
    let left = left.subrows(first + width, size - first - width);
    matmul(bottom, Accum::Add, left, right, -1.0, Par::Seq);
}

fn zero(value: &mut f64) {
    *value = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 7;

    fn start() -> Mat<f64> {
        Mat::from_fn(SIZE, SIZE, |i, j| {
            1.0 / (1 + i + j) as f64 + if i == j { 9.0 } else { 0.0 }
        })
    }

    fn vector(k: usize) -> Mat<f64> {
        Mat::from_fn(SIZE, 1, |i, _| ((i * 3 + k * 5) % 7) as f64 / 7.0)
    }

    /// The same steps with and without waiting.
    #[test]
    fn waiting_changes_nothing() {
        for (together, is_whole) in [(1, false), (3, false), (3, true), (4, true), (100, false)] {
            let mut delayed = BlockedDowndate::new(start(), together);
            if is_whole {
                delayed.keep_whole();
            }
            let mut plain = start();
            for k in 0..6 {
                let (left, right) = (vector(k), vector(k + 1));
                if k % 2 == 0 {
                    delayed.subtract(&left, &right, true);
                    plain -= &left * right.transpose() + &right * left.transpose();
                } else {
                    delayed.subtract(&left, &left, false);
                    plain -= &left * left.transpose();
                }
                if k == 3 {
                    delayed.clear(2);
                    for i in 0..SIZE {
                        plain[(i, 2)] = 0.0;
                        plain[(2, i)] = 0.0;
                    }
                }
                let columns = delayed.columns(&[5, 1]);
                let block = delayed.block(&[4, 0, 6]);
                for i in 0..SIZE {
                    assert!((columns[(i, 0)] - plain[(i, 5)]).abs() < 1e-12);
                    assert!((columns[(i, 1)] - plain[(i, 1)]).abs() < 1e-12);
                }
                assert!((block[(0, 2)] - plain[(4, 6)]).abs() < 1e-12);
                let many: Vec<usize> = (0..3 * SIZE).map(|i| (i * 3) % SIZE).collect();
                let block = delayed.block(&many);
                for (i, &row) in many.iter().enumerate() {
                    for (j, &column) in many.iter().enumerate() {
                        assert!((block[(i, j)] - plain[(row, column)]).abs() < 1e-12);
                    }
                }
            }
            delayed.keep(&[0, 3, 6]);
            assert!((delayed.at(1, 2) - plain[(3, 6)]).abs() < 1e-12);
            assert!((delayed.at(2, 1) - plain[(3, 6)]).abs() < 1e-12);
        }
    }

    /// As large as threads share, and no multiple of a panel.
    #[test]
    fn what_waits_is_subtracted_panel_by_panel() {
        let size = 2 * PANEL + 45;
        let together = DOWNDATE_WORTH_SHARING / (size * size) + 1;
        let entry = |i: usize, k: usize| ((i * 7 + k * 13) % 11) as f64 / 11.0;
        let vectors = Mat::from_fn(size, together, entry);
        let start = Mat::<f64>::identity(size, size);
        let mut delayed = BlockedDowndate::new(start.clone(), together);
        delayed.subtract(&vectors, &vectors, false);
        assert!(delayed.left.is_empty(), "nothing waits any more");
        let plain = start - &vectors * vectors.transpose();
        let all: Vec<usize> = (0..size).collect();
        assert!((delayed.block(&all) - plain).norm_max() < 1e-10);
    }
}
