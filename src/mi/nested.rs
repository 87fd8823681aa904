//! The MI of a whole row of sets, each in the next, at the cost of one.

use faer::Mat;

use crate::mi::matrix::{log_steps, log_steps_and_inverse};
use crate::mi::{MiError, Reading};

/// `I(X_S; Y)` in nats where S has the first w candidates of `order`, with all inputs that are of no
/// candidate and not absent, for every w from 0 on. `order` has every candidate once.
///
/// With the inputs in this order, the Cholesky factor of `Cov(X)` has those of all S at its top
/// left, and that of `inv(Cov(X | Y))`, made from the last input to the first, the inverses of those
/// of `Cov(X_S | Y)`: all determinants are products of its diagonal.
///
/// # Errors
/// The covariance is not positive definite.
pub fn nested(reading: &Reading, order: &[usize]) -> Result<Vec<f64>, MiError> {
    let size = reading.covariance.nrows();
    if size == 0 {
        return Ok(vec![0.0; order.len() + 1]);
    }
    let mut is_placed = vec![false; size];
    let candidates = reading.candidates.iter().flatten();
    for &input in candidates.chain(&reading.absent) {
        if let Some(placed) = is_placed.get_mut(input) {
            *placed = true;
        }
    }
    let mut inputs: Vec<usize> = (0..size).filter(|&input| !is_placed[input]).collect();
    let mut ends = vec![inputs.len()];
    for &candidate in order {
        let own = reading.candidates.get(candidate);
        inputs.extend(own.map(Vec::as_slice).unwrap_or_default());
        ends.push(inputs.len());
    }
    inputs.extend(&reading.absent);
    let covariance = Mat::from_fn(inputs.len(), inputs.len(), |i, j| {
        reading.covariance[(inputs[i], inputs[j])]
    });
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
