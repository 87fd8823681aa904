//! Images less a shift, and matrices of their elements.

use faer::Mat;
use faer::traits::ComplexField;

use crate::statistics::geometry::Run;

/// Images less the shift.
pub(super) struct Images<'a, T> {
    pub values: Vec<T>,
    shift: &'a [f64],
    channels: usize,
    grid: [usize; 2],
}

/// What products are made in.
pub(super) trait Number:
    ComplexField + Copy + Into<f64> + std::ops::Add<Output = Self> + Sync + Send
{
    /// The nearest number.
    fn of(value: f64) -> Self;
}

impl Number for f32 {
    #[allow(clippy::cast_possible_truncation)]
    #[inline]
    fn of(value: f64) -> Self {
        value as f32
    }
}

impl Number for f64 {
    #[inline]
    fn of(value: f64) -> Self {
        value
    }
}

impl<'a, T: Number> Images<'a, T> {
    pub fn new(values: &[f32], shift: &'a [f64], grid: [usize; 2]) -> Self {
        let elements = grid[0] * grid[1];
        let mut less = Vec::with_capacity(values.len());
        let channels = values
            .chunks_exact(elements.max(1))
            .zip(shift.iter().cycle());
        for (values, shift) in channels {
            let values = values.iter();
            less.extend(values.map(|&value| T::of(f64::from(value) - shift)));
        }
        Images {
            values: less,
            shift,
            channels: shift.len(),
            grid,
        }
    }

    /// A matrix with a column for each channel and, for each of some samples, rows for its
    /// elements.
    fn matrix(
        &self,
        samples: impl Iterator<Item = usize> + Clone,
        count: usize,
        fill: impl Fn(&[T], &mut [T]),
    ) -> Mat<T> {
        let elements = self.grid[0] * self.grid[1];
        let mut matrix = Mat::zeros(samples.clone().count() * count, self.channels);
        for channel in 0..self.channels {
            let column = matrix.col_as_slice_mut(channel);
            for (sample, target) in samples.clone().zip(column.chunks_exact_mut(count.max(1))) {
                let first = (sample * self.channels + channel) * elements;
                let values = self.values.get(first..first + elements);
                fill(values.unwrap_or_default(), target);
            }
        }
        matrix
    }

    /// The elements of a cell.
    pub fn rows(&self, [down, across]: &[Run; 2], samples: usize) -> Mat<T> {
        let width = self.grid[1];
        self.matrix(0..samples, down.count * across.count, |values, target| {
            let targets = target.chunks_exact_mut(across.count.max(1)).enumerate();
            for (row, target) in targets {
                let first = (down.start + row * down.step) * width + across.start;
                let values = values.get(first..).unwrap_or_default();
                match (across.step, values.get(..target.len())) {
                    (1, Some(values)) => target.copy_from_slice(values),
                    (step, _) => {
                        let pairs = target.iter_mut().zip(values.iter().step_by(step.max(1)));
                        pairs.for_each(|(to, &value)| *to = value);
                    }
                }
            }
        })
    }

    /// All elements of some samples, each as much as patches read it.
    pub fn weighted(&self, samples: &[usize], uses: &[usize]) -> Mat<T> {
        let weight = |&count: &usize| T::of((count as f64).sqrt());
        let weights: Vec<T> = uses.iter().map(weight).collect();
        self.matrix(samples.iter().copied(), uses.len(), |values, target| {
            let pairs = values.iter().zip(&weights);
            for (to, (&value, &weight)) in target.iter_mut().zip(pairs) {
                *to = value * weight;
            }
        })
    }

    /// Some elements of a sample, and what stands for the padding.
    pub fn outer(&self, sample: usize, elements: &[usize]) -> Mat<T> {
        let mut rows = self.matrix(
            [sample].into_iter(),
            elements.len() + 1,
            |values, target| {
                let found = elements.iter().filter_map(|&element| values.get(element));
                target
                    .iter_mut()
                    .zip(found)
                    .for_each(|(to, &value)| *to = value);
            },
        );
        for (channel, shift) in self.shift.iter().enumerate() {
            rows[(elements.len(), channel)] = T::of(-shift);
        }
        rows
    }
}
