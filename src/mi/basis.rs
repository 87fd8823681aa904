//! The directions that tell most about the consumers' outputs, as an orthogonal basis of the
//! channels.

use faer::{Mat, Side};

use crate::linalg::LinalgError;
use crate::mi::Reading;

/// Share of the mean variance that is added to every channel's, so that channels without any have
/// an inverse.
const FLOOR: f64 = 1e-6;

/// An orthogonal matrix whose first rows are the directions to keep: for every `k`, no other `k`
/// combinations of the `channels` tell more about the outputs of a single consumer.
///
/// With `x = S^(1/2) z` of covariance `S`, the outputs `W x + noise` and `k` combinations of `z`,
/// the MI is largest for the first eigenvectors of `S^(1/2) W' W S^(1/2) / noise` (its logarithm is
/// a sum over eigenvalues, Chechik, Globerson, Tishby, Weiss, *Information bottleneck for Gaussian
/// variables*, 2005). In terms of `x` they are `V' S^(-1/2)`. What is told depends on the space
/// that the rows span alone, so that they are made orthogonal, one after the other. Of several
/// consumers `S` is the mean of the covariances at one mean variance, and the matrices of all are
/// summed: a compromise, exact where they see the same.
///
/// # Errors
/// Covariances that are not finite.
pub fn basis(readings: &[Reading], channels: usize) -> Result<Mat<f64>, LinalgError> {
    let fits = |reading: &&Reading| reading.covariance.nrows() == channels;
    let readings: Vec<&Reading> = readings.iter().filter(fits).collect();
    let mut covariance = Mat::<f64>::zeros(channels, channels);
    for reading in &readings {
        let trace: f64 = (0..channels).map(|i| reading.covariance[(i, i)]).sum();
        covariance += &reading.covariance * faer::Scale(channels as f64 / trace);
    }
    let count = readings.len() as f64;
    (0..channels).for_each(|i| covariance[(i, i)] += FLOOR * count);
    let failed = || LinalgError::NotPositiveDefinite { size: channels };
    if !covariance.norm_max().is_finite() {
        return Err(failed());
    }
    let power = |power: f64| -> Option<Mat<f64>> {
        let found = covariance.self_adjoint_eigen(Side::Lower).ok()?;
        let (vectors, values) = (found.U(), found.S().column_vector());
        let scaled = Mat::from_fn(channels, channels, |i, j| {
            vectors[(i, j)] * values[j].max(FLOOR).powf(power)
        });
        Some(scaled * vectors.transpose())
    };
    let (half, inverse) = power(0.5).zip(power(-0.5)).ok_or_else(failed)?;
    let mut told = Mat::<f64>::zeros(channels, channels);
    for reading in &readings {
        told += &half * &reading.gram * &half * faer::Scale(1.0 / reading.noise);
    }
    let found = told.self_adjoint_eigen(Side::Lower).map_err(|_| failed())?;
    // The largest comes last.
    let vectors = found.U();
    let most_first = Mat::from_fn(channels, channels, |i, j| vectors[(i, channels - 1 - j)]);
    let directions = &inverse * most_first;
    let orthogonal = directions.qr().compute_Q();
    if orthogonal.norm_max().is_finite() {
        Ok(orthogonal.transpose().to_owned())
    } else {
        Err(failed())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linalg::{log_determinant, solve_right};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const SIZE: usize = 6;

    fn random(rows: usize, columns: usize, rng: &mut ChaCha8Rng) -> Mat<f64> {
        Mat::from_fn(rows, columns, |_, _| {
            f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5
        })
    }

    fn reading(rng: &mut ChaCha8Rng) -> (Reading, Mat<f64>) {
        let (root, weight) = (random(SIZE, SIZE, rng), random(9, SIZE, rng));
        let reading = Reading {
            covariance: &root * root.transpose(),
            gram: weight.transpose() * &weight,
            noise: 0.05,
            candidates: (0..SIZE).map(|i| vec![i]).collect(),
            absent: Vec::new(),
        };
        (reading, weight)
    }

    /// By its definition: of Gaussian outputs `W x + e` with `e` of variance `noise`, and of `P x`.
    fn information(reading: &Reading, weight: &Mat<f64>, p: &Mat<f64>) -> f64 {
        let s = &reading.covariance;
        let noisy = |c: Mat<f64>| {
            let mut c = weight * c * weight.transpose();
            (0..c.nrows()).for_each(|i| c[(i, i)] += reading.noise);
            log_determinant(c.as_ref()).unwrap()
        };
        let across = s * p.transpose();
        let inner = p * &across;
        let known = solve_right(inner.as_ref(), across.as_ref()).unwrap();
        0.5 * (noisy(s.clone()) - noisy(s - known * across.transpose()))
    }

    #[test]
    fn the_basis_is_orthogonal() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let both = [reading(&mut rng).0, reading(&mut rng).0];
        for readings in [&both[..1], &both] {
            let basis = basis(readings, SIZE).unwrap();
            let difference = &basis * basis.transpose() - Mat::<f64>::identity(SIZE, SIZE);
            assert!(difference.norm_max() < 1e-12);
        }
    }

    #[test]
    fn no_other_directions_tell_a_consumer_more() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (reading, weight) = reading(&mut rng);
        let basis = basis(std::slice::from_ref(&reading), SIZE).unwrap();
        for kept in 1..SIZE {
            let told = information(&reading, &weight, &basis.subrows(0, kept).to_owned());
            for _ in 0..200 {
                let other = information(&reading, &weight, &random(kept, SIZE, &mut rng));
                assert!(other <= told + 1e-6, "{other} {told}");
            }
            // Nor do neighbours.
            for _ in 0..200 {
                let near =
                    basis.subrows(0, kept) + random(kept, SIZE, &mut rng) * faer::Scale(0.02);
                let other = information(&reading, &weight, &near);
                assert!(other <= told + 1e-6, "{other} {told}");
            }
        }
    }

    #[test]
    fn a_channel_without_variance_is_no_obstacle() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut reading, weight) = reading(&mut rng);
        for i in 0..SIZE {
            reading.covariance[(i, 2)] = 0.0;
            reading.covariance[(2, i)] = 0.0;
        }
        let basis = basis(std::slice::from_ref(&reading), SIZE).unwrap();
        // Nothing is left for the last direction to tell.
        let told = |kept: usize| information(&reading, &weight, &basis.subrows(0, kept).to_owned());
        let all = information(
            &reading,
            &weight,
            &Mat::from_fn(SIZE - 1, SIZE, |i, j| {
                f64::from(u8::from(j == i + usize::from(i >= 2)))
            }),
        );
        assert!(
            (told(SIZE - 1) - all).abs() < 1e-4 * all,
            "{} {all}",
            told(SIZE - 1)
        );
        assert!(told(SIZE - 2) < 0.999 * all);
    }
}
