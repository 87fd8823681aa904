//! The MI of a whole row of sets, each in the next, at the cost of one.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::RealField;
use faer::{Accum, Mat, MatRef, Par, Side};

use crate::linalg::{LinalgError, log_determinant};
use crate::linalg::{log_steps, log_steps_and_inverse, lower, lower_gram, mirror};
use crate::mi::Reading;

/// From so many inputs on, factors are made in f32 where that is enough.
const SINGLE_FROM: usize = 512;

/// `I(X_S; Y)` in nats where S has the first w candidates of `order`, with all inputs that are of
/// no candidate and not absent, for every w from 0 on. `order` has every candidate once.
///
/// With the inputs in this order, the Cholesky factor of `Cov(X)` has those of all S at its top
/// left, and that of `inv(Cov(X | Y))`, made from the last input to the first, the inverses of
/// those of `Cov(X_S | Y)`: all determinants are products of its diagonal.
///
/// # Errors
/// The covariance is not positive definite.
pub fn nested(reading: &Reading, order: &[usize]) -> Result<Vec<f64>, LinalgError> {
    let size = reading.covariance.nrows();
    if size == 0 {
        return Ok(vec![0.0; order.len() + 1]);
    }
    let (inputs, ends) = in_order(&reading.candidates, &reading.absent, size, order);
    // Whole columns, so that what is read in another order lies close together.
    let mut whole = reading.covariance.clone();
    mirror(&mut whole);
    let covariance = Mat::from_fn(inputs.len(), inputs.len(), |i, j| {
        whole[(inputs[i], inputs[j])]
    });
    drop(whole);
    let (own, precision) = log_steps_and_inverse(covariance.as_ref())?;
    drop(covariance);
    let last = inputs.len().saturating_sub(1);
    let given_output = Mat::from_fn(inputs.len(), inputs.len(), |i, j| {
        let (i, j) = (last - i, last - j);
        precision[(i, j)] + reading.gram[(inputs[i], inputs[j])] / reading.noise
    });
    let given = log_steps(given_output.as_ref())?;
    let mut information = 0.0;
    let mut all = vec![0.0];
    for (own, given) in own.iter().zip(given.iter().rev()) {
        information += 0.5 * (own + given);
        all.push(information);
    }
    let at = |end: &usize| all.get(*end).copied().unwrap_or(information);
    Ok(ends.iter().map(at).collect())
}

/// As [`nested`] of the first `kept` candidates and of all: two sets only, where a consumer has
/// fewer outputs than inputs and its weights are known. `reading.gram` is not read; `weights` has a
/// column for each input.
///
/// With `K = L L'` and `V = W L`, what `X_S` leaves open of Y has the covariance `V_R V_R' + s I`,
/// of the columns R that come after S: a matrix as wide as the outputs.
///
/// # Errors
/// The covariance is not positive definite.
pub fn pair(
    covariance: MatRef<'_, f64>,
    weights: MatRef<'_, f64>,
    noise: f64,
    (candidates, absent): (&[Vec<usize>], &[usize]),
    (order, kept): (&[usize], usize),
) -> Result<[f64; 2], LinalgError> {
    let size = covariance.nrows();
    let (inputs, ends) = in_order(candidates, absent, size, order);
    let single = (size >= SINGLE_FROM).then(|| single(covariance, weights, &inputs));
    let outputs = match single.flatten() {
        Some(outputs) => outputs,
        None => {
            let ordered = Mat::from_fn(size, size, |i, j| below(covariance, inputs[i], inputs[j]));
            let factor = lower(ordered.as_ref())?;
            let weights = Mat::from_fn(weights.nrows(), size, |i, j| weights[(i, inputs[j])]);
            times_lower(&weights, factor.as_ref())
        }
    };
    let mut open = Mat::<f64>::identity(weights.nrows(), weights.nrows()) * faer::Scale(noise);
    let mut last = size;
    let mut left_open = |first: usize| {
        let columns = outputs.as_ref().subcols(first, last - first);
        open += lower_gram(columns.transpose());
        last = first;
        log_determinant(open.as_ref())
    };
    let at = |candidates: usize| ends.get(candidates).copied().unwrap_or(size);
    let of_all = left_open(at(order.len()))?;
    let of_kept = left_open(at(kept))?;
    let of_none = left_open(0)?;
    Ok([0.5 * (of_none - of_kept), 0.5 * (of_none - of_all)])
}

/// Share of the outputs' variance that the first w candidates of `order`, with all inputs that are
/// of no candidate, leave open, for every w from 0 on. `order` has every candidate once; `weights`,
/// where they are known, has a column for each input and is read in the place of `reading.gram`.
///
/// With `K = L L'` and `V = W L`, it is in the columns of V that come after them.
///
/// # Errors
/// The covariance is not positive definite.
pub fn unexplained(
    reading: &Reading,
    weights: Option<MatRef<'_, f64>>,
    order: &[usize],
) -> Result<Vec<f64>, LinalgError> {
    let size = reading.covariance.nrows();
    let (inputs, ends) = in_order(&reading.candidates, &reading.absent, size, order);
    let ordered = Mat::from_fn(size, size, |i, j| {
        reading.covariance[(inputs[i], inputs[j])]
    });
    let factor = lower(ordered.as_ref())?;
    drop(ordered);
    let left = match weights {
        Some(weights) => Mat::from_fn(weights.nrows(), size, |i, j| weights[(i, inputs[j])]),
        None => Mat::from_fn(size, size, |i, j| reading.gram[(inputs[i], inputs[j])]),
    };
    let made = times_lower(&left, factor.as_ref());
    let own = |j: usize| {
        let column = made.col_as_slice(j).iter();
        let other = match weights {
            Some(_) => made.col_as_slice(j),
            None => factor.col_as_slice(j),
        };
        column.zip(other).map(|(a, b)| a * b).sum::<f64>()
    };
    let mut open = vec![0.0; size + 1];
    for j in (0..size).rev() {
        open[j] = open[j + 1] + own(j);
    }
    let all = open.first().copied().unwrap_or_default();
    let at = |end: &usize| match open.get(*end) {
        Some(open) if all > 0.0 => (open / all).clamp(0.0, 1.0),
        _ => 0.0,
    };
    Ok(ends.iter().map(at).collect())
}

/// `V = W L` of [`pair`] in f32, which takes half the time; `None` where that has too few digits.
/// What is left open is judged beside the noise, which is far above what rounding does.
fn single(
    covariance: MatRef<'_, f64>,
    weights: MatRef<'_, f64>,
    inputs: &[usize],
) -> Option<Mat<f64>> {
    let size = inputs.len();
    let mean = (0..size).map(|i| covariance[(i, i)]).sum::<f64>() / size.max(1) as f64;
    let mut whole = Mat::zeros(size, size);
    for column in 0..size {
        for row in column..size {
            #[allow(clippy::cast_possible_truncation)]
            let value = (covariance[(row, column)] / mean) as f32;
            whole[(row, column)] = value;
        }
    }
    mirror(&mut whole);
    let ordered = Mat::from_fn(size, size, |i, j| whole[(inputs[i], inputs[j])]);
    drop(whole);
    let factor = ordered.llt(Side::Lower).ok()?;
    drop(ordered);
    #[allow(clippy::cast_possible_truncation)]
    let weights = Mat::from_fn(weights.nrows(), size, |i, j| weights[(i, inputs[j])] as f32);
    let outputs = times_lower(&weights, factor.L());
    let outputs = Mat::from_fn(outputs.nrows(), size, |i, j| {
        f64::from(outputs[(i, j)]) * mean.sqrt()
    });
    outputs.norm_max().is_finite().then_some(outputs)
}

/// `left` times a lower triangle.
fn times_lower<T: RealField>(left: &Mat<T>, factor: MatRef<'_, T>) -> Mat<T> {
    let mut product = Mat::zeros(left.nrows(), factor.ncols());
    triangular::matmul(
        &mut product,
        BlockStructure::Rectangular,
        Accum::Replace,
        left,
        BlockStructure::Rectangular,
        factor,
        BlockStructure::TriangularLower,
        T::one_impl(),
        Par::Seq,
    );
    product
}

/// An element of a symmetric matrix of which the lower triangle counts.
fn below(matrix: MatRef<'_, f64>, i: usize, j: usize) -> f64 {
    matrix[(i.max(j), i.min(j))]
}

/// All inputs, those of no candidate first and what is absent last, and how many there are before
/// and after each candidate.
fn in_order(
    candidates: &[Vec<usize>],
    absent: &[usize],
    size: usize,
    order: &[usize],
) -> (Vec<usize>, Vec<usize>) {
    let mut is_placed = vec![false; size];
    for &input in candidates.iter().flatten().chain(absent) {
        if let Some(placed) = is_placed.get_mut(input) {
            *placed = true;
        }
    }
    let mut inputs: Vec<usize> = (0..size).filter(|&input| !is_placed[input]).collect();
    let mut ends = vec![inputs.len()];
    for &candidate in order {
        let own = candidates.get(candidate);
        inputs.extend(own.map(Vec::as_slice).unwrap_or_default());
        ends.push(inputs.len());
    }
    inputs.extend(absent);
    (inputs, ends)
}
