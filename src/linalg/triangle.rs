//! Symmetric matrices of which the lower triangle is stored.

use std::hint::black_box;
use std::io;
use std::ops::Range;

use faer::{Mat, MatRef};

/// A symmetric matrix of which the lower triangle counts.
pub(crate) trait Lower {
    /// A column from the diagonal down.
    fn below(&mut self, column: usize) -> &mut [f64];

    /// Every column from the diagonal down, in order.
    fn all_below(&mut self) -> Vec<&mut [f64]>;
}

impl Lower for Mat<f64> {
    fn below(&mut self, column: usize) -> &mut [f64] {
        let all = self.col_as_slice_mut(column);
        all.get_mut(column..).unwrap_or_default()
    }

    fn all_below(&mut self) -> Vec<&mut [f64]> {
        let columns = self.col_iter_mut().enumerate();
        let below = columns.map(|(column, all)| {
            let all = all.try_as_col_major_mut().map(|all| all.as_slice_mut());
            all.and_then(|all| all.get_mut(column..))
                .unwrap_or_default()
        });
        below.collect()
    }
}

/// The lower triangle of a symmetric matrix, column by column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Triangle {
    size: usize,
    pub values: Vec<f64>,
}

impl Lower for Triangle {
    fn below(&mut self, column: usize) -> &mut [f64] {
        let range = self.range(column);
        self.values.get_mut(range).unwrap_or_default()
    }

    fn all_below(&mut self) -> Vec<&mut [f64]> {
        let (mut rest, mut all) = (self.values.as_mut_slice(), Vec::with_capacity(self.size));
        for length in (1..=self.size).rev() {
            let Some((column, more)) = std::mem::take(&mut rest).split_at_mut_checked(length)
            else {
                break;
            };
            all.push(column);
            rest = more;
        }
        all
    }
}

impl Triangle {
    pub fn new(size: usize) -> Self {
        Triangle {
            size,
            values: vec![0.0; size * (size + 1) / 2],
        }
    }

    /// The same, in memory from here on, for what is added to at once. Pages that a sum reads
    /// before it writes them are mapped twice, and the second time stops the other threads.
    pub fn in_memory(size: usize) -> Self {
        const PAGE: usize = 4096 / size_of::<f64>();
        let mut triangle = Triangle::new(size);
        for value in triangle.values.iter_mut().step_by(PAGE) {
            *value = black_box(0.0);
        }
        triangle
    }

    fn range(&self, column: usize) -> Range<usize> {
        // The columns before it are one element shorter each.
        let first = column * (2 * self.size + 1).saturating_sub(column) / 2;
        first..first + self.size.saturating_sub(column)
    }

    /// A column from the diagonal down.
    pub fn column(&self, column: usize) -> &[f64] {
        self.values.get(self.range(column)).unwrap_or_default()
    }

    /// One element, of either triangle.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.column(i.min(j))[i.abs_diff(j)]
    }

    /// Rows, as many as columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Every column from the diagonal down.
    pub fn columns(&self) -> impl Iterator<Item = &[f64]> {
        let mut rest = self.values.as_slice();
        (0..self.size).rev().map_while(move |below| {
            let (column, more) = rest.split_at_checked(below + 1)?;
            rest = more;
            Some(column)
        })
    }

    /// Adds another of the same size.
    pub fn add(&mut self, more: &Triangle) {
        let pairs = self.values.iter_mut().zip(&more.values);
        pairs.for_each(|(sum, more)| *sum += more);
    }

    /// Adds the lower triangle of a matrix.
    pub fn add_lower(&mut self, more: &Mat<f64>) {
        for column in 0..self.size {
            let pairs = self.below(column).iter_mut();
            let pairs = pairs.zip(&more.col_as_slice(column)[column..]);
            pairs.for_each(|(sum, more)| *sum += more);
        }
    }

    /// Becomes the lower triangle of a matrix.
    pub fn set_lower(&mut self, matrix: &Mat<f64>) {
        self.values.fill(0.0);
        self.add_lower(matrix);
    }

    /// Squared Frobenius norm.
    pub fn squared_norm(&self) -> f64 {
        self.columns().map(norm_of_column).sum()
    }

    /// Adds it to the lower triangle of a matrix.
    pub fn add_to(&self, target: &mut Mat<f64>) {
        for (column, more) in self.columns().enumerate() {
            let pairs = target.below(column).iter_mut().zip(more);
            pairs.for_each(|(sum, more)| *sum += more);
        }
    }

    /// As a matrix with a lower triangle.
    pub fn lower(&self) -> Mat<f64> {
        let mut lower = Mat::zeros(self.size, self.size);
        self.add_to(&mut lower);
        lower
    }
}

/// Shows the lower triangle, column by column.
pub(crate) fn visit_lower(
    matrix: &mut Mat<f64>,
    visit: &mut dyn FnMut(&mut [f64]) -> io::Result<()>,
) -> io::Result<()> {
    (0..matrix.ncols()).try_for_each(|column| visit(matrix.below(column)))
}

/// Squared Frobenius norm of a symmetric matrix of which the lower triangle is stored.
pub(crate) fn squared_norm<T: Copy + Into<f64>>(lower: MatRef<'_, T>) -> f64 {
    let column = |column: usize| -> f64 {
        let below = lower.col(column).get(column..);
        match below.try_as_col_major() {
            Some(below) => norm_of_column(below.as_slice()),
            None => norm_of_column(&below.iter().copied().collect::<Vec<T>>()),
        }
    };
    (0..lower.ncols()).map(column).sum()
}

/// What a column from the diagonal down has in it. Several sums side by side are not held up by
/// each other.
fn norm_of_column<T: Copy + Into<f64>>(below: &[T]) -> f64 {
    let square = |value: &T| (*value).into() * (*value).into();
    let Some((own, below)) = below.split_first() else {
        return 0.0;
    };
    let (together, rest) = below.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for values in together {
        let pairs = sums.iter_mut().zip(values);
        pairs.for_each(|(sum, value)| *sum += square(value));
    }
    let rest: f64 = rest.iter().map(square).sum();
    square(own) + 2.0 * (sums.iter().sum::<f64>() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::mirror;

    /// Larger than a tile of what is mirrored, and no multiple of it.
    const SIZE: usize = 69;

    fn full() -> Mat<f64> {
        Mat::from_fn(SIZE, SIZE, |i, j| (i.max(j) * 100 + i.min(j)) as f64)
    }

    #[test]
    fn mirrored_lower_triangles_are_symmetric() {
        let mut matrix = Mat::from_fn(
            SIZE,
            SIZE,
            |i, j| if i >= j { full()[(i, j)] } else { f64::NAN },
        );
        assert_eq!(squared_norm(matrix.as_ref()), full().squared_norm_l2());
        mirror(&mut matrix);
        assert_eq!(matrix, full());
    }

    #[test]
    fn triangles_hold_the_columns_from_the_diagonal_down() {
        let mut triangle = Triangle::new(SIZE);
        triangle.add_lower(&full());
        for (column, below) in triangle.clone().columns().enumerate() {
            assert_eq!(below, &full().col_as_slice(column)[column..]);
            assert_eq!(below, triangle.below(column));
            assert_eq!(below, triangle.all_below()[column]);
            assert_eq!(below, full().all_below()[column]);
        }
        assert_eq!(triangle.all_below().len(), SIZE);
        let mut lower = triangle.lower();
        mirror(&mut lower);
        assert_eq!(lower, full());
    }
}
