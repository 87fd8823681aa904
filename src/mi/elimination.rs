//! Backward elimination: channels leave one by one, the least informative first, and every loss
//! is that of the set that is left.

use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::mi::delayed::Delayed;
use crate::mi::{MiError, inverse, log_determinant};

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

/// One channel that left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    /// Index of the candidate.
    pub candidate: usize,
    /// Share of the MI that is left after it, between 0 and 1, over all consumers.
    pub mi_left: f64,
    /// Sum over the consumers of the share of their output variance that cannot be rebuilt.
    pub unexplained: f64,
}

/// The live ranking of one group's channels.
pub struct Elimination {
    states: Vec<State>,
    candidates: Vec<usize>,
    total: f64,
    lost: f64,
}

/// One consumer: precisions of its inputs that are left.
struct State {
    /// Original index of every row.
    rows: Vec<usize>,
    /// Row of every original index; `usize::MAX` once it left.
    row_of: Vec<usize>,
    candidates: Vec<Vec<usize>>,
    /// `inv(Cov(X_S))`.
    precision: Delayed,
    /// `inv(Cov(X_S | Y))`.
    given_output: Delayed,
    /// `W*' W*` with the weights `W*` that best predict `Y` from `X_S`.
    best_gram: Delayed,
    /// Diagonals of the precisions, which every step reads.
    diagonals: [Vec<f64>; 2],
    /// Trace of `Cov(Y)`, and what of it is not explained by `X_S`.
    variance: f64,
    unexplained: f64,
    dead: usize,
}

const GONE: usize = usize::MAX;

/// Downdates that are made together where channels are single inputs.
const TOGETHER: usize = 32;

impl Elimination {
    /// Starts with all candidates present.
    ///
    /// # Errors
    /// A covariance is not positive definite.
    pub fn new(readings: Vec<Reading>, candidates: usize) -> Result<Self, MiError> {
        let states: Vec<State> = readings
            .into_par_iter()
            .map(State::new)
            .collect::<Result<_, MiError>>()?;
        let total = states
            .iter()
            .map(State::information)
            .sum::<Result<f64, MiError>>()?;
        Ok(Elimination {
            states,
            candidates: (0..candidates).collect(),
            total,
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
    pub fn loss(&self, candidate: usize) -> Result<f64, MiError> {
        self.states.iter().map(|state| state.loss(candidate)).sum()
    }

    /// Removes the candidate with the smallest loss, the first of equals; `None` when none is left.
    ///
    /// # Errors
    /// A precision lost its definiteness.
    pub fn step(&mut self) -> Result<Option<Removal>, MiError> {
        let mut best: Option<(usize, f64)> = None;
        for (place, &candidate) in self.candidates.iter().enumerate() {
            let loss = self.loss(candidate)?;
            if best.is_none_or(|(_, least)| loss < least) {
                best = Some((place, loss));
            }
        }
        let Some((place, loss)) = best else {
            return Ok(None);
        };
        let candidate = self.candidates.remove(place);
        self.states
            .par_iter_mut()
            .try_for_each(|state| state.remove(candidate))?;
        self.lost += loss;
        let share = if self.total > 0.0 {
            1.0 - self.lost / self.total
        } else {
            1.0
        };
        Ok(Some(Removal {
            candidate,
            mi_left: share.clamp(0.0, 1.0),
            unexplained: self.states.iter().map(State::unexplained_share).sum(),
        }))
    }
}

impl State {
    fn new(reading: Reading) -> Result<Self, MiError> {
        let n = reading.covariance.nrows();
        let precision = inverse(reading.covariance.as_ref())?;
        let given_output = Mat::from_fn(n, n, |i, j| {
            precision[(i, j)] + reading.gram[(i, j)] / reading.noise
        });
        let variance = inner(reading.gram.as_ref(), reading.covariance.as_ref());
        // The losses of channels of several inputs need more than the diagonals.
        let is_single = reading.candidates.iter().all(|inputs| inputs.len() <= 1);
        let together = if is_single { TOGETHER } else { 1 };
        let mut state = State {
            rows: (0..n).collect(),
            row_of: (0..n).collect(),
            candidates: reading.candidates,
            diagonals: [&precision, &given_output].map(diagonal),
            precision: Delayed::new(precision, together),
            given_output: Delayed::new(given_output, together),
            best_gram: Delayed::new(reading.gram, together),
            variance,
            unexplained: 0.0,
            dead: 0,
        };
        state.remove_inputs(&reading.absent)?;
        Ok(state)
    }

    /// `I(X_S; Y)` in nats.
    fn information(&self) -> Result<f64, MiError> {
        let alive: Vec<usize> = self
            .row_of
            .iter()
            .copied()
            .filter(|&row| row != GONE)
            .collect();
        let precision = self.precision.block(&alive);
        let given_output = self.given_output.block(&alive);
        let difference =
            log_determinant(given_output.as_ref())? - log_determinant(precision.as_ref())?;
        Ok(0.5 * difference)
    }

    fn unexplained_share(&self) -> f64 {
        if self.variance > 0.0 {
            (self.unexplained / self.variance).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    fn rows_of(&self, inputs: &[usize]) -> Vec<usize> {
        let rows = inputs
            .iter()
            .filter_map(|&input| self.row_of.get(input).copied());
        rows.filter(|&row| row != GONE).collect()
    }

    fn loss(&self, candidate: usize) -> Result<f64, MiError> {
        let inputs = self
            .candidates
            .get(candidate)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let rows = self.rows_of(inputs);
        let difference = match rows.as_slice() {
            [] => 0.0,
            [row] => {
                let [precision, given_output] = &self.diagonals;
                given_output[*row].ln() - precision[*row].ln()
            }
            rows => {
                log_determinant(self.given_output.block(rows).as_ref())?
                    - log_determinant(self.precision.block(rows).as_ref())?
            }
        };
        if difference.is_finite() {
            Ok(0.5 * difference.max(0.0))
        } else {
            Err(MiError::NotPositiveDefinite {
                size: self.rows.len(),
            })
        }
    }

    fn remove(&mut self, candidate: usize) -> Result<(), MiError> {
        let inputs = self.candidates.get(candidate).cloned().unwrap_or_default();
        self.remove_inputs(&inputs)
    }

    /// Schur complements of both precisions, and the refit of the best weights.
    fn remove_inputs(&mut self, inputs: &[usize]) -> Result<(), MiError> {
        let rows = self.rows_of(inputs);
        if rows.is_empty() {
            return Ok(());
        }
        let inverse_p = inverse(self.precision.block(&rows).as_ref())?;
        let inverse_h = inverse(self.given_output.block(&rows).as_ref())?;
        let columns_p = self.precision.columns(&rows);
        let columns_b = self.best_gram.columns(&rows);
        let own = self.best_gram.block(&rows);
        self.unexplained += inner(inverse_p.as_ref(), own.as_ref());
        // W* loses W*_c inv(P_cc) P_c:, so its gram B becomes B - U V' - V U' with V the columns
        // P_:c inv(P_cc) and U = B_:c - V B_cc / 2.
        let spread = &columns_p * &inverse_p;
        let half = &columns_b - (&spread * &own) * faer::Scale(0.5);
        let columns_h = self.given_output.columns(&rows);
        let spread_h = &columns_h * &inverse_h;
        let [diagonal_p, diagonal_h] = &mut self.diagonals;
        subtract_diagonal(diagonal_p, &columns_p, &spread);
        subtract_diagonal(diagonal_h, &columns_h, &spread_h);
        self.precision.subtract(&columns_p, &spread, false);
        self.given_output.subtract(&columns_h, &spread_h, false);
        self.best_gram.subtract(&half, &spread, true);
        for row in rows {
            self.row_of[self.rows[row]] = GONE;
            for matrix in self.matrices() {
                matrix.clear(row);
            }
            self.dead += 1;
        }
        if self.dead * 4 > self.rows.len() {
            self.compact();
        }
        Ok(())
    }

    fn matrices(&mut self) -> [&mut Delayed; 3] {
        [
            &mut self.precision,
            &mut self.given_output,
            &mut self.best_gram,
        ]
    }

    /// Drops the rows of what left.
    fn compact(&mut self) {
        let alive: Vec<usize> = (0..self.rows.len())
            .filter(|&row| self.row_of[self.rows[row]] != GONE)
            .collect();
        for matrix in self.matrices() {
            matrix.keep(&alive);
        }
        for diagonal in &mut self.diagonals {
            *diagonal = alive.iter().map(|&row| diagonal[row]).collect();
        }
        self.rows = alive.iter().map(|&row| self.rows[row]).collect();
        for (row, &input) in self.rows.iter().enumerate() {
            self.row_of[input] = row;
        }
        self.dead = 0;
    }
}

fn diagonal(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).collect()
}

/// The diagonal of `left right'` is subtracted.
fn subtract_diagonal(diagonal: &mut [f64], left: &Mat<f64>, right: &Mat<f64>) {
    for k in 0..left.ncols() {
        let pairs = left.col_as_slice(k).iter().zip(right.col_as_slice(k));
        for (value, (left, right)) in diagonal.iter_mut().zip(pairs) {
            *value -= left * right;
        }
    }
}

/// Sum of the products of all elements.
fn inner(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> f64 {
    (0..left.ncols())
        .map(|j| {
            (0..left.nrows())
                .map(|i| left[(i, j)] * right[(i, j)])
                .sum::<f64>()
        })
        .sum()
}
