//! Backward elimination: channels leave one by one, the least informative first, and every loss
//! is that of the set that is left.

use faer::Mat;
use rayon::prelude::*;

use crate::linalg::LinalgError;
use crate::mi::state::State;

/// So many candidates are not worth the sharing between threads.
const JUDGED_TOGETHER: usize = 512;

/// How one consumer reads the candidates.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Covariance of the consumer's inputs, `n x n`, positive definite.
    pub covariance: Mat<f64>,
    /// `W' W`, `n x n`, with the rows of `W` that matter.
    pub gram: Mat<f64>,
    /// Variance of the noise on every output, the resolution at which information counts.
    pub noise: f64,
    /// The inputs of each candidate; empty where the consumer does not read it.
    pub candidates: Vec<Vec<usize>>,
    /// Inputs that have left already.
    pub absent: Vec<usize>,
}

impl Reading {
    /// How it reads consecutive inputs, each a candidate of its own; `None` where there are fewer.
    pub(crate) fn part(&self, first: usize, count: usize) -> Option<Reading> {
        let fits = first.checked_add(count)? <= self.covariance.nrows();
        let part = |whole: &Mat<f64>| whole.submatrix(first, first, count, count).to_owned();
        fits.then(|| Reading {
            covariance: part(&self.covariance),
            gram: part(&self.gram),
            noise: self.noise,
            candidates: (0..count).map(|input| vec![input]).collect(),
            absent: Vec::new(),
        })
    }
}

/// One channel that left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    /// Index of the candidate.
    pub candidate: usize,
    /// Share of the MI that is left after it, between 0 and 1, over all consumers.
    pub mi_left: f64,
}

/// The live ranking of one group's channels.
pub struct Elimination {
    pub(super) states: Vec<State>,
    candidates: Vec<usize>,
    /// How many there were at the start.
    count: usize,
    total: f64,
    lost: f64,
}

impl Elimination {
    /// Starts with all candidates present. What leaves is forgotten, which costs least.
    ///
    /// # Errors
    /// A covariance is not positive definite.
    pub fn new(readings: Vec<Reading>, candidates: usize) -> Result<Self, LinalgError> {
        Elimination::start(readings, candidates, State::forgetting)
    }

    /// The same where what left may come back ([`Elimination::exchange`]).
    ///
    /// # Errors
    /// A covariance is not positive definite.
    pub fn returning(readings: Vec<Reading>, candidates: usize) -> Result<Self, LinalgError> {
        Elimination::start(readings, candidates, State::returning)
    }

    fn start(
        readings: Vec<Reading>,
        candidates: usize,
        state: fn(Reading) -> Result<State, LinalgError>,
    ) -> Result<Self, LinalgError> {
        let states: Vec<State> = readings
            .into_par_iter()
            .map(state)
            .collect::<Result<_, LinalgError>>()?;
        Ok(Elimination {
            total: states.iter().map(State::information).sum(),
            states,
            candidates: (0..candidates).collect(),
            count: candidates,
            lost: 0.0,
        })
    }

    /// MI between the candidates that were present at the start, with all other inputs, and the
    /// outputs, in nats, over all consumers.
    #[must_use]
    pub fn information(&self) -> f64 {
        self.total
    }

    /// Candidates that are left, ascending.
    #[must_use]
    pub fn left(&self) -> &[usize] {
        &self.candidates
    }

    /// The MI that leaves with a candidate, in nats, over all consumers.
    ///
    /// # Errors
    /// A precision lost its definiteness.
    pub fn loss(&self, candidate: usize) -> Result<f64, LinalgError> {
        self.states
            .iter()
            .map(|state| state.lost_with(candidate))
            .sum()
    }

    /// Removes the candidate with the smallest loss, the first of equals; `None` when none is left.
    ///
    /// # Errors
    /// A precision lost its definiteness.
    pub fn step(&mut self) -> Result<Option<Removal>, LinalgError> {
        let losses = self.candidates.par_iter().with_min_len(JUDGED_TOGETHER);
        let losses: Vec<f64> = losses
            .map(|&candidate| self.loss(candidate))
            .collect::<Result<_, LinalgError>>()?;
        let mut best: Option<(usize, f64)> = None;
        for (place, loss) in losses.into_iter().enumerate() {
            if best.is_none_or(|(_, least)| loss < least) {
                best = Some((place, loss));
            }
        }
        let Some((place, loss)) = best else {
            return Ok(None);
        };
        let candidate = self.candidates.remove(place);
        self.sweep(candidate, false)?;
        self.lost += loss;
        let share = if self.total > 0.0 {
            1.0 - self.lost / self.total
        } else {
            1.0
        };
        Ok(Some(Removal {
            candidate,
            mi_left: share.clamp(0.0, 1.0),
        }))
    }

    /// Per candidate, whether it is left.
    pub(super) fn stays(&self) -> Vec<bool> {
        let mut stays = vec![false; self.count];
        self.candidates
            .iter()
            .for_each(|&candidate| stays[candidate] = true);
        stays
    }

    /// Moves a candidate out of, or back into, what every consumer has left.
    pub(super) fn sweep(&mut self, candidate: usize, join: bool) -> Result<(), LinalgError> {
        let states = self.states.par_iter_mut();
        states.try_for_each(|state| state.sweep(candidate, join))
    }
}
