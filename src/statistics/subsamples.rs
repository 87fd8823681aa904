//! The samples dealt to five parts: what tells how far a figure of all of them is to be trusted.
//!
//! Selection reads the channels only, the mean over the positions of their kernel, so that a part
//! keeps no more: an input counts as a row of its own for each kernel position.

use std::io;

use faer::Mat;

use crate::linalg::products::Rows;
use crate::linalg::triangle::{Lower, Triangle};
use crate::statistics::folds::Seen;

/// So many parts; sample number i is in part i modulo this.
pub(super) const SUBSAMPLES: usize = 5;

/// Sums over the samples of each part.
#[derive(Debug, Clone)]
pub(super) struct Subsamples {
    /// Inputs per channel.
    pub(super) kernel: usize,
    pub(super) parts: Vec<Subsample>,
}

#[derive(Debug, Clone)]
pub(super) struct Subsample {
    rows: usize,
    /// Sum of the rows, for each input.
    pub(super) sum: Vec<f64>,
    /// Sum of the rows' outer products over channels, also over kernel positions.
    pub(super) products: Triangle,
}

impl Subsamples {
    pub fn new(inputs: usize, kernel: usize) -> Self {
        Subsamples::stored(inputs, kernel, &[0; SUBSAMPLES])
    }

    /// Room for the sums of a file, with the rows of each part.
    pub fn stored(inputs: usize, kernel: usize, rows: &[usize]) -> Self {
        let kernel = kernel.max(1);
        let part = |&rows: &usize| Subsample {
            rows,
            sum: vec![0.0; inputs],
            products: Triangle::in_memory(inputs / kernel),
        };
        Subsamples {
            kernel,
            parts: rows.iter().map(part).collect(),
        }
    }

    /// Rows of each part.
    pub fn rows(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.rows).collect()
    }

    /// Whether the parts' products add up to those of all inputs.
    pub fn is_whole(&self) -> bool {
        self.kernel == 1
    }

    /// The parts that have rows, as folds of all inputs.
    pub fn folds(&self) -> Vec<Seen<'_>> {
        let parts = self.parts.iter().filter(|part| part.rows > 0);
        parts.map(|part| (part.rows, &part.products)).collect()
    }

    /// The products of all parts together.
    pub fn whole(&self) -> Triangle {
        let size = self.parts.first().map_or(0, |part| part.products.size());
        let mut whole = Triangle::in_memory(size);
        self.parts.iter().for_each(|part| whole.add(&part.products));
        whole
    }

    /// Adds rows of whole samples, of which the first has number `first`.
    pub fn add(&mut self, rows: &Rows<'_>, samples: usize, first: usize) {
        let per_sample = rows.count() / samples.max(1);
        for number in 0..SUBSAMPLES.min(samples) {
            let mine: Vec<usize> = (number..samples).step_by(SUBSAMPLES).collect();
            self.add_sums(rows, &mine, per_sample, first);
            if let Some(part) = self.parts.get_mut((first + number) % SUBSAMPLES) {
                let rows = rows.stacked(&mine, per_sample, self.kernel);
                rows.add_all(&mut part.products);
            }
        }
    }

    /// Adds one sample of which the products of all inputs are known.
    pub fn add_known(
        &mut self,
        rows: &Rows<'_>,
        own: &Mat<f64>,
        samples: usize,
        first: usize,
        sample: usize,
    ) {
        self.add_sums(rows, &[sample], rows.count() / samples.max(1), first);
        let kernel = self.kernel;
        let Some(part) = self.parts.get_mut((first + sample) % SUBSAMPLES) else {
            return;
        };
        if kernel == 1 {
            return part.products.add_lower(own);
        }
        let channels = own.ncols() / kernel;
        let over_kernel = |i: usize, j: usize| -> f64 {
            (0..kernel)
                .map(|t| own[(i * kernel + t, j * kernel + t)])
                .sum()
        };
        for column in 0..channels {
            let below = part.products.below(column).iter_mut().zip(column..);
            below.for_each(|(sum, row)| *sum += over_kernel(row, column));
        }
    }

    /// Counts and sums the rows of samples that are all of one part.
    fn add_sums(&mut self, rows: &Rows<'_>, samples: &[usize], per_sample: usize, first: usize) {
        let number = samples
            .first()
            .map_or(0, |sample| (first + sample) % SUBSAMPLES);
        let Some(part) = self.parts.get_mut(number) else {
            return;
        };
        part.rows += samples.len() * per_sample;
        for (column, sum) in part.sum.iter_mut().enumerate() {
            let of =
                |sample: &usize| rows.sum(column, sample * per_sample..(sample + 1) * per_sample);
            *sum += samples.iter().map(of).sum::<f64>();
        }
    }

    /// Adds the parts of another run, whose rows are `by` too large and whose first sample gets the
    /// number `first`.
    pub fn merge(&mut self, other: Subsamples, by: &[f64], first: usize) {
        for (number, mut more) in other.parts.into_iter().enumerate() {
            more.shift(by, self.kernel);
            let Some(part) = self.parts.get_mut((first + number) % SUBSAMPLES) else {
                continue;
            };
            part.products.add(&more.products);
            let pairs = part.sum.iter_mut().zip(&more.sum);
            pairs.for_each(|(sum, more)| *sum += more);
            part.rows += more.rows;
        }
    }

    /// Shows all sums, part by part.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&mut [f64]) -> io::Result<()>) -> io::Result<()> {
        for part in &mut self.parts {
            visit(&mut part.sum)?;
            visit(&mut part.products.values)?;
        }
        Ok(())
    }

    /// The covariance of the channels, the mean over the kernel positions, in the rows of all parts
    /// but `left_out`; none where nothing is left.
    pub fn without(&self, left_out: usize) -> Option<Triangle> {
        let parts = || {
            let all = self.parts.iter().enumerate();
            all.filter_map(move |(index, part)| (index != left_out).then_some(part))
        };
        let rows: usize = parts().map(|part| part.rows).sum();
        let first = self.parts.first().filter(|_| rows > 0)?;
        let (size, count) = (first.products.size(), (rows * self.kernel) as f64);
        let mean = |input: usize| {
            let sums = parts().filter_map(|part| part.sum.get(input));
            sums.sum::<f64>() / rows as f64
        };
        let of_tap = |position: usize| -> Vec<f64> {
            (0..size)
                .map(|c| mean(c * self.kernel + position))
                .collect()
        };
        let means: Vec<Vec<f64>> = (0..self.kernel).map(of_tap).collect();
        let mut left = Triangle::new(size);
        let mut columns: Vec<_> = parts().map(|part| part.products.columns()).collect();
        for j in 0..size {
            let below = left.below(j);
            for more in columns.iter_mut().filter_map(Iterator::next) {
                let pairs = below.iter_mut().zip(more);
                pairs.for_each(|(sum, more)| *sum += more);
            }
            below.iter_mut().for_each(|value| *value /= count);
            for means in &means {
                let own = means[j] / self.kernel as f64;
                let pairs = below.iter_mut().zip(&means[j..]);
                pairs.for_each(|(value, mean)| *value -= own * mean);
            }
        }
        Some(left)
    }
}

impl Subsample {
    /// Its sums where every row is less by `by`.
    fn shift(&mut self, by: &[f64], kernel: usize) {
        let count = self.rows as f64;
        let (by_channel, sums): (Vec<&[f64]>, Vec<&[f64]>) = by
            .chunks_exact(kernel)
            .zip(self.sum.chunks_exact(kernel))
            .unzip();
        for j in 0..self.products.size() {
            for (i, value) in (j..).zip(self.products.below(j)) {
                let (a, b) = (by_channel[i], by_channel[j]);
                let (left, right) = (sums[i], sums[j]);
                let change =
                    (0..kernel).map(|t| count * a[t] * b[t] - left[t] * b[t] - a[t] * right[t]);
                *value += change.sum::<f64>();
            }
        }
        for (sum, by) in self.sum.iter_mut().zip(by) {
            *sum -= count * by;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statistics::moments::Moments;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const CHANNELS: usize = 3;

    /// Rows of samples with means far from zero.
    fn data(rows: usize, inputs: usize, seed: u64) -> Mat<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Mat::from_fn(rows, inputs, |_, j| {
            7.0 * j as f64 + f64::from(rng.next_u32()) / f64::from(u32::MAX) * (1 + j % 3) as f64
        })
    }

    /// Directly: for every kernel position the covariance of the rows of the samples that are left,
    /// then the mean.
    fn direct(data: &Mat<f64>, per_sample: usize, kernel: usize, left_out: usize) -> Mat<f64> {
        let rows: Vec<usize> = (0..data.nrows())
            .filter(|row| row / per_sample % SUBSAMPLES != left_out)
            .collect();
        let count = rows.len() as f64;
        let mean = |column: usize| rows.iter().map(|&row| data[(row, column)]).sum::<f64>() / count;
        Mat::from_fn(CHANNELS, CHANNELS, |i, j| {
            let of_tap = |position: usize| {
                let (i, j) = (i * kernel + position, j * kernel + position);
                let (a, b) = (mean(i), mean(j));
                let products = rows
                    .iter()
                    .map(|&row| (data[(row, i)] - a) * (data[(row, j)] - b));
                products.sum::<f64>() / count
            };
            (0..kernel).map(of_tap).sum::<f64>() / kernel as f64
        })
    }

    fn assert_near(found: &Mat<f64>, expected: &Mat<f64>) {
        // The lower triangle counts.
        for j in 0..expected.ncols() {
            for i in j..expected.nrows() {
                let difference = (found[(i, j)] - expected[(i, j)]).abs();
                assert!(difference < 1e-9, "{difference}");
            }
        }
    }

    #[test]
    fn what_is_left_without_a_part_is_that_of_its_rows() {
        // Few rows of a sample and many, one input of a channel and several, batches of any size.
        for (per_sample, kernel) in [(2, 1), (9, 1), (4, 4), (20, 4)] {
            let (samples, inputs) = (13, CHANNELS * kernel);
            let all = data(samples * per_sample, inputs, 3);
            let mut moments = Moments::new(inputs).dealt(kernel);
            let mut from = 0;
            for batch in [1, 7, 5] {
                let rows = all.as_ref().subrows(from * per_sample, batch * per_sample);
                moments.add(rows.to_owned(), batch);
                from += batch;
            }
            let whole = moments.covariance().unwrap().over_kernel(kernel).matrix();
            assert_near(&whole, &direct(&all, per_sample, kernel, SUBSAMPLES));
            let parts = moments.into_parts().unwrap();
            let rows: Vec<usize> = [3, 3, 3, 2, 2].map(|count| count * per_sample).into();
            assert_eq!(parts.rows(), rows);
            for part in 0..SUBSAMPLES {
                let found = parts.without(part).unwrap().lower();
                assert_near(&found, &direct(&all, per_sample, kernel, part));
            }
        }
    }

    #[test]
    fn parts_of_runs_are_dealt_on_from_one_to_the_next() {
        for (per_sample, kernel) in [(2, 1), (9, 1), (4, 4)] {
            let inputs = CHANNELS * kernel;
            let all = data(14 * per_sample, inputs, 4);
            let run = |from: usize, samples: usize| {
                let mut moments = Moments::new(inputs).dealt(kernel).mergeable();
                let rows = all
                    .as_ref()
                    .subrows(from * per_sample, samples * per_sample);
                moments.add(rows.to_owned(), samples);
                moments
            };
            let mut merged = run(0, 4);
            merged.merge(run(4, 3)).unwrap();
            merged.merge(run(7, 7)).unwrap();
            let parts = merged.into_parts().unwrap();
            for part in 0..SUBSAMPLES {
                let found = parts.without(part).unwrap().lower();
                assert_near(&found, &direct(&all, per_sample, kernel, part));
            }
        }
    }

    #[test]
    fn without_the_only_part_nothing_is_left() {
        let mut moments = Moments::new(CHANNELS).dealt(1);
        moments.add(data(2, CHANNELS, 1), 1);
        let parts = moments.into_parts().unwrap();
        assert!(parts.without(0).is_none());
        assert!(parts.without(1).is_some());
    }
}
