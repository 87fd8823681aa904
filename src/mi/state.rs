//! One consumer of a group whose channels leave and come back.

use faer::Mat;

use crate::linalg::Swept;
use crate::linalg::log_steps_and_inverse;
use crate::linalg::{LinalgError, log_determinant};
use crate::mi::Reading;

/// Products of columns that are made together where channels are single inputs.
const TOGETHER: usize = 32;

const GONE: usize = usize::MAX;

/// `Cov(X)` and `Cov(X | Y)` of its inputs, swept on those that are left.
pub(super) struct State {
    pub candidates: Vec<Vec<usize>>,
    /// Of `Cov(X)` and of `Cov(X | Y)`.
    pub sides: [Swept; 2],
    /// Original index of every row.
    rows: Vec<usize>,
    /// Row of every original index; `GONE` once it is forgotten.
    row_of: Vec<usize>,
    dead: usize,
    /// MI between the inputs that were present at the start and the outputs, in nats.
    information: f64,
    /// What is only known where inputs may come back.
    returning: Option<Returning>,
}

struct Returning {
    /// Which inputs are left.
    is_in: Vec<bool>,
    gram: Mat<f64>,
    /// Trace of `Cov(Y)`.
    variance: f64,
}

impl State {
    /// Forgets inputs that leave.
    pub fn forgetting(reading: Reading) -> Result<Self, LinalgError> {
        State::new(reading, false)
    }

    /// Keeps them in its tables.
    pub fn returning(reading: Reading) -> Result<Self, LinalgError> {
        State::new(reading, true)
    }

    fn new(reading: Reading, returns: bool) -> Result<Self, LinalgError> {
        let n = reading.covariance.nrows();
        let returning = returns.then(|| Returning {
            is_in: vec![true; n],
            variance: inner(&reading.gram, &reading.covariance),
            gram: reading.gram.clone(),
        });
        let (steps, precision) = log_steps_and_inverse(reading.covariance.as_ref())?;
        drop(reading.covariance);
        let mut given_output = reading.gram;
        for column in 0..n {
            let pairs = given_output.col_as_slice_mut(column).iter_mut();
            let pairs = pairs.zip(precision.col_as_slice(column));
            pairs.for_each(|(gram, own)| *gram = *gram / reading.noise + own);
        }
        let all = log_determinant(given_output.as_ref())? + steps.iter().sum::<f64>();
        // The losses of channels of several inputs need more than the diagonals.
        let is_single = reading.candidates.iter().all(|inputs| inputs.len() <= 1);
        let together = if is_single { TOGETHER } else { 1 };
        let mut state = State {
            sides: [precision, given_output].map(|side| Swept::of_precision(side, together)),
            rows: (0..n).collect(),
            row_of: (0..n).collect(),
            candidates: reading.candidates,
            dead: 0,
            information: 0.5 * all,
            returning,
        };
        state.information -= state.lost(&reading.absent);
        state.sweep_inputs(&reading.absent, false)?;
        Ok(state)
    }

    /// `I(X_S; Y)` in nats of the inputs that were present at the start.
    pub fn information(&self) -> f64 {
        self.information
    }

    fn rows_of(&self, inputs: &[usize]) -> Vec<usize> {
        let rows = inputs
            .iter()
            .filter_map(|&input| self.row_of.get(input).copied());
        rows.filter(|&row| row != GONE).collect()
    }

    /// What leaves with a candidate that is left, in nats.
    pub fn lost_with(&self, candidate: usize) -> Result<f64, LinalgError> {
        let inputs = self.candidates.get(candidate).map(Vec::as_slice);
        let lost = self.lost(inputs.unwrap_or_default());
        let size = self.rows.len();
        if lost.is_finite() {
            Ok(lost.max(0.0))
        } else {
            Err(LinalgError::NotPositiveDefinite { size })
        }
    }

    /// What leaves with inputs that are left; not a number where rounding hides it.
    pub fn lost(&self, inputs: &[usize]) -> f64 {
        let [prior, given_output] = &self.sides;
        let of_one = |row: usize| 0.5 * (given_output.own(row) / prior.own(row)).ln();
        // Most candidates are one input, and most steps ask for all of them.
        if let [input] = inputs {
            let row = self.row_of.get(*input).filter(|&&row| row != GONE);
            return row.map_or(0.0, |&row| of_one(row));
        }
        let rows = self.rows_of(inputs);
        match rows.as_slice() {
            [] => 0.0,
            [row] => of_one(*row),
            rows => {
                let [prior, given_output] = [prior, given_output].map(|side| {
                    let precision = side.block(rows) * faer::Scale(-1.0);
                    log_determinant(precision.as_ref()).unwrap_or(f64::NAN)
                });
                0.5 * (given_output - prior)
            }
        }
    }

    /// Moves a candidate's inputs out of what is left, or back.
    pub fn sweep(&mut self, candidate: usize, join: bool) -> Result<(), LinalgError> {
        let inputs = self.candidates.get(candidate).cloned().unwrap_or_default();
        self.sweep_inputs(&inputs, join)
    }

    fn sweep_inputs(&mut self, inputs: &[usize], join: bool) -> Result<(), LinalgError> {
        let rows = self.rows_of(inputs);
        if rows.is_empty() {
            return Ok(());
        }
        for side in &mut self.sides {
            side.sweep(&rows, join)?;
        }
        match &mut self.returning {
            Some(returning) => rows.iter().for_each(|&row| returning.is_in[row] = join),
            None => self.forget(&rows),
        }
        Ok(())
    }

    /// Drops rows now and then: the tables shrink with what is left.
    fn forget(&mut self, rows: &[usize]) {
        for &row in rows {
            self.row_of[self.rows[row]] = GONE;
        }
        self.dead += rows.len();
        if self.dead * 4 <= self.rows.len() {
            return;
        }
        let alive: Vec<usize> = (0..self.rows.len())
            .filter(|&row| self.row_of[self.rows[row]] != GONE)
            .collect();
        self.sides.iter_mut().for_each(|side| side.keep(&alive));
        self.rows = alive.iter().map(|&row| self.rows[row]).collect();
        for (row, &input) in self.rows.iter().enumerate() {
            self.row_of[input] = row;
        }
        self.dead = 0;
    }

    /// Share of the outputs' variance that cannot be rebuilt from what is left; 0 where what left
    /// is forgotten.
    pub fn unexplained_share(&self) -> f64 {
        let Some(known) = &self.returning else {
            return 0.0;
        };
        let out: Vec<usize> = (0..known.is_in.len())
            .filter(|&i| !known.is_in[i])
            .collect();
        let [prior, _] = &self.sides;
        let rest = prior.block(&out);
        let mut sum = 0.0;
        for (j, &column) in out.iter().enumerate() {
            let pairs = out.iter().zip(rest.col_as_slice(j));
            sum += pairs
                .map(|(&row, rest)| known.gram[(row, column)] * rest)
                .sum::<f64>();
        }
        if known.variance > 0.0 {
            (sum / known.variance).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// Sum of the products of all elements.
fn inner(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
    let column = |j: usize| {
        let pairs = left.col_as_slice(j).iter().zip(right.col_as_slice(j));
        pairs.map(|(a, b)| a * b).sum::<f64>()
    };
    (0..left.ncols()).map(column).sum()
}
