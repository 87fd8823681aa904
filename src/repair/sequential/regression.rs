//! The sums and the solution of one fit.

use crate::linalg;
use std::ops::Range;

use faer::traits::ComplexField;
use faer::{Mat, MatRef, Scale};

use crate::linalg::products;
use crate::linalg::{Divisor, LinalgError};
use crate::repair::sequential::ridge::{self, SecondMoments};
use crate::statistics::Moments;

/// Rows of inputs less their shift: in f32 where there are so many inputs that products are summed
/// so.
pub(super) enum Centred {
    Single(Mat<f32>),
    Double(Mat<f64>),
}

impl Centred {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Centred::Single(rows) => rows.nrows(),
            Centred::Double(rows) => rows.nrows(),
        }
    }

    /// Some of the rows.
    pub fn some(&self, rows: &[usize]) -> Centred {
        match self {
            Centred::Single(all) => Centred::Single(picked(all.as_ref(), rows)),
            Centred::Double(all) => Centred::Double(picked(all.as_ref(), rows)),
        }
    }
}

/// Some rows of a matrix.
pub(super) fn picked<T: Copy>(all: MatRef<'_, T>, rows: &[usize]) -> Mat<T> {
    Mat::from_fn(rows.len(), all.ncols(), |i, j| all[(rows[i], j)])
}

/// Sums of targets, and of their products with the inputs.
#[derive(Debug, Clone)]
pub(super) struct CrossMoments {
    count: usize,
    /// Subtracted from every row, so that f64 loses nothing to a large mean.
    shift: Vec<f64>,
    sum: Vec<f64>,
    inputs: usize,
    /// `targets x inputs`; empty before the first rows, as levels wait long for theirs.
    products: Mat<f64>,
}

impl CrossMoments {
    /// Nothing seen yet.
    pub fn new(targets: usize, inputs: usize) -> Self {
        CrossMoments {
            count: 0,
            shift: Vec::new(),
            sum: vec![0.0; targets],
            inputs,
            products: Mat::new(),
        }
    }

    /// Adds rows of targets, which are some columns of `all`, with the rows of inputs less the
    /// inputs' shift.
    #[allow(clippy::cast_possible_truncation)]
    pub fn add(&mut self, all: &Mat<f32>, columns: Range<usize>, inputs: &Centred) {
        let rows = all.nrows();
        if self.shift.is_empty() {
            let mean = |j| products::sum(all.col_as_slice(j)) / rows.max(1) as f64;
            self.shift = columns.clone().map(mean).collect();
            self.products = Mat::zeros(columns.len(), self.inputs);
        }
        for ((column, shift), sum) in columns.clone().zip(&self.shift).zip(&mut self.sum) {
            *sum += products::sum(all.col_as_slice(column)) - rows as f64 * shift;
        }
        self.count += rows;
        match inputs {
            Centred::Single(inputs) => {
                let targets = less(all, columns, &self.shift, |x| x as f32);
                products::add_cross_single(&mut self.products, &targets, inputs);
            }
            Centred::Double(inputs) => {
                let targets = less(all, columns, &self.shift, |x| x);
                products::add_cross(&mut self.products, targets.as_ref(), inputs.as_ref());
            }
        }
    }

    /// The same over rows of inputs with these means, less their shift.
    fn second(&self, inputs: &[f64]) -> SecondMoments {
        let (mean, covariance) = self.covariance(inputs);
        SecondMoments {
            count: self.count as f64,
            means: [mean, inputs.to_vec()],
            covariance,
        }
    }

    /// Means, and covariance with the inputs.
    fn covariance(&self, inputs: &[f64]) -> (Vec<f64>, Mat<f64>) {
        let count = self.count.max(1) as f64;
        let offset: Vec<f64> = self.sum.iter().map(|sum| sum / count).collect();
        let seen = self.products.nrows() > 0;
        let matrix = Mat::from_fn(self.sum.len(), self.inputs, |i, j| {
            let product = if seen { self.products[(i, j)] } else { 0.0 };
            product / count - offset[i] * inputs[j]
        });
        let mean = offset.iter().zip(&self.shift).map(|(o, s)| o + s).collect();
        (mean, matrix)
    }
}

/// Some columns, each less its shift.
fn less<T: ComplexField>(
    all: &Mat<f32>,
    columns: Range<usize>,
    shift: &[f64],
    rounded: impl Fn(f64) -> T,
) -> Mat<T> {
    let mut targets = Mat::zeros(all.nrows(), columns.len());
    for (place, (column, shift)) in columns.zip(shift).enumerate() {
        let pairs = targets.col_as_slice_mut(place).iter_mut();
        let pairs = pairs.zip(all.col_as_slice(column));
        pairs.for_each(|(to, &from)| *to = rounded(f64::from(from) - shift));
    }
    targets
}

/// Whether a branch's end is an affine function of the consumer's output, channel by channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    count: f64,
    shift: Option<(f64, f64)>,
    /// Sums of y, z, yy, yz, zz.
    sums: [f64; 5],
}

/// What rounding may leave of the variance of an affine function.
const ROUNDING: f64 = 1e-5;

impl Affine {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Affine {
            count: 0.0,
            shift: None,
            sums: [0.0; 5],
        }
    }

    /// Adds outputs `y` and what the branch makes of them, `z`.
    pub fn add(&mut self, y: &[f32], z: &[f32]) {
        let first = |values: &[f32]| f64::from(values.first().copied().unwrap_or(0.0));
        let (about_y, about_z) = *self.shift.get_or_insert((first(y), first(z)));
        // Four sums of each that do not wait for each other.
        let mut lanes = [[0.0; 4]; 5];
        for (y, z) in y.chunks(4).zip(z.chunks(4)) {
            for (lane, (&y, &z)) in y.iter().zip(z).enumerate() {
                let (y, z) = (f64::from(y) - about_y, f64::from(z) - about_z);
                for (sums, term) in lanes.iter_mut().zip([y, z, y * y, y * z, z * z]) {
                    sums[lane] += term;
                }
            }
        }
        for (sum, lanes) in self.sums.iter_mut().zip(lanes) {
            *sum += lanes.iter().sum::<f64>();
        }
        self.count += y.len() as f64;
    }

    /// The factor; `None` where the function is not affine, or constant.
    pub fn factor(&self) -> Option<f64> {
        let [y, z, yy, yz, zz] = self.sums.map(|sum| sum / self.count.max(1.0));
        let (yy, yz, zz) = (yy - y * y, yz - y * z, zz - z * z);
        if !(yy > 0.0 && zz > 0.0) {
            return None;
        }
        let factor = yz / yy;
        (zz - factor * yz <= ROUNDING * zz && factor != 0.0).then_some(factor)
    }
}

/// What a fit has to reach: the outputs, and what is added to them to make good what the other
/// summand lost, over the factor of each row (0 where nothing is).
pub(super) struct Aim<'a> {
    pub outputs: &'a CrossMoments,
    pub lost: Option<(&'a CrossMoments, Vec<f64>)>,
    /// The same over the rows that are held back: outputs, and what is lost.
    pub held: Option<(&'a CrossMoments, Option<&'a CrossMoments>)>,
    /// The node multiplies `W x` by this.
    pub gain: f64,
}

/// The usual ridge over the shrinkage intensity of the inputs. That intensity makes their
/// covariance right as a whole; a prediction leans on its small eigenvalues, which few samples get
/// wrong. The ridge is the geometric mean of this one and the one that samples held back choose,
/// where there are enough of them (docs/design/decisions/026-factor-of-the-ridge.md).
const RIDGE: f64 = 10.0;

/// A fitted weight, and the shift of each row of `W x`.
pub(super) type Fitted = (Mat<f64>, Vec<f64>);

/// The equations of one fit, which can be solved for targets that moved.
pub(super) struct Equations {
    /// Means of the inputs, and the same less their shift.
    mean: Vec<f64>,
    offset: Vec<f64>,
    divisor: Divisor,
    /// Means of the targets.
    target_mean: Vec<f64>,
    /// The inputs' covariance with what the start leaves of the targets.
    residual: Mat<f64>,
    gain: f64,
    once: Mat<f64>,
}

impl Aim<'_> {
    /// Targets with the inputs: of all rows, or of those held back.
    fn second(
        &self,
        outputs: &CrossMoments,
        lost: Option<&CrossMoments>,
        inputs: &[f64],
    ) -> SecondMoments {
        let mut second = outputs.second(inputs);
        if let (Some((_, weights)), Some(lost)) = (&self.lost, lost) {
            let (mean, covariance) = lost.covariance(inputs);
            for (i, weight) in weights.iter().enumerate() {
                second.means[0][i] += weight * mean[i];
                for j in 0..covariance.ncols() {
                    second.covariance[(i, j)] += weight * covariance[(i, j)];
                }
            }
        }
        second
    }
}

impl Equations {
    /// Of a fit that starts from the weight `once`; `None` where no row was seen.
    pub fn new(
        inputs: &Moments,
        held: Option<&Moments>,
        aim: &Aim<'_>,
        once: Mat<f64>,
    ) -> Result<Option<Equations>, LinalgError> {
        let Some(covariance) = inputs.covariance() else {
            return Ok(None);
        };
        let offset = inputs.offset();
        let targets = aim.second(
            aim.outputs,
            aim.lost.as_ref().map(|(lost, _)| *lost),
            &offset,
        );
        // Added, not mixed in: of inputs that really are alike and uncorrelated, the intensity is
        // 1, and a mixture would leave nothing of what they say.
        let least = (covariance.shrinkage.max(1e-7) * covariance.mean_variance())
            .max(f64::MIN_POSITIVE.sqrt());
        let usual = RIDGE * least;
        let all = SecondMoments::of(aim.outputs.count, &offset, covariance.matrix());
        let ridge = match (aim.held, held.and_then(Moments::covariance)) {
            (Some((outputs, lost)), Some(part)) => {
                let wanted = aim.second(outputs, lost, &part.mean);
                let held = SecondMoments::of(outputs.count, &part.mean, part.matrix());
                let start = &once * Scale(aim.gain);
                let best = ridge::choose([&all, &held], [&targets, &wanted], &start, least)?;
                // What a fit leaves undone adds up from layer to layer more than what it overdoes.
                (best * usual).sqrt()
            }
            _ => usual,
        };
        let SecondMoments {
            means: [target_mean, _],
            covariance: target,
            ..
        } = targets;
        let ridged = ridge::ridged(&all.covariance, ridge);
        let made = linalg::product(once.as_ref(), all.covariance.as_ref());
        Ok(Some(Equations {
            mean: covariance.mean,
            offset,
            divisor: Divisor::new(ridged.as_ref())?,
            target_mean,
            residual: target - made * Scale(aim.gain),
            gain: aim.gain,
            once,
        }))
    }

    /// The node multiplies `W x` by this.
    pub fn gain(&self) -> f64 {
        self.gain
    }

    /// The fit; `moved` is what to add to the means of the targets and to the inputs' covariance
    /// with them.
    pub fn solve(&self, moved: Option<(&[f64], &Mat<f64>)>) -> Fitted {
        let mut target = self.residual.clone();
        if let Some((_, covariance)) = moved {
            target += covariance.transpose();
        }
        let weight = &self.once + self.divisor.divide(target.as_ref()) * Scale(1.0 / self.gain);
        let shift = (0..weight.nrows())
            .map(|i| {
                let more = moved.map_or(0.0, |(means, _)| means[i]);
                let explained: f64 = (0..weight.ncols())
                    .map(|j| weight[(i, j)] * self.mean[j])
                    .sum();
                (self.target_mean[i] + more) / self.gain - explained
            })
            .collect();
        (weight, shift)
    }

    /// Per output, what a fit gives where all inputs are at their shift.
    pub fn outputs_at_shift(&self, (weight, shift): &Fitted) -> Vec<f64> {
        let at = self.mean.iter().zip(&self.offset);
        let at: Vec<f64> = at.map(|(mean, offset)| mean - offset).collect();
        let output = |(i, shift): (usize, &f64)| {
            let row = at.iter().enumerate();
            let sum: f64 = row.map(|(j, at)| weight[(i, j)] * at).sum();
            self.gain * (sum + shift)
        };
        shift.iter().enumerate().map(output).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const ROWS: usize = 2000;

    /// Rows of two inputs, and an exact affine map of them to one output.
    fn data() -> (Mat<f64>, Mat<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut x = Mat::from_fn(ROWS, 2, |_, _| f64::from(rng.next_u32() % 1024) / 64.0);
        // Not alike: shrinkage has something to see.
        for i in 0..ROWS {
            x[(i, 1)] = 3.0 * x[(i, 1)] + x[(i, 0)];
        }
        let t = Mat::from_fn(ROWS, 1, |i, _| 2.0 * x[(i, 0)] - 3.0 * x[(i, 1)] + 4.0);
        (x, t)
    }

    fn fit(gain: f64, lost: Option<f64>) -> (Mat<f64>, Vec<f64>) {
        let (x, t) = data();
        let mut inputs = Moments::new(2);
        let (mut outputs, mut shares) = (CrossMoments::new(1, 2), CrossMoments::new(1, 2));
        for half in 0..2 {
            let rows = |m: &Mat<f64>| m.as_ref().subrows(ROWS / 2 * half, ROWS / 2).to_owned();
            let single = |m: &Mat<f64>| Mat::from_fn(ROWS / 2, m.ncols(), |i, j| m[(i, j)] as f32);
            let centred = Centred::Double(inputs.add(rows(&x), ROWS / 2));
            outputs.add(&single(&rows(&t)), 0..1, &centred);
            shares.add(&single(&rows(&x)), 0..1, &centred);
        }
        let aim = Aim {
            outputs: &outputs,
            lost: lost.map(|weight| (&shares, vec![weight])),
            held: None,
            gain,
        };
        let equations = Equations::new(&inputs, None, &aim, Mat::zeros(1, 2));
        equations.unwrap().unwrap().solve(None)
    }

    #[test]
    fn a_linear_target_is_found() {
        for gain in [1.0, 0.5] {
            let (weight, shift) = fit(gain, None);
            // Shrinkage pulls a little towards the start.
            assert!((weight[(0, 0)] * gain - 2.0).abs() < 0.2, "{weight:?}");
            assert!((weight[(0, 1)] * gain + 3.0).abs() < 0.2, "{weight:?}");
            let (x, t) = data();
            let residual: f64 = (0..ROWS)
                .map(|i| {
                    let made = weight[(0, 0)] * x[(i, 0)] + weight[(0, 1)] * x[(i, 1)] + shift[0];
                    // Targets come in f32.
                    gain * made - f64::from(t[(i, 0)] as f32)
                })
                .sum();
            assert!(
                residual.abs() < 1e-9,
                "the mean is met, whatever the shrinkage"
            );
        }
    }

    #[test]
    fn what_the_other_summand_lost_is_added() {
        let (plain, _) = fit(1.0, None);
        let (more, _) = fit(1.0, Some(0.5));
        assert!((more[(0, 0)] - plain[(0, 0)] - 0.5).abs() < 0.05);
    }

    #[test]
    fn affine_functions_are_told_from_others() {
        let y: Vec<f32> = (0..20u8).map(f32::from).collect();
        let mut affine = Affine::new();
        affine.add(&y, &y.iter().map(|y| 1e3 - 2.5 * y).collect::<Vec<_>>());
        assert!((affine.factor().unwrap() + 2.5).abs() < 1e-9);
        let mut bent = Affine::new();
        bent.add(
            &y,
            &y.iter().map(|y| (y - 9.0).max(0.0)).collect::<Vec<_>>(),
        );
        assert_eq!(bent.factor(), None);
        let mut flat = Affine::new();
        flat.add(&y, &[1.0; 20]);
        assert_eq!(flat.factor(), None);
    }
}
