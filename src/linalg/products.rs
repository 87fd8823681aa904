//! Sums of products of many columns. They take most of the time of a run, so those of one batch are
//! summed in f32, which takes half of it, and only the batches in f64.

use std::borrow::Cow;
use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::ComplexField;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::linalg::triangle::{Lower, squared_norm};
use crate::linalg::tuning::{PANEL, WORTH_SHARING};

/// Of fewer inputs products take next to no time, and stay in f64.
const LEAST_INPUTS: usize = 512;
/// No more rows than this are summed in f32.
const MOST_ROWS: usize = 4096;
/// Sums in f32 say nothing about variances below this share of the mean variance.
const RESOLUTION: f64 = 1e-5;
/// Rows with larger elements have sums that f32 cannot hold.
const LARGEST: f64 = 1e16;

/// The shrinkage that covers what the sums of so many inputs round off.
pub(crate) fn least_shrinkage(inputs: usize) -> f64 {
    match inputs {
        LEAST_INPUTS.. => RESOLUTION,
        _ => 0.0,
    }
}

/// Rows as their products are summed: in f32 of many inputs.
pub(crate) enum Rows<'a> {
    Single(Mat<f32>),
    Double(Cow<'a, Mat<f64>>),
}

impl<'a> Rows<'a> {
    pub fn new(rows: &'a Mat<f64>) -> Self {
        if is_single(rows.ncols()) && fits(rows) {
            Rows::Single(rounded(rows.as_ref(), (0, rows.nrows())))
        } else {
            Rows::Double(Cow::Borrowed(rows))
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Rows::Single(rows) => rows.nrows(),
            Rows::Double(rows) => rows.nrows(),
        }
    }

    /// Number of columns.
    pub fn inputs(&self) -> usize {
        match self {
            Rows::Single(rows) => rows.ncols(),
            Rows::Double(rows) => rows.ncols(),
        }
    }

    /// Sum of a column over some of the rows.
    pub fn sum(&self, column: usize, rows: Range<usize>) -> f64 {
        match self {
            Rows::Single(all) => sum(&all.col_as_slice(column)[rows]),
            Rows::Double(all) => sum(&all.col_as_slice(column)[rows]),
        }
    }

    /// The same in f64, of which there is a copy at most.
    pub fn exact(&self) -> Cow<'_, Mat<f64>> {
        match self {
            Rows::Single(rows) => Cow::Owned(exact(rows)),
            Rows::Double(rows) => Cow::Borrowed(rows),
        }
    }

    /// The rows of some samples with a column for each channel: the kernel positions come below
    /// each other.
    pub fn stacked(&self, samples: &[usize], per_sample: usize, kernel: usize) -> Rows<'static> {
        match self {
            Rows::Single(rows) => Rows::Single(stacked(rows, samples, per_sample, kernel)),
            Rows::Double(rows) => {
                Rows::Double(Cow::Owned(stacked(rows, samples, per_sample, kernel)))
            }
        }
    }

    /// Adds the lower triangle of the products of some of the rows.
    pub fn add_lower(&self, rows: Range<usize>, target: &mut impl Lower) {
        for (first, count) in parts(rows.len()) {
            let first = rows.start + first;
            match self {
                Rows::Single(all) => add_panels(all.as_ref().subrows(first, count), target),
                Rows::Double(all) => {
                    add_panels(all.as_ref().as_ref().subrows(first, count), target)
                }
            }
        }
    }

    /// Adds the lower triangle of the products of all rows.
    pub fn add_all(&self, target: &mut impl Lower) {
        self.add_lower(0..self.count(), target);
    }

    /// The squared Frobenius norm of the products of some of the rows with each other, which is
    /// that of the products of the columns over these rows.
    pub fn squared_norm(&self, rows: Range<usize>) -> f64 {
        match self {
            Rows::Single(all) => inner_norm(all.as_ref().subrows(rows.start, rows.len())),
            Rows::Double(all) => inner_norm(all.as_ref().as_ref().subrows(rows.start, rows.len())),
        }
    }
}

/// Whether the products of so many inputs are summed in f32.
pub(crate) fn is_single(inputs: usize) -> bool {
    inputs >= LEAST_INPUTS
}

/// Whether the sums of such rows fit into f32.
pub(crate) fn fits<T: Copy + Into<f64>>(rows: &Mat<T>) -> bool {
    (0..rows.ncols()).all(|column| {
        let values = rows.col_as_slice(column).iter();
        values.fold(true, |fit, &value| fit & (value.into().abs() < LARGEST))
    })
}

/// Whether products of such values fit into f32.
pub(crate) fn is_small(value: f32) -> bool {
    f64::from(value).abs() < LARGEST
}

/// Adds the lower triangle of `rows' rows`.
pub(crate) fn add_rows<T: ComplexField + Copy + Into<f64>>(
    rows: MatRef<'_, T>,
    target: &mut impl Lower,
) {
    for (first, count) in parts(rows.nrows()) {
        add_panels(rows.subrows(first, count), target);
    }
}

/// Adds `left' right`.
pub(crate) fn add_pairs<T: ComplexField + Copy + Into<f64>>(
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    target: &mut Mat<f64>,
) {
    let (height, size) = (left.ncols(), right.ncols());
    let mut room = vec![T::zero_impl(); height * PANEL.min(size)];
    for (first, count) in parts(left.nrows()) {
        let [left, right] = [left, right].map(|rows| rows.subrows(first, count));
        for first in (0..size).step_by(PANEL) {
            let width = PANEL.min(size - first);
            let (sums, _) = room.split_at_mut(height * width);
            let panel = MatMut::from_column_major_slice_mut(sums, height, width);
            let right = right.subcols(first, width);
            let (left, one) = (left.transpose(), T::one_impl());
            matmul(panel, Accum::Replace, left, right, one, Par::Seq);
            for (column, sums) in sums.chunks_exact(height.max(1)).enumerate() {
                let pairs = target.col_as_slice_mut(first + column).iter_mut().zip(sums);
                pairs.for_each(|(sum, &more)| *sum += more.into());
            }
        }
    }
}

/// The lower triangle of the products of the rows with each other.
pub(crate) fn of_rows<T: ComplexField>(rows: MatRef<'_, T>) -> Mat<T> {
    let mut products = Mat::zeros(rows.nrows(), rows.nrows());
    lower(products.as_mut(), rows, rows.transpose());
    products
}

/// Rows in f64.
pub(crate) fn exact(rows: &Mat<f32>) -> Mat<f64> {
    let mut exact = Mat::zeros(rows.nrows(), rows.ncols());
    for column in 0..rows.ncols() {
        let pairs = exact.col_as_slice_mut(column).iter_mut();
        let pairs = pairs.zip(rows.col_as_slice(column));
        pairs.for_each(|(to, &from)| *to = f64::from(from));
    }
    exact
}

/// Sum of many values, in eight sums that do not wait for each other.
pub(crate) fn sum<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        let pairs = sums.iter_mut().zip(eight);
        pairs.for_each(|(sum, &value)| *sum += value.into());
    }
    let rest = rest.iter().map(|&value| value.into());
    sums.into_iter().chain(rest).sum()
}

/// Adds the lower triangle of `rows' rows`, some columns at a time.
fn add_panels<T: ComplexField + Copy + Into<f64>>(rows: MatRef<'_, T>, target: &mut impl Lower) {
    let mut columns = target.all_below();
    columns.truncate(rows.ncols());
    let work = rows.nrows() * columns.len() * columns.len();
    panels(&mut columns, work, |first, panel, room| {
        add_panel(rows, first, panel, room);
    });
}

/// Calls `add` with the number of the first of some columns, these, and room for their products,
/// until it has seen all; more threads share what takes that many multiply-accumulates.
fn panels<T: Send>(
    columns: &mut [&mut [f64]],
    work: usize,
    add: impl Fn(usize, &mut [&mut [f64]], &mut Vec<T>) + Send + Sync,
) {
    if work < WORTH_SHARING {
        let mut room = Vec::new();
        let panels = columns.chunks_mut(PANEL).enumerate();
        return panels.for_each(|(at, panel)| add(at * PANEL, panel, &mut room));
    }
    let panels = columns.par_chunks_mut(PANEL).enumerate();
    panels.for_each_init(Vec::new, |room, (at, panel)| add(at * PANEL, panel, room));
}

/// Adds to some columns, from the diagonal down; `room` is for their products.
fn add_panel<T: ComplexField + Copy + Into<f64>>(
    rows: MatRef<'_, T>,
    first: usize,
    columns: &mut [&mut [f64]],
    room: &mut Vec<T>,
) {
    let (height, width) = (rows.ncols() - first, columns.len());
    room.resize((height * width).max(room.len()), T::zero_impl());
    let (sums, _) = room.split_at_mut(height * width);
    let mut panel = MatMut::from_column_major_slice_mut(sums, height, width);
    let right = rows.subcols(first, width);
    let (top, bottom) = panel.as_mut().split_at_row_mut(width);
    lower(top, right.transpose(), right);
    let left = rows.subcols(first + width, height - width).transpose();
    matmul(bottom, Accum::Replace, left, right, T::one_impl(), Par::Seq);
    for (column, (below, sums)) in columns
        .iter_mut()
        .zip(sums.chunks_exact(height))
        .enumerate()
    {
        // A slice, since what an iterator skips keeps the loop from running eight at a time.
        let pairs = below.iter_mut().zip(sums.get(column..).unwrap_or_default());
        pairs.for_each(|(sum, &more)| *sum += more.into());
    }
}

/// The lower triangle of a product.
fn lower<T: ComplexField>(target: MatMut<'_, T>, left: MatRef<'_, T>, right: MatRef<'_, T>) {
    triangular::matmul(
        target,
        BlockStructure::TriangularLower,
        Accum::Replace,
        left,
        BlockStructure::Rectangular,
        right,
        BlockStructure::Rectangular,
        T::one_impl(),
        Par::Seq,
    );
}

fn inner_norm<T: ComplexField + Copy + Into<f64>>(rows: MatRef<'_, T>) -> f64 {
    squared_norm(of_rows(rows).as_ref())
}

fn stacked<T: ComplexField + Copy>(
    data: &Mat<T>,
    samples: &[usize],
    per_sample: usize,
    kernel: usize,
) -> Mat<T> {
    let rows = samples.len() * per_sample;
    let mut stacked = Mat::zeros(rows * kernel, data.ncols() / kernel);
    // Whole channels only.
    for input in 0..data.ncols() / kernel * kernel {
        let from = data.col_as_slice(input);
        let target = stacked.col_as_slice_mut(input / kernel);
        let target = target.chunks_exact_mut(rows.max(1)).nth(input % kernel);
        let parts = target
            .into_iter()
            .flat_map(|target| target.chunks_exact_mut(per_sample.max(1)));
        for (target, sample) in parts.zip(samples) {
            let Some(from) = from.get(sample * per_sample..(sample + 1) * per_sample) else {
                continue;
            };
            target.copy_from_slice(from);
        }
    }
    stacked
}

/// Adds `left' right`, of which `right` has the inputs.
pub(crate) fn add_cross(target: &mut Mat<f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    matmul(target, Accum::Add, left.transpose(), right, 1.0, Par::Seq);
}

/// The same of rows whose products are summed in f32.
pub(crate) fn add_cross_single(target: &mut Mat<f64>, left: &Mat<f32>, right: &Mat<f32>) {
    let height = left.ncols();
    let mut columns: Vec<&mut [f64]> = target
        .col_iter_mut()
        .filter_map(|column| Some(column.try_as_col_major_mut()?.as_slice_mut()))
        .collect();
    columns.truncate(right.ncols());
    for (first, count) in parts(left.nrows()) {
        let [left, right] = [left, right].map(|rows| rows.as_ref().subrows(first, count));
        let work = count * height * columns.len();
        panels(&mut columns, work, |at, panel, room: &mut Vec<f32>| {
            let right = right.subcols(at, panel.len());
            room.resize((height * panel.len()).max(room.len()), 0.0);
            let (sums, _) = room.split_at_mut(height * panel.len());
            let sum = MatMut::from_column_major_slice_mut(sums, height, panel.len());
            matmul(sum, Accum::Replace, left.transpose(), right, 1.0, Par::Seq);
            if sums.iter().all(|sum| sum.is_finite()) {
                for (column, sums) in panel.iter_mut().zip(sums.chunks_exact(height.max(1))) {
                    let pairs = column.iter_mut().zip(sums);
                    pairs.for_each(|(sum, &more)| *sum += f64::from(more));
                }
                return;
            }
            let [left, right] = [left, right].map(|rows| exact(&rows.to_owned()));
            let products = left.transpose() * right;
            for (column, more) in panel.iter_mut().zip(products.col_iter()) {
                let pairs = column.iter_mut().zip(more.iter());
                pairs.for_each(|(sum, &more)| *sum += more);
            }
        });
    }
}

/// First rows and lengths of the parts that are summed in f32.
fn parts(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = (0..rows).step_by(MOST_ROWS);
    first.map(move |first| (first, MOST_ROWS.min(rows - first)))
}

#[allow(clippy::cast_possible_truncation)]
pub(crate) fn rounded(rows: MatRef<'_, f64>, (first, count): (usize, usize)) -> Mat<f32> {
    let mut rounded = Mat::zeros(count, rows.ncols());
    for column in 0..rows.ncols() {
        let from = rows.col(column).subrows(first, count).iter();
        let to = rounded.col_as_slice_mut(column).iter_mut();
        to.zip(from).for_each(|(to, &from)| *to = from as f32);
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn many_inputs_lose_a_few_digits_only() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut rows = |count: usize| {
            Mat::from_fn(2 * MOST_ROWS + 3, count, |_, j| {
                (j % 5 + 1) as f64 * (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.4)
            })
        };
        let (inputs, targets) = (rows(LEAST_INPUTS), rows(3));
        let mut found = Mat::zeros(LEAST_INPUTS, LEAST_INPUTS);
        Rows::new(&inputs).add_all(&mut found);
        let exact = inputs.transpose() * &inputs;
        let scale = |j: usize| exact[(j, j)].sqrt();
        for j in 0..LEAST_INPUTS {
            for i in j..LEAST_INPUTS {
                let error = (found[(i, j)] - exact[(i, j)]) / scale(i) / scale(j);
                assert!(error.abs() < RESOLUTION / 10.0, "{error} at {i}, {j}");
            }
        }
        let mut found = Mat::zeros(3, LEAST_INPUTS);
        let [single, right] = [&targets, &inputs].map(|m| rounded(m.as_ref(), (0, m.nrows())));
        add_cross_single(&mut found, &single, &right);
        let exact = targets.transpose() * &inputs;
        for j in 0..LEAST_INPUTS {
            for i in 0..3 {
                let scale = scale(j)
                    * targets
                        .col_as_slice(i)
                        .iter()
                        .map(|t| t * t)
                        .sum::<f64>()
                        .sqrt();
                let error = (found[(i, j)] - exact[(i, j)]) / scale;
                assert!(error.abs() < RESOLUTION / 10.0, "{error} at {i}, {j}");
            }
        }
    }

    #[test]
    fn sums_too_large_for_f32_are_made_in_f64() {
        let rows = |count: usize| Mat::from_fn(3, count, |i, j| 1e20 * (1.0 + (i * j % 7) as f64));
        let (inputs, targets) = (rows(LEAST_INPUTS), rows(2));
        let mut found = Mat::zeros(LEAST_INPUTS, LEAST_INPUTS);
        Rows::new(&inputs).add_all(&mut found);
        let exact = inputs.transpose() * &inputs;
        assert!((found[(9, 4)] / exact[(9, 4)] - 1.0).abs() < 1e-12);
        let mut found = Mat::zeros(2, LEAST_INPUTS);
        let [single, right] = [&targets, &inputs].map(|m| rounded(m.as_ref(), (0, m.nrows())));
        add_cross_single(&mut found, &single, &right);
        let exact = targets.transpose() * &inputs;
        assert!((found[(1, 5)] / exact[(1, 5)] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn few_inputs_lose_none() {
        let inputs = Mat::from_fn(3, 2, |i, j| 1.0 + 1e-12 * (i + 2 * j) as f64);
        let mut found = Mat::zeros(2, 2);
        add_cross(&mut found, inputs.as_ref(), inputs.as_ref());
        let exact = inputs.transpose() * &inputs;
        assert!((found[(1, 0)] - exact[(1, 0)]).abs() < 1e-15);
    }
}
