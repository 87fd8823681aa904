//! Statistics in another basis of the channels.

use std::collections::BTreeSet;

use faer::{Mat, MatRef};

use crate::statistics::subsamples::Subsamples;
use crate::statistics::{Covariance, Observed, Statistics};

impl Statistics {
    /// Turns what was seen at the inputs of consumers, each with the places of `bases`: from here
    /// on, channel `i` is the sum of `basis[i, j]` times what channel `j` was. A place is the block
    /// of inputs, or the first of the inputs in a single block, and the basis that it gets; a
    /// consumer without any has the first basis everywhere. Bases are orthogonal, so that shrinkage
    /// stays what it is.
    pub(crate) fn turn(&mut self, readers: &[(usize, Vec<(usize, usize)>)], bases: &[Mat<f64>]) {
        let mut seen = BTreeSet::new();
        for (consumer, places) in readers {
            let Some(index) = self.of_consumer.get(*consumer).copied().flatten() else {
                continue;
            };
            let Some(observed) = self
                .covariances
                .get_mut(index)
                .filter(|_| seen.insert(index))
            else {
                continue;
            };
            observed.turn(places, bases);
        }
    }
}

impl Observed {
    fn turn(&mut self, places: &[(usize, usize)], bases: &[Mat<f64>]) {
        let Some(first) = bases.first() else {
            return;
        };
        let kernel = self.kernel.max(1);
        let inputs = self.blocks.first().map_or(0, |block| block.mean.len()) / kernel;
        // Parts of one block turn together.
        let whole = (inputs > first.nrows()).then(|| {
            let mut whole = Mat::<f64>::identity(inputs, inputs);
            for &(start, basis) in places {
                let Some(basis) = bases.get(basis) else {
                    continue;
                };
                let size = basis.nrows();
                if start + size <= inputs {
                    whole
                        .submatrix_mut(start, start, size, size)
                        .copy_from(basis);
                }
            }
            whole
        });
        let of_block = |block: usize| match &whole {
            Some(whole) => Some(whole),
            None if places.is_empty() => Some(first),
            None => {
                let place = places.iter().find(|(own, _)| *own == block);
                place.and_then(|&(_, basis)| bases.get(basis))
            }
        };
        for (index, block) in self.blocks.iter_mut().enumerate() {
            if let Some(basis) = of_block(index) {
                block.turn(basis.as_ref(), kernel);
            }
        }
        for (index, parts) in self.parts.iter_mut().enumerate() {
            if let Some(basis) = of_block(index) {
                parts.turn(basis.as_ref());
            }
        }
    }
}

impl Covariance {
    /// The same of other channels, of `kernel` inputs each.
    fn turn(&mut self, basis: MatRef<'_, f64>, kernel: usize) {
        let channels = basis.nrows();
        if self.mean.len() != channels * kernel {
            return;
        }
        turn_each(&mut self.mean, basis, kernel);
        let mut matrix = self.matrix();
        for left in 0..kernel {
            for right in 0..kernel {
                let at = |channel: usize, position: usize| channel * kernel + position;
                let block = Mat::from_fn(channels, channels, |i, j| {
                    matrix[(at(i, left), at(j, right))]
                });
                let turned = basis * block * basis.transpose();
                for j in 0..channels {
                    for i in 0..channels {
                        matrix[(at(i, left), at(j, right))] = turned[(i, j)];
                    }
                }
            }
        }
        self.lower.set_lower(&matrix);
    }
}

impl Subsamples {
    /// The same of other channels.
    fn turn(&mut self, basis: MatRef<'_, f64>) {
        let kernel = self.kernel;
        for part in &mut self.parts {
            if part.products.size() != basis.nrows() {
                continue;
            }
            turn_each(&mut part.sum, basis, kernel);
            let mut whole = part.products.lower();
            crate::linalg::mirror(&mut whole);
            let turned = basis * whole * basis.transpose();
            part.products.set_lower(&turned);
        }
    }
}

/// Turns a value of each input, kernel position by kernel position.
fn turn_each(values: &mut [f64], basis: MatRef<'_, f64>, kernel: usize) {
    let channels = basis.nrows();
    for position in 0..kernel {
        let one = Mat::from_fn(channels, 1, |channel, _| {
            values[channel * kernel + position]
        });
        let turned = basis * one;
        for channel in 0..channels {
            values[channel * kernel + position] = turned[(channel, 0)];
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statistics::{Moments, Observed};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const CHANNELS: usize = 4;
    const KERNEL: usize = 3;

    fn observed(rows: &Mat<f64>, samples: usize) -> Observed {
        let mut moments = Moments::new(rows.ncols()).dealt(KERNEL);
        moments.add(rows.clone(), samples);
        Observed {
            kernel: KERNEL,
            blocks: vec![moments.covariance().unwrap()],
            parts: vec![moments.into_parts().unwrap()],
            ranked: Vec::new(),
        }
    }

    /// The truth is what rows show that were turned before they were seen.
    #[test]
    fn turned_statistics_are_those_of_turned_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut draw = || f64::from(rng.next_u32()) / f64::from(u32::MAX) + 0.3;
        let rows = Mat::from_fn(60, CHANNELS * KERNEL, |_, j| draw() * (1 + j % 5) as f64);
        let basis = Mat::from_fn(CHANNELS, CHANNELS, |_, _| draw() - 0.8)
            .qr()
            .compute_Q();
        let turned = Mat::from_fn(60, CHANNELS * KERNEL, |row, column| {
            let (channel, position) = (column / KERNEL, column % KERNEL);
            let all =
                (0..CHANNELS).map(|j| basis[(channel, j)] * rows[(row, j * KERNEL + position)]);
            all.sum()
        });
        let mut statistics = Statistics {
            covariances: vec![observed(&rows, 15)],
            of_consumer: vec![None, Some(0), Some(0)],
            samples: 15,
        };
        let readers = [1, 2].map(|consumer| (consumer, Vec::new()));
        statistics.turn(&readers, std::slice::from_ref(&basis));
        let (found, expected) = (statistics.of(1).unwrap(), observed(&turned, 15));
        let near = |a: &Mat<f64>, b: &Mat<f64>| assert!((a - b).norm_max() < 1e-10);
        near(&found.blocks[0].matrix(), &expected.blocks[0].matrix());
        let (means, wanted) = (&found.blocks[0].mean, &expected.blocks[0].mean);
        assert!(means.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12));
        // The same shrinkage: no basis is closer to the identity than another.
        assert!((found.blocks[0].shrinkage - expected.blocks[0].shrinkage).abs() < 1e-12);
        for part in 0..5 {
            let [found, expected] = [found, &expected].map(|o| o.shrunk_without(0, part).unwrap());
            near(&found, &expected);
        }
    }
}
