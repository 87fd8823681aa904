//! Exchanges after a backward elimination: one channel leaves for one that comes back, as long as that
//! keeps more MI.
//!
//! With `K = Cov(X)`, `Q = Cov(X | Y)` and S kept, `I(X_S; Y) = 1/2 logdet K_SS - 1/2 logdet Q_SS`. Both
//! are held swept on S (`swept`), which has all that an exchange needs. Taking r back gains
//!
//! ```text
//! 1/2 logdet C_K - 1/2 logdet C_Q      C = K_rr - K_rS inv(K_SS) K_Sr, and the same of Q
//! ```
//!
//! and leaving d out of what is then kept loses
//!
//! ```text
//! 1/2 logdet P_Q - 1/2 logdet P_K      P = inv(K_SS)_dd + U inv(C) U',  U = (inv(K_SS) K_Sr)_d
//! ```
//!
//! so that all d are judged for one r with one column of each table, and an exchange is two sweeps.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::mi::matrix::lower;
use crate::mi::swept::Swept;
use crate::mi::{MiError, Reading, inverse, log_determinant};

/// Rounds over all channels that left; the last one changes nothing unless there are so many.
const MOST_ROUNDS: usize = 10;

/// What exchanges come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchanged {
    /// The candidates that are gone now, as many as before.
    pub gone: Vec<usize>,
    /// MI that was gained over all consumers, in nats.
    pub gained: f64,
    /// Sum over the consumers of the share of their output variance that cannot be rebuilt.
    pub unexplained: f64,
    /// How many exchanges were made.
    pub count: usize,
}

/// Exchanges candidates that stay for candidates that are `gone`, which are tried in that order, as long
/// as an exchange gains more than `least` nats. `candidates` is how many there are in all.
///
/// # Errors
/// A covariance is not positive definite.
pub fn exchange(
    readings: Vec<Reading>,
    candidates: usize,
    mut gone: Vec<usize>,
    least: f64,
) -> Result<Exchanged, MiError> {
    let mut stays = vec![true; candidates];
    gone.iter().for_each(|&candidate| stays[candidate] = false);
    let states = readings
        .into_par_iter()
        .map(|reading| State::new(reading, &stays))
        .collect::<Result<_, MiError>>()?;
    let mut all = Exchange::new(states, stays);
    let (mut gained, mut count) = (0.0, 0);
    for _ in 0..MOST_ROUNDS {
        let before = count;
        for back in &mut gone {
            let Some((leaving, gain)) = all.best(*back) else {
                continue;
            };
            if gain > least {
                all.make(*back, leaving)?;
                *back = leaving;
                gained += gain;
                count += 1;
            }
        }
        if count == before {
            break;
        }
    }
    let unexplained = all.states.iter().map(State::unexplained_share).sum();
    Ok(Exchanged {
        gone,
        gained,
        unexplained,
        count,
    })
}

struct Exchange {
    states: Vec<State>,
    /// The states that read each candidate.
    readers: Vec<Vec<usize>>,
    stays: Vec<bool>,
    /// What leaves with each candidate that stays, over all states.
    losses: Vec<f64>,
}

impl Exchange {
    fn new(states: Vec<State>, stays: Vec<bool>) -> Self {
        let reads = |candidate: usize| {
            let all = states.iter().enumerate();
            let readers = all.filter(move |(_, state)| !state.candidates[candidate].is_empty());
            readers.map(|(index, _)| index).collect()
        };
        let readers = (0..stays.len()).map(reads).collect();
        let mut all = Exchange {
            losses: vec![0.0; stays.len()],
            states,
            readers,
            stays,
        };
        (0..all.states.len()).for_each(|state| all.refresh(state));
        all
    }

    /// Judges again what leaves with the candidates that a state reads.
    fn refresh(&mut self, index: usize) {
        let state = &self.states[index];
        let fresh = state.judged(&self.stays, |candidate| state.loss(candidate));
        self.states[index].losses = fresh;
        for (candidate, loss) in self.losses.iter_mut().enumerate() {
            let readers = self.readers[candidate].iter();
            *loss = readers
                .map(|&reader| self.states[reader].losses[candidate])
                .sum();
        }
    }

    /// The candidate that best leaves for one that comes back, the first of equals, and the gain.
    fn best(&self, back: usize) -> Option<(usize, f64)> {
        let mut losses = self.losses.clone();
        let mut gain = 0.0;
        for &reader in &self.readers[back] {
            let state = &self.states[reader];
            let coming = Coming::new(state, back)?;
            gain += coming.gain;
            let changes = state.judged(&self.stays, |candidate| {
                coming.loss(candidate) - state.losses[candidate]
            });
            let pairs = losses.iter_mut().zip(changes);
            pairs.for_each(|(loss, change)| *loss += change);
        }
        let judged = (0..losses.len()).filter(|&c| self.stays[c] && losses[c].is_finite());
        let least = judged.min_by(|&a, &b| losses[a].total_cmp(&losses[b]))?;
        Some((least, gain - losses[least]))
    }

    fn make(&mut self, back: usize, leaving: usize) -> Result<(), MiError> {
        self.stays[back] = true;
        self.stays[leaving] = false;
        let mut touched = [self.readers[back].clone(), self.readers[leaving].clone()].concat();
        touched.sort_unstable();
        touched.dedup();
        for state in touched {
            self.states[state].exchange(back, leaving)?;
            self.refresh(state);
        }
        Ok(())
    }
}

/// One consumer.
struct State {
    candidates: Vec<Vec<usize>>,
    /// `Cov(X)` and `Cov(X | Y)`, swept on the inputs that stay.
    sides: [Swept; 2],
    /// Which inputs do.
    is_in: Vec<bool>,
    /// What leaves with each candidate that stays.
    losses: Vec<f64>,
    gram: Mat<f64>,
    /// Trace of `Cov(Y)`.
    variance: f64,
}

impl State {
    fn new(reading: Reading, stays: &[bool]) -> Result<Self, MiError> {
        let mut is_in = vec![true; reading.covariance.nrows()];
        let lost = reading.candidates.iter().zip(stays);
        let lost = lost.filter(|(_, stays)| !**stays);
        let lost = lost.flat_map(|(inputs, _)| inputs);
        for &input in lost.chain(&reading.absent) {
            is_in[input] = false;
        }
        let given_output = given_output(&reading)?;
        let columns = 0..reading.gram.ncols();
        let variance = columns.map(|j| {
            let pairs = reading.gram.col_as_slice(j).iter();
            let pairs = pairs.zip(reading.covariance.col_as_slice(j));
            pairs.map(|(a, b)| a * b).sum::<f64>()
        });
        let variance = variance.sum();
        let (prior, given_output) = rayon::join(
            || Swept::new(reading.covariance.as_ref(), &is_in),
            || Swept::new(given_output.as_ref(), &is_in),
        );
        Ok(State {
            variance,
            sides: [prior?, given_output?],
            is_in,
            losses: vec![0.0; stays.len()],
            candidates: reading.candidates,
            gram: reading.gram,
        })
    }

    /// A number for each candidate that stays, 0 for the others. Single inputs cost less than handing them to
    /// threads does.
    fn judged(&self, stays: &[bool], judge: impl Fn(usize) -> f64 + Sync) -> Vec<f64> {
        let one = |candidate: usize| {
            if stays[candidate] {
                judge(candidate)
            } else {
                0.0
            }
        };
        if self.candidates.iter().all(|inputs| inputs.len() <= 1) {
            (0..stays.len()).map(one).collect()
        } else {
            (0..stays.len()).into_par_iter().map(one).collect()
        }
    }

    /// What leaves with a candidate that stays; infinite where rounding hides it.
    fn loss(&self, candidate: usize) -> f64 {
        let [prior, given_output] = &self.sides;
        match self.candidates[candidate].as_slice() {
            [] => 0.0,
            [input] => finite(0.5 * (given_output.own(*input) / prior.own(*input)).ln()),
            inputs => {
                let [prior, given_output] = [prior, given_output].map(|side| {
                    let precision = side.block(inputs) * faer::Scale(-1.0);
                    log_determinant(precision.as_ref()).unwrap_or(f64::NAN)
                });
                finite(0.5 * (given_output - prior))
            }
        }
    }

    fn exchange(&mut self, back: usize, leaving: usize) -> Result<(), MiError> {
        for (candidate, join) in [(back, true), (leaving, false)] {
            let inputs = &self.candidates[candidate];
            if inputs.is_empty() {
                continue;
            }
            for side in &mut self.sides {
                side.sweep(inputs, join)?;
            }
            inputs.iter().for_each(|&input| self.is_in[input] = join);
        }
        Ok(())
    }

    fn unexplained_share(&self) -> f64 {
        let out: Vec<usize> = (0..self.is_in.len()).filter(|&i| !self.is_in[i]).collect();
        let [prior, _] = &self.sides;
        let rest = prior.block(&out);
        let mut sum = 0.0;
        for (j, &column) in out.iter().enumerate() {
            let pairs = out.iter().zip(rest.col_as_slice(j));
            sum += pairs
                .map(|(&row, rest)| self.gram[(row, column)] * rest)
                .sum::<f64>();
        }
        if self.variance > 0.0 {
            (sum / self.variance).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// Infinite in the place of what is not a number: such a candidate is not let go.
fn finite(loss: f64) -> f64 {
    if loss.is_finite() {
        loss
    } else {
        f64::INFINITY
    }
}

/// `Cov(X | Y)`. With `K = L L'` it is `s L inv(s I + L' W'W L) L'`, which loses no digits to inverses.
fn given_output(reading: &Reading) -> Result<Mat<f64>, MiError> {
    let factor = lower(reading.covariance.as_ref())?;
    let size = factor.nrows();
    let (whole, triangle) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    let mut weighed = Mat::zeros(size, size);
    let gram = (reading.gram.as_ref(), whole);
    product(&mut weighed, whole, gram, (factor.as_ref(), triangle));
    let mut inner = Mat::<f64>::identity(size, size) * faer::Scale(reading.noise);
    let left = (factor.transpose(), BlockStructure::TriangularUpper);
    product(&mut inner, triangle, left, (weighed.as_ref(), whole));
    let inner = lower(inner.as_ref())?;
    let mut root = factor.transpose().to_owned();
    solve_lower_triangular_in_place(inner.as_ref(), root.as_mut(), Par::Seq);
    let mut found = Mat::zeros(size, size);
    let left = (root.transpose(), whole);
    product(&mut found, triangle, left, (root.as_ref(), whole));
    Ok(Mat::from_fn(size, size, |i, j| {
        reading.noise * found[(i.max(j), i.min(j))]
    }))
}

/// Adds a product whose factors and whose part that is wanted may be triangles.
fn product(
    target: &mut Mat<f64>,
    wanted: BlockStructure,
    (left, left_shape): (MatRef<'_, f64>, BlockStructure),
    (right, right_shape): (MatRef<'_, f64>, BlockStructure),
) {
    triangular::matmul(
        target,
        wanted,
        Accum::Add,
        left,
        left_shape,
        right,
        right_shape,
        1.0,
        Par::Seq,
    );
}

/// A candidate that would come back to one consumer.
struct Coming<'a> {
    state: &'a State,
    /// What it gains.
    gain: f64,
    /// Of both sides the columns of its inputs and `inv(C)`.
    sides: [(Mat<f64>, Mat<f64>); 2],
}

impl<'a> Coming<'a> {
    /// `None` where rounding hides what it would bring.
    fn new(state: &'a State, candidate: usize) -> Option<Self> {
        let inputs = &state.candidates[candidate];
        let blocks = [0, 1].map(|side| state.sides[side].block(inputs));
        let [prior, given_output] = [0, 1].map(|side| log_determinant(blocks[side].as_ref()));
        let [prior_inverse, given_inverse] = [0, 1].map(|side| inverse(blocks[side].as_ref()));
        let [prior_columns, given_columns] = [0, 1].map(|side| state.sides[side].columns(inputs));
        Some(Coming {
            state,
            gain: 0.5 * (prior.ok()? - given_output.ok()?),
            sides: [
                (prior_columns, prior_inverse.ok()?),
                (given_columns, given_inverse.ok()?),
            ],
        })
    }

    /// What leaves with a candidate once this one is back.
    fn loss(&self, candidate: usize) -> f64 {
        let inputs = self.state.candidates[candidate].as_slice();
        let is_single = self.sides[0].0.ncols() == 1;
        let logs = [0, 1].map(|side| {
            let (columns, inverse) = &self.sides[side];
            let swept = &self.state.sides[side];
            match inputs {
                [] => 0.0,
                [input] if is_single => {
                    let along = columns[(*input, 0)];
                    (along * along * inverse[(0, 0)] - swept.own(*input)).ln()
                }
                inputs => {
                    let along = Mat::from_fn(inputs.len(), columns.ncols(), |i, j| {
                        columns[(inputs[i], j)]
                    });
                    let more = &along * inverse * along.transpose();
                    let precision = more - swept.block(inputs);
                    log_determinant(precision.as_ref()).unwrap_or(f64::NAN)
                }
            }
        });
        finite(0.5 * (logs[1] - logs[0]))
    }
}
