//! Exchanges after a backward elimination: one channel leaves for one that comes back, as long as
//! that keeps more MI.
//!
//! With `K = Cov(X)`, `Q = Cov(X | Y)` and S kept, `I(X_S; Y) = 1/2 logdet K_SS - 1/2 logdet Q_SS`.
//! Both are held swept on S (`swept`), which has all that an exchange needs. Taking r back gains
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

use faer::Mat;
use rayon::prelude::*;

use crate::linalg::Swept;
use crate::linalg::{LinalgError, inverse, log_determinant};
use crate::mi::Elimination;
use crate::mi::state::State;

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

impl Elimination {
    /// Exchanges candidates that stay for candidates that are `gone`, which are tried in that
    /// order, as long as an exchange gains more than `least` nats. Others that left come back
    /// before. The elimination must be a [`Elimination::returning`] one.
    ///
    /// # Errors
    /// A covariance is not positive definite.
    pub fn exchange(mut self, mut gone: Vec<usize>, least: f64) -> Result<Exchanged, LinalgError> {
        let mut stays = self.stays();
        let left = stays.clone();
        stays.iter_mut().for_each(|stays| *stays = true);
        gone.iter().for_each(|&candidate| stays[candidate] = false);
        for candidate in (0..stays.len()).filter(|&candidate| stays[candidate] != left[candidate]) {
            self.sweep(candidate, stays[candidate])?;
        }
        let mut all = Exchange::new(self.states, stays);
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
}

struct Exchange {
    states: Vec<State>,
    /// The states that read each candidate.
    readers: Vec<Vec<usize>>,
    stays: Vec<bool>,
    /// What leaves with each candidate that stays, of each state.
    own: Vec<Vec<f64>>,
    /// The same over all states.
    losses: Vec<f64>,
}

impl Exchange {
    fn new(mut states: Vec<State>, stays: Vec<bool>) -> Self {
        let sides = states.par_iter_mut().flat_map(|state| &mut state.sides);
        sides.for_each(Swept::keep_whole);
        let reads = |candidate: usize| {
            let all = states.iter().enumerate();
            let readers = all.filter(move |(_, state)| !state.candidates[candidate].is_empty());
            readers.map(|(index, _)| index).collect()
        };
        let readers = (0..stays.len()).map(reads).collect();
        let mut all = Exchange {
            losses: vec![0.0; stays.len()],
            own: vec![vec![0.0; stays.len()]; states.len()],
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
        self.own[index] = judged(&state.candidates, &self.stays, |candidate| {
            finite(state.lost(&state.candidates[candidate]))
        });
        for (candidate, loss) in self.losses.iter_mut().enumerate() {
            let readers = self.readers[candidate].iter();
            *loss = readers.map(|&reader| self.own[reader][candidate]).sum();
        }
    }

    /// The candidate that best leaves for one that comes back, the first of equals, and the gain.
    fn best(&self, back: usize) -> Option<(usize, f64)> {
        let mut losses = self.losses.clone();
        let mut gain = 0.0;
        let readers = self.readers[back].par_iter();
        for (of_reader, changes) in readers
            .map(|&reader| self.coming(reader, back))
            .collect::<Option<Vec<_>>>()?
        {
            gain += of_reader;
            let pairs = losses.iter_mut().zip(changes);
            pairs.for_each(|(loss, change)| *loss += change);
        }
        let judged = (0..losses.len()).filter(|&c| self.stays[c] && losses[c].is_finite());
        let least = judged.min_by(|&a, &b| losses[a].total_cmp(&losses[b]))?;
        Some((least, gain - losses[least]))
    }

    /// What one state gains by a candidate that comes back, and by how much more leaves with each
    /// that stays.
    fn coming(&self, reader: usize, back: usize) -> Option<(f64, Vec<f64>)> {
        let state = &self.states[reader];
        let coming = Coming::new(state, back)?;
        let own = &self.own[reader];
        let changes = judged(&state.candidates, &self.stays, |candidate| {
            coming.loss(candidate) - own[candidate]
        });
        Some((coming.gain, changes))
    }

    fn make(&mut self, back: usize, leaving: usize) -> Result<(), LinalgError> {
        self.stays[back] = true;
        self.stays[leaving] = false;
        let mut touched = [self.readers[back].clone(), self.readers[leaving].clone()].concat();
        touched.sort_unstable();
        touched.dedup();
        for state in touched {
            self.states[state].sweep(back, true)?;
            self.states[state].sweep(leaving, false)?;
            self.refresh(state);
        }
        Ok(())
    }
}

/// A number for each candidate that stays, 0 for the others. Single inputs cost less than handing
/// them to threads does.
fn judged(
    candidates: &[Vec<usize>],
    stays: &[bool],
    judge: impl Fn(usize) -> f64 + Sync,
) -> Vec<f64> {
    let one = |candidate: usize| {
        if stays[candidate] {
            judge(candidate)
        } else {
            0.0
        }
    };
    if candidates.iter().all(|inputs| inputs.len() <= 1) {
        (0..stays.len()).map(one).collect()
    } else {
        (0..stays.len()).into_par_iter().map(one).collect()
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
        let loss = match inputs {
            [] => 0.0,
            [input] if self.sides[0].0.ncols() == 1 => {
                let [prior, given_output] = [0, 1].map(|side| {
                    let (columns, inverse) = &self.sides[side];
                    let along = columns[(*input, 0)];
                    along * along * inverse[(0, 0)] - self.state.sides[side].own(*input)
                });
                if prior > 0.0 && given_output > 0.0 {
                    (given_output / prior).ln()
                } else {
                    f64::NAN
                }
            }
            inputs => self.loss_of_several(inputs),
        };
        finite(0.5 * loss)
    }

    /// Twice what leaves with several inputs.
    fn loss_of_several(&self, inputs: &[usize]) -> f64 {
        let [prior, given_output] = [0, 1].map(|side| {
            let (columns, inverse) = &self.sides[side];
            let along = Mat::from_fn(inputs.len(), columns.ncols(), |i, j| {
                columns[(inputs[i], j)]
            });
            let more = &along * inverse * along.transpose();
            let precision = more - self.state.sides[side].block(inputs);
            log_determinant(precision.as_ref()).unwrap_or(f64::NAN)
        });
        given_output - prior
    }
}
