//! Fits that know what comes next. Behind most layers stands a function that is constant beyond an
//! end, as Relu is below 0. Where the dense model's value is beyond it, every value beyond it is as
//! good, and a fit that need not reach it has more to give where it matters.
//!
//! With `v` the fitted and `t` the dense value before the function, which passes `lo..=hi`, the fit
//! minimises the sum over all rows of
//!
//! ```text
//! (v - t)^2         where lo < t < hi
//! max(v - lo, 0)^2  where t <= lo
//! max(hi - v, 0)^2  where t >= hi
//! ```
//!
//! This is convex and not below the squared error behind the function. It is minimised by
//! majorisation: a target beyond an end is moved to the fitted value, but not across the end, and
//! the least squares fit repeated. Zhang et al. (Accelerating Very Deep Convolutional Networks,
//! 2015, section 3.2) fit through a Relu by a relaxation with a penalty; this form needs none.
//!
//! The moved targets depend on the fit, so sums over all rows do not do: some rows are kept.

use std::ops::{Range, RangeInclusive};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use crate::graph::ValueId;
use crate::linalg::products;
use crate::ops;
use crate::repair::sequential::onward::Onward;
use crate::repair::sequential::regression::{Affine, Centred, Equations, Fitted};
use crate::taps::Placed;

/// How often targets move.
const ROUNDS: usize = 2;
/// Values that a job keeps at most (128 MiB).
const MOST_VALUES: usize = 1 << 25;
/// With fewer rows for each input there are too few to tell how far targets may move.
const FEWEST_PER_INPUT: usize = 2;

/// A function behind a consumer that is constant beyond an end.
pub(super) struct Rectifier {
    pub passes: RangeInclusive<f64>,
    /// What it reads.
    pub before: Before,
    /// How the output becomes what it reads, channel by channel; `None` where it is the output, or
    /// the sum that the output goes into.
    pub affine: Option<Vec<Affine>>,
}

/// What a rectifier reads in the dense model.
pub(super) enum Before {
    /// The consumer's output.
    Output,
    /// The sum that the output goes into.
    Sum,
    /// Something else.
    Other(Box<Placed>),
}

/// What a rectifier behind a consumer's output reads.
pub(super) struct Behind {
    pub passes: RangeInclusive<f64>,
    pub value: ValueId,
    /// Whether the output is added to something on the way.
    pub through_sum: bool,
}

/// The rectifier that a value goes into alone, perhaps through functions whose being affine is to
/// be seen in the data, and then perhaps through a sum.
pub(super) fn behind(onward: Onward<'_>, value: ValueId) -> Option<Behind> {
    let (mut own, mut through_sum) = (value, false);
    loop {
        let view = onward.graph.view(onward.reader(own)?);
        if let Some(passes) = ops::of(view.node).passes(view) {
            let value = own;
            return Some(Behind {
                passes,
                value,
                through_sum,
            });
        }
        if through_sum {
            return None;
        }
        through_sum = ops::of(view.node).other_summand(view, own).is_some();
        own = onward.next(own)?;
    }
}

/// How many of a job's rows are kept.
#[derive(Clone, Copy)]
pub(super) struct Share {
    keep: usize,
    of: usize,
}

impl Share {
    /// Of `rows` rows of `inputs` inputs.
    pub fn new(rows: usize, inputs: usize) -> Self {
        Share {
            keep: rows.min(MOST_VALUES / inputs.max(1)),
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
pub(super) struct KeptRows {
    data: Mat<f32>,
    filled: usize,
}

impl Default for KeptRows {
    fn default() -> Self {
        KeptRows {
            data: Mat::new(),
            filled: 0,
        }
    }
}

impl KeptRows {
    /// Keeps the first `count` rows; of all calls together `share` are kept.
    pub fn push(&mut self, rows: &Mat<f32>, count: usize, share: Share) {
        self.put(rows, count, share, |value| value);
    }

    /// The same of inputs.
    #[allow(clippy::cast_possible_truncation)]
    pub fn push_inputs(&mut self, rows: &Centred, count: usize, share: Share) {
        match rows {
            Centred::Single(rows) => self.push(rows, count, share),
            Centred::Double(rows) => self.put(rows, count, share, |value| value as f32),
        }
    }

    fn put<T: Copy>(
        &mut self,
        rows: &Mat<T>,
        count: usize,
        share: Share,
        rounded: impl Fn(T) -> f32,
    ) {
        if self.data.nrows() == 0 {
            self.data = Mat::zeros(share.keep, rows.ncols());
        }
        for j in 0..rows.ncols() {
            let free = self.data.col_as_slice_mut(j).iter_mut().skip(self.filled);
            let pairs = free.zip(rows.col_as_slice(j).iter().take(count));
            pairs.for_each(|(place, &value)| *place = rounded(value));
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
    pub output: KeptRows,
    /// What the other summand lost, if there is one.
    pub lost: Option<KeptRows>,
    /// What the rectifier reads in the dense model, where that is not the output.
    pub before: Option<KeptRows>,
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
    pub inputs: &'a KeptRows,
    /// Targets of all blocks.
    pub targets: &'a Targets,
}

/// Rows that are worked on at once, and whose products are summed in f32.
const PIECE: usize = 512;
const MOST_ROWS: usize = 4096;
/// Outputs that are worked on together.
const PANEL: usize = 64;

/// Sums over some rows of how far the targets of some outputs move, and of their products with the
/// inputs.
struct Moved {
    sum: Vec<f64>,
    /// `inputs x outputs`.
    products: Mat<f32>,
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
            let (moved, covariance) = self.moved(&fitted, &mean);
            self.equations.solve(Some((&moved, &covariance)))
        })
    }

    /// By how much targets move in the mean, and the inputs' covariance with that. Sums over rows
    /// are added in the same order whatever the number of threads.
    fn moved(&self, fitted: &Fitted, mean: &[f64]) -> (Vec<f64>, Mat<f64>) {
        let (outputs, rows) = (fitted.0.nrows(), self.inputs.len());
        #[allow(clippy::cast_possible_truncation)]
        let weight = Mat::from_fn(fitted.0.ncols(), outputs, |i, j| {
            (self.equations.gain() * fitted.0[(j, i)]) as f32
        });
        let about = self.equations.outputs_at_shift(fitted);
        let panels = spans(outputs, PANEL);
        let panels =
            panels.flat_map(|panel| spans(rows, MOST_ROWS).map(move |rows| (panel.clone(), rows)));
        let panels: Vec<_> = panels.collect();
        let parts = panels.into_par_iter().map(|(panel, rows)| {
            let moved = self.moved_in(&panel, rows, &weight, &about);
            (panel, moved)
        });
        let parts: Vec<(Range<usize>, Moved)> = parts.collect();
        let mut moved = vec![0.0; outputs];
        let mut covariance = Mat::zeros(mean.len(), outputs);
        let count = rows as f64;
        for (panel, part) in parts {
            for (column, (j, sum)) in panel.zip(part.sum).enumerate() {
                moved[j] += sum / count;
                let found = part.products.col_as_slice(column).iter().zip(mean);
                let all = covariance.col_as_slice_mut(j).iter_mut().zip(found);
                all.for_each(|(all, (&product, mean))| {
                    *all += (f64::from(product) - sum * mean) / count;
                });
            }
        }
        (moved, covariance)
    }

    fn moved_in(
        &self,
        panel: &Range<usize>,
        rows: Range<usize>,
        weight: &Mat<f32>,
        about: &[f64],
    ) -> Moved {
        let weight = weight.subcols(panel.start, panel.len());
        let mut sum = vec![0.0; panel.len()];
        let mut products = Mat::zeros(weight.nrows(), panel.len());
        for piece in spans(rows.len(), PIECE) {
            let rows = rows.start + piece.start..rows.start + piece.end;
            let inputs = self.inputs.data.subrows(rows.start, rows.len());
            let mut values = Mat::zeros(rows.len(), panel.len());
            matmul(&mut values, Accum::Replace, inputs, weight, 1.0, Par::Seq);
            for (column, (j, sum)) in panel.clone().zip(&mut sum).enumerate() {
                *sum += self.move_output(j, &rows, values.col_as_slice_mut(column), about[j]);
            }
            matmul(
                &mut products,
                Accum::Add,
                inputs.transpose(),
                &values,
                1.0,
                Par::Seq,
            );
        }
        Moved { sum, products }
    }

    /// Makes of an output's fitted values, less `about`, by how much its targets move; returns the
    /// sum.
    #[allow(clippy::cast_possible_truncation)]
    fn move_output(&self, j: usize, rows: &Range<usize>, values: &mut [f32], about: f64) -> f64 {
        let Some(factor) = self.factors[j] else {
            values.fill(0.0);
            return 0.0;
        };
        let [low, high] = [self.passes.start(), self.passes.end()].map(|&end| end as f32);
        let [factor, about, part] = [factor, about, self.lost[j]].map(|x| x as f32);
        let moved = |value: f32, wanted: f32, dense: f32| {
            let fitted = dense + factor * (value + about - wanted);
            let below = if fitted < low { fitted } else { low };
            let above = if fitted > high { fitted } else { high };
            let goal = if dense >= high { above } else { dense };
            let goal = if dense <= low { below } else { goal };
            (goal - dense) / factor
        };
        let place = self.first + j;
        let before = self.targets.before.as_ref().unwrap_or(&self.targets.output);
        let output = self.targets.output.column(place, rows).iter();
        let targets = output.zip(before.column(place, rows));
        match &self.targets.lost {
            Some(lost) => {
                let targets = targets.zip(lost.column(place, rows));
                for (value, ((&output, &dense), &lost)) in values.iter_mut().zip(targets) {
                    *value = moved(*value, output + lost * part, dense);
                }
            }
            None => {
                for (value, (&output, &dense)) in values.iter_mut().zip(targets) {
                    *value = moved(*value, output, dense);
                }
            }
        }
        products::sum(values)
    }
}

/// The numbers up to `end`, so many at a time.
fn spans(end: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let first = (0..end).step_by(step);
    first.map(move |first| first..end.min(first + step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::repair::sequential::regression::{Aim, CrossMoments};
    use crate::statistics::Moments;

    const ROWS: usize = 600;

    /// One input, and an output that is no affine function of it.
    fn row(i: usize) -> (f64, f64) {
        let x = (i * 7 % ROWS) as f64 / 100.0;
        (x, x * x - 8.0 + (9.0 * x).sin())
    }

    fn equations(gain: f64) -> Equations {
        let (mut inputs, mut outputs) = (Moments::new(1), CrossMoments::new(1, 1));
        let centred = inputs.add(Mat::from_fn(ROWS, 1, |i, _| row(i).0), ROWS);
        let targets = Mat::from_fn(ROWS, 1, |i, _| row(i).1 as f32);
        outputs.add(&targets, 0..1, &Centred::Double(centred));
        let aim = Aim {
            outputs: &outputs,
            lost: None,
            held: None,
            gain,
        };
        let equations = Equations::new(&inputs, None, &aim, Mat::zeros(1, 1));
        equations.unwrap().unwrap()
    }

    /// The fit after `rounds` calls, as slope and intercept. The rectifier reads `factor` times the
    /// output.
    fn fitted(passes: &RangeInclusive<f64>, factor: f64, gain: f64, rounds: usize) -> (f64, f64) {
        let equations = equations(gain);
        // The shift of the inputs is their mean, as all came in one call.
        let mean = (0..ROWS).map(|i| row(i).0).sum::<f64>() / ROWS as f64;
        let kept = |f: &dyn Fn(usize) -> f64| {
            let mut rows = KeptRows::default();
            let all = Mat::from_fn(ROWS, 1, |i, _| f(i) as f32);
            // In two calls, as of two batches.
            let halves = all.as_ref().split_at_row(ROWS / 3);
            for half in [halves.0, halves.1] {
                rows.push(&half.to_owned(), half.nrows(), Share::new(ROWS, 1));
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
        let share = Share::new(MOST_VALUES / 100 * 4, 400);
        assert_eq!(share.of_batch(1000, 0), 63);
        // Rounded up, the batches together would be more than is kept.
        let all = MOST_VALUES / 400;
        assert_eq!(share.of_batch(1000, all - 3), 3);
        let few = Share::new(1000, 100);
        assert_eq!(few.of_batch(100, 0), 100);
        // 128 MiB at most.
        let wide = Share::new(1_000_000, 10_000);
        assert!(wide.of_batch(1_000_000, 0) * 10_000 * 4 <= 1 << 27);
    }
}
