//! Sums of products of many columns. They take most of the time of a run, so those of one batch are summed in
//! f32, which takes half of it, and only the batches in f64.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

/// Of fewer inputs products take next to no time, and stay in f64.
const LEAST_INPUTS: usize = 512;
/// No more rows than this are summed in f32.
const MOST_ROWS: usize = 4096;
/// Sums in f32 say nothing about variances below this share of the mean variance.
const RESOLUTION: f64 = 1e-5;

/// The shrinkage that covers what the sums of so many inputs round off.
pub(crate) fn least_shrinkage(inputs: usize) -> f64 {
    match inputs {
        LEAST_INPUTS.. => RESOLUTION,
        _ => 0.0,
    }
}

/// A lower triangle.
pub(crate) enum Lower<'a> {
    Single(&'a Mat<f32>),
    Double(&'a Mat<f64>),
}

/// Adds the lower triangle of `rows' rows`.
pub(crate) fn add_lower(target: &mut Mat<f64>, all: MatRef<'_, f64>) {
    if all.ncols() < LEAST_INPUTS {
        return super::moments::product(target, Accum::Add, all);
    }
    lowers(all, all.ncols(), |sum| match sum {
        Lower::Single(sum) => add(target, sum, |column| column),
        Lower::Double(sum) => super::moments::add_lower(target, sum),
    });
}

/// Shows lower triangles that together are that of `rows' rows`; in f32 where these are of `inputs`.
pub(crate) fn lowers(all: MatRef<'_, f64>, inputs: usize, mut show: impl FnMut(Lower<'_>)) {
    let exact = |rows: MatRef<'_, f64>| {
        let mut sum = Mat::zeros(all.ncols(), all.ncols());
        super::moments::product(&mut sum, Accum::Replace, rows);
        sum
    };
    if inputs < LEAST_INPUTS {
        return show(Lower::Double(&exact(all)));
    }
    let mut sum = Mat::<f32>::zeros(all.ncols(), all.ncols());
    for part in parts(all.nrows()) {
        let rows = rounded(all, part);
        triangular::matmul(
            &mut sum,
            BlockStructure::TriangularLower,
            Accum::Replace,
            rows.transpose(),
            BlockStructure::Rectangular,
            &rows,
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
        match is_finite(&sum) {
            true => show(Lower::Single(&sum)),
            false => show(Lower::Double(&exact(part_of(all, part)))),
        }
    }
}

/// Adds `left' right`, of which `right` has the inputs.
pub(crate) fn add_cross(target: &mut Mat<f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    if right.ncols() < LEAST_INPUTS {
        let (left, one) = (left.transpose(), 1.0);
        return matmul(target, Accum::Add, left, right, one, Par::Seq);
    }
    let mut sum = Mat::<f32>::zeros(left.ncols(), right.ncols());
    for part in parts(left.nrows()) {
        let whole = [left, right].map(|rows| part_of(rows, part));
        let [left, right] = [left, right].map(|rows| rounded(rows, part));
        matmul(
            &mut sum,
            Accum::Replace,
            left.transpose(),
            &right,
            1.0,
            Par::Seq,
        );
        if !is_finite(&sum) {
            let [left, right] = whole;
            matmul(
                target.as_mut(),
                Accum::Add,
                left.transpose(),
                right,
                1.0,
                Par::Seq,
            );
            continue;
        }
        add(target, &sum, |_| 0);
    }
}

/// First rows and lengths of the parts that are summed in f32.
fn parts(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = (0..rows).step_by(MOST_ROWS);
    first.map(move |first| (first, MOST_ROWS.min(rows - first)))
}

fn part_of(rows: MatRef<'_, f64>, (first, count): (usize, usize)) -> MatRef<'_, f64> {
    rows.subrows(first, count)
}

/// Whether no sum was too large for f32.
fn is_finite(sum: &Mat<f32>) -> bool {
    (0..sum.ncols()).all(|column| sum.col_as_slice(column).iter().all(|s| s.is_finite()))
}

#[allow(clippy::cast_possible_truncation)]
fn rounded(rows: MatRef<'_, f64>, (first, count): (usize, usize)) -> Mat<f32> {
    Mat::from_fn(count, rows.ncols(), |i, j| rows[(first + i, j)] as f32)
}

/// Adds every column from the row that `from` says on.
fn add(target: &mut Mat<f64>, sum: &Mat<f32>, from: impl Fn(usize) -> usize) {
    for column in 0..target.ncols() {
        let pairs = target.col_as_slice_mut(column).iter_mut();
        let pairs = pairs.zip(sum.col_as_slice(column)).skip(from(column));
        pairs.for_each(|(sum, &more)| *sum += f64::from(more));
    }
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
        add_lower(&mut found, inputs.as_ref());
        let exact = inputs.transpose() * &inputs;
        let scale = |j: usize| exact[(j, j)].sqrt();
        for j in 0..LEAST_INPUTS {
            for i in j..LEAST_INPUTS {
                let error = (found[(i, j)] - exact[(i, j)]) / scale(i) / scale(j);
                assert!(error.abs() < RESOLUTION / 10.0, "{error} at {i}, {j}");
            }
        }
        let mut found = Mat::zeros(3, LEAST_INPUTS);
        add_cross(&mut found, targets.as_ref(), inputs.as_ref());
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
        add_lower(&mut found, inputs.as_ref());
        let exact = inputs.transpose() * &inputs;
        assert!((found[(9, 4)] / exact[(9, 4)] - 1.0).abs() < 1e-12);
        let mut found = Mat::zeros(2, LEAST_INPUTS);
        add_cross(&mut found, targets.as_ref(), inputs.as_ref());
        let exact = targets.transpose() * &inputs;
        assert!((found[(1, 5)] / exact[(1, 5)] - 1.0).abs() < 1e-12);
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
