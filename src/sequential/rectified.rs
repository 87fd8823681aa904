//! Fits that know what comes next. Behind most layers stands a function that is constant beyond an
//! end, as Relu is below 0. Where the dense model's value is beyond it, every value beyond it is as
//! good, and a fit that need not reach it has more to give where it matters.
//!
//! With `v` the fitted and `t` the dense value before the function, which passes `lo..=hi`, the fit
//! minimises the sum over all rows of
//!
//! ```text
//! (v - t)^2  where lo < t < hi      max(v - lo, 0)^2  where t <= lo      max(hi - v, 0)^2  where t >= hi
//! ```
//!
//! This is convex and not below the squared error behind the function. It is minimised by majorisation:
//! a target beyond an end is moved to the fitted value, but not across the end, and the least squares
//! fit repeated. Zhang et al. (Accelerating Very Deep Convolutional Networks, 2015, section 3.2) fit
//! through a Relu by a relaxation with a penalty; this form needs none.
//!
//! The moved targets depend on the fit, so sums over all rows do not do: some rows are kept.

use std::ops::{Range, RangeInclusive};

use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::calibrate::tap::Placed;
use crate::graph::{Graph, ValueId};
use crate::ops;
use crate::sequential::regression::{Affine, Equations, Fitted};

/// How often targets move.
const ROUNDS: usize = 3;
/// Rows that are kept for each input of a fit, and at least.
const ROWS_PER_INPUT: usize = 8;
const LEAST_ROWS: usize = 8192;
/// Values that a job keeps at most (128 MiB).
const MOST_VALUES: usize = 1 << 25;
/// With fewer rows for each input there are too few to tell how far targets may move.
const FEWEST_PER_INPUT: usize = 2;

/// A function behind a consumer that is constant beyond an end.
pub(super) struct Rectifier {
    pub passes: RangeInclusive<f64>,
    /// What it reads; `None` where that is the consumer's output.
    pub before: Option<Placed>,
    /// How the output becomes what it reads, channel by channel; `None` where it is the output, or the
    /// sum that the output goes into.
    pub affine: Option<Vec<Affine>>,
}

/// What a rectifier behind a consumer's output reads.
pub(super) struct Behind {
    pub passes: RangeInclusive<f64>,
    pub value: ValueId,
    /// Whether the output is added to something on the way.
    pub through_sum: bool,
}

/// The rectifier that a value goes into alone, perhaps through functions whose being affine is to be
/// seen in the data, and then perhaps through a sum.
pub(super) fn behind(graph: &Graph, value: ValueId) -> Option<Behind> {
    let (mut own, mut through_sum) = (value, false);
    loop {
        let [(reader, _)] = *graph.values[own].readers else {
            return None;
        };
        if graph.values[own].is_output {
            return None;
        }
        let view = graph.view(reader);
        if let Some(passes) = ops::passes(view) {
            let value = own;
            return Some(Behind {
                passes,
                value,
                through_sum,
            });
        }
        let [Some(output)] = *graph.nodes[reader].outputs else {
            return None;
        };
        if through_sum || graph.values[output].shape != graph.values[value].shape {
            return None;
        }
        through_sum = ops::other_summand(view, own).is_some();
        own = output;
    }
}

/// How many of a job's rows are kept.
#[derive(Clone, Copy)]
pub(super) struct Share {
    keep: usize,
    of: usize,
}

impl Share {
    /// For `rows` rows of `inputs` inputs, in blocks of `per_block`.
    pub fn new(rows: usize, inputs: usize, per_block: usize) -> Self {
        let enough = ROWS_PER_INPUT.saturating_mul(per_block).max(LEAST_ROWS);
        let most = MOST_VALUES / inputs.max(1);
        Share {
            keep: enough.min(most).min(rows),
            of: rows.max(1),
        }
    }

    /// Of a batch of so many rows, where so many are kept already.
    pub fn of_batch(self, rows: usize, kept: usize) -> usize {
        let part = rows.saturating_mul(self.keep).div_ceil(self.of);
        part.min(rows).min(self.keep.saturating_sub(kept))
    }
}

/// Rows that are kept, in one piece of memory that is taken with the first of them.
pub(super) struct Rows {
    data: Mat<f32>,
    filled: usize,
}

impl Default for Rows {
    fn default() -> Self {
        Rows {
            data: Mat::new(),
            filled: 0,
        }
    }
}

impl Rows {
    /// Keeps the first `count` rows; of all calls together `share` are kept.
    pub fn push(&mut self, rows: MatRef<'_, f64>, count: usize, share: Share) {
        if self.data.nrows() == 0 {
            self.data = Mat::zeros(share.keep, rows.ncols());
        }
        for j in 0..rows.ncols() {
            let free = self.data.col_as_slice_mut(j).iter_mut().skip(self.filled);
            for (place, i) in free.zip(0..count) {
                #[allow(clippy::cast_possible_truncation)]
                {
                    *place = rows[(i, j)] as f32;
                }
            }
        }
        self.filled += count;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Some rows of a column.
    fn column(&self, j: usize, rows: &Range<usize>) -> &[f32] {
        &self.data.col_as_slice(j)[rows.clone()]
    }
}

/// What is kept of a consumer's targets: a column for each output that stays.
#[derive(Default)]
pub(super) struct Targets {
    /// The dense model's outputs.
    pub output: Rows,
    /// What the other summand lost, if there is one.
    pub lost: Option<Rows>,
    /// What the rectifier reads in the dense model, where that is not the output.
    pub before: Option<Rows>,
}

/// One block of a fit: what `refine` reads.
pub(super) struct Block<'a> {
    pub equations: &'a Equations,
    pub passes: &'a RangeInclusive<f64>,
    /// Per output, the factor from the output to what the rectifier reads; `None` where it is no
    /// affine function.
    pub factors: Vec<Option<f64>>,
    /// Per output, what the lost is multiplied with to be made good.
    pub lost: Vec<f64>,
    /// Place of the block's first output.
    pub first: usize,
    /// Inputs less their shift.
    pub inputs: &'a Rows,
    /// Targets of all blocks.
    pub targets: &'a Targets,
}

/// Rows that are worked on at once.
const PIECE: usize = 512;

/// Sums over rows of how far targets move, and of their products with the inputs.
struct Moved {
    sum: Vec<f64>,
    products: Mat<f64>,
}

impl Block<'_> {
    /// The fit after the targets have moved, from the least squares fit.
    pub fn refine(&self, fitted: Fitted) -> Fitted {
        let rows = self.inputs.len();
        if rows < FEWEST_PER_INPUT * fitted.0.ncols() || rows == 0 {
            return fitted;
        }
        let mean = |j| {
            let column = self.inputs.column(j, &(0..rows));
            column.iter().copied().map(f64::from).sum::<f64>() / rows as f64
        };
        let mean: Vec<f64> = (0..fitted.0.ncols()).map(mean).collect();
        (0..ROUNDS).fold(fitted, |fitted, _| {
            let (sum, products) = self.moved(&fitted);
            let moved: Vec<f64> = sum.iter().map(|sum| sum / rows as f64).collect();
            let covariance = Mat::from_fn(products.nrows(), products.ncols(), |i, j| {
                products[(i, j)] / rows as f64 - moved[i] * mean[j]
            });
            self.equations.solve(Some((&moved, &covariance)))
        })
    }

    /// Sums over all rows, added in the same order whatever the number of threads.
    fn moved(&self, fitted: &Fitted) -> (Vec<f64>, Mat<f64>) {
        #[allow(clippy::cast_possible_truncation)]
        let weight = Mat::from_fn(fitted.0.ncols(), fitted.0.nrows(), |i, j| {
            (self.equations.gain() * fitted.0[(j, i)]) as f32
        });
        let about = self.equations.outputs_at_shift(fitted);
        let rows = self.inputs.len();
        let pieces = (0..rows.div_ceil(PIECE)).into_par_iter();
        let parts: Vec<Moved> = pieces
            .map(|piece| piece * PIECE..rows.min((piece + 1) * PIECE))
            .map(|rows| self.moved_in(rows, &weight, &about))
            .collect();
        let zero = Mat::zeros(fitted.0.nrows(), fitted.0.ncols());
        let mut all = (vec![0.0; fitted.0.nrows()], zero);
        for part in parts {
            all.0.iter_mut().zip(part.sum).for_each(|(a, b)| *a += b);
            all.1 += part.products;
        }
        all
    }

    fn moved_in(&self, rows: Range<usize>, weight: &Mat<f32>, about: &[f64]) -> Moved {
        let (low, high) = (*self.passes.start(), *self.passes.end());
        let inputs = self.inputs.data.subrows(rows.start, rows.len());
        let mut values = inputs * weight;
        let mut sum = vec![0.0; values.ncols()];
        for (j, sum) in sum.iter_mut().enumerate() {
            let column = values.col_as_slice_mut(j);
            let Some(factor) = self.factors[j] else {
                column.fill(0.0);
                continue;
            };
            let place = self.first + j;
            let Targets {
                output,
                lost,
                before,
            } = self.targets;
            let before = before.as_ref().unwrap_or(output).column(place, &rows);
            let output = output.column(place, &rows);
            let lost = lost.as_ref().map(|lost| lost.column(place, &rows));
            for (i, value) in column.iter_mut().enumerate() {
                let lost = lost.map_or(0.0, |lost| f64::from(lost[i]) * self.lost[j]);
                let wanted = f64::from(output[i]) + lost;
                let dense = f64::from(before[i]);
                let fitted = dense + factor * (f64::from(*value) + about[j] - wanted);
                let goal = if dense <= low {
                    fitted.min(low)
                } else if dense >= high {
                    fitted.max(high)
                } else {
                    dense
                };
                let by = (goal - dense) / factor;
                *sum += by;
                #[allow(clippy::cast_possible_truncation)]
                {
                    *value = by as f32;
                }
            }
        }
        let products = values.transpose() * inputs;
        let products = Mat::from_fn(products.nrows(), products.ncols(), |i, j| {
            f64::from(products[(i, j)])
        });
        Moved { sum, products }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::calibrate::Moments;
    use crate::sequential::regression::{Aim, Cross};

    const ROWS: usize = 600;

    /// One input, and an output that is no affine function of it.
    fn row(i: usize) -> (f64, f64) {
        let x = (i * 7 % ROWS) as f64 / 100.0;
        (x, x * x - 8.0 + (9.0 * x).sin())
    }

    fn equations(gain: f64) -> Equations {
        let column = |f: &dyn Fn(usize) -> f64| Mat::from_fn(ROWS, 1, |i, _| f(i));
        let (mut inputs, mut outputs) = (Moments::new(1), Cross::new(1, 1));
        let centred = inputs.add(column(&|i| row(i).0), ROWS);
        outputs.add(column(&|i| row(i).1), centred.as_ref());
        let aim = Aim {
            outputs: &outputs,
            lost: None,
            gain,
        };
        let equations = Equations::new(&inputs, &aim, Mat::zeros(1, 1));
        equations.unwrap().unwrap()
    }

    /// The fit after `rounds` calls, as slope and intercept. The rectifier reads `factor` times the
    /// output.
    fn fitted(passes: &RangeInclusive<f64>, factor: f64, gain: f64, rounds: usize) -> (f64, f64) {
        let equations = equations(gain);
        // The shift of the inputs is their mean, as all came in one call.
        let mean = (0..ROWS).map(|i| row(i).0).sum::<f64>() / ROWS as f64;
        let kept = |f: &dyn Fn(usize) -> f64| {
            let mut rows = Rows::default();
            let all = Mat::from_fn(ROWS, 1, |i, _| f(i));
            // In two calls, as of two batches.
            let halves = all.as_ref().split_at_row(ROWS / 3);
            for half in [halves.0, halves.1] {
                rows.push(half, half.nrows(), Share::new(ROWS, 1, 1));
            }
            rows
        };
        let inputs = kept(&|i| row(i).0 - mean);
        let targets = Targets {
            output: kept(&|i| row(i).1),
            lost: None,
            before: Some(kept(&|i| factor * row(i).1)),
        };
        let block = Block {
            equations: &equations,
            passes,
            factors: vec![Some(factor)],
            lost: vec![0.0],
            first: 0,
            inputs: &inputs,
            targets: &targets,
        };
        let start = equations.solve(None);
        let (weight, shift) = (0..rounds).fold(start, |fit, _| block.refine(fit));
        (gain * weight[(0, 0)], gain * shift[0])
    }

    /// The sum of the module's head, written down a second time.
    fn loss(passes: &RangeInclusive<f64>, factor: f64, (slope, intercept): (f64, f64)) -> f64 {
        let of_row = |i| {
            let (x, t) = row(i);
            let (t, v) = (factor * t, factor * (slope * x + intercept));
            let error = if t <= *passes.start() {
                (v - passes.start()).max(0.0)
            } else if t >= *passes.end() {
                (passes.end() - v).max(0.0)
            } else {
                v - t
            };
            error * error
        };
        (0..ROWS).map(of_row).sum()
    }

    /// The least loss, by a pattern search.
    fn least(passes: &RangeInclusive<f64>, factor: f64) -> f64 {
        let (mut best, mut step) = ((0.0, 0.0), 4.0);
        let mut found = loss(passes, factor, best);
        while step > 1e-7 {
            let tries = [
                (1.0, 0.0),
                (-1.0, 0.0),
                (0.0, 1.0),
                (0.0, -1.0),
                (1.0, -3.0),
                (-1.0, 3.0),
            ];
            let next = tries.map(|(a, b)| (best.0 + step * a, best.1 + step * b));
            match next
                .into_iter()
                .find(|&at| loss(passes, factor, at) < found)
            {
                Some(at) => (best, found) = (at, loss(passes, factor, at)),
                None => step /= 2.0,
            }
        }
        found
    }

    #[test]
    fn the_convex_loss_is_minimised() {
        for (passes, factor, gain) in [
            (0.0..=f64::INFINITY, 1.0, 1.0),
            (0.0..=f64::INFINITY, -2.0, 0.5),
            (0.0..=6.0, 1.0, 1.0),
            (-3.0..=f64::INFINITY, 0.5, 2.0),
        ] {
            let squares = loss(&passes, factor, fitted(&passes, factor, gain, 0));
            let once = loss(&passes, factor, fitted(&passes, factor, gain, 1));
            let many = loss(&passes, factor, fitted(&passes, factor, gain, 200));
            let least = least(&passes, factor);
            assert!(once < 0.9 * squares, "{passes:?}: {squares} then {once}");
            assert!(
                many <= least * 1.001 && many >= least * 0.999,
                "{passes:?}: {many}, the least is {least}"
            );
        }
    }

    #[test]
    fn a_fit_within_the_ends_stays_least_squares() {
        let passes = -1e6..=1e6;
        let (moved, still) = (fitted(&passes, 1.0, 1.0, 3), fitted(&passes, 1.0, 1.0, 0));
        assert!((moved.0 - still.0).abs() < 1e-9 && (moved.1 - still.1).abs() < 1e-9);
    }

    #[test]
    fn a_share_of_each_batch_is_kept() {
        let share = Share::new(1_000_000, 100, 100);
        assert_eq!(share.of_batch(1000, 0), 9);
        // Rounded up, the batches together would be more than is kept.
        assert_eq!(share.of_batch(1000, LEAST_ROWS - 3), 3);
        let few = Share::new(1000, 100, 100);
        assert_eq!(few.of_batch(100, 0), 100);
        // 128 MiB at most.
        let wide = Share::new(1_000_000, 10_000, 10_000);
        assert!(wide.of_batch(1_000_000, 0) * 10_000 * 4 <= 1 << 27);
    }
}
