//! Measured second moments as what selection and repair read: a covariance, and how far to trust
//! it.

use faer::Mat;

use crate::linalg::mirror;
use crate::linalg::triangle::{Lower, Triangle};

/// Mean and covariance with the shrinkage that the spread between samples asks for.
#[derive(Debug, Clone)]
pub struct Covariance {
    /// Means of the inputs.
    pub mean: Vec<f64>,
    /// Covariance of the inputs, as measured. Statistics are mostly these, hence no upper
    /// triangles.
    pub(super) lower: Triangle,
    /// Intensity between 0 (trust the data) and 1: Ledoit and Wolf's, or, of few rows, that of the
    /// best held-out prediction where it is larger.
    pub shrinkage: f64,
}

impl Covariance {
    /// Covariance of two inputs, as measured.
    ///
    /// # Panics
    /// When there are fewer inputs.
    #[must_use]
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.lower.at(i, j)
    }

    /// All of it, symmetric, as measured.
    #[must_use]
    pub fn matrix(&self) -> Mat<f64> {
        let mut matrix = self.lower.lower();
        mirror(&mut matrix);
        matrix
    }

    /// Mean variance of the inputs.
    #[must_use]
    pub fn mean_variance(&self) -> f64 {
        let variances = self.lower.columns().filter_map(|below| below.first());
        variances.sum::<f64>() / self.lower.size().max(1) as f64
    }

    /// Covariance of the channels alone where each has `kernel` inputs next to each other: the mean
    /// over the kernel positions.
    #[must_use]
    pub fn over_kernel(&self, kernel: usize) -> Covariance {
        let kernel = kernel.max(1);
        if kernel == 1 {
            return self.clone();
        }
        let channels = self.lower.size() / kernel;
        let mut lower = Triangle::new(channels);
        for j in 0..channels {
            let sums = lower.below(j);
            for position in 0..kernel {
                let own = self
                    .lower
                    .column(j * kernel + position)
                    .iter()
                    .step_by(kernel);
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
            sums.iter_mut().for_each(|sum| *sum /= kernel as f64);
        }
        let mean = (0..channels)
            .map(|i| self.mean.iter().skip(i * kernel).take(kernel).sum::<f64>() / kernel as f64)
            .collect();
        Covariance {
            mean,
            lower,
            shrinkage: self.shrinkage,
        }
    }

    /// Of the rows of several places together, each with its weight. Rows are those about the mean
    /// of all, or, where each place has a `mean` of its own, about that. `None` where the inputs do
    /// not fit.
    pub(crate) fn pooled(parts: &[(f64, &Covariance)], own_means: bool) -> Option<Covariance> {
        let (_, first) = parts.first()?;
        let size = first.lower.size();
        let total: f64 = parts.iter().map(|(weight, _)| weight).sum();
        let fits = |part: &Covariance| part.lower.size() == size && part.mean.len() == size;
        if !parts.iter().all(|(_, part)| fits(part)) || total <= 0.0 {
            return None;
        }
        let mean = |i: usize| {
            parts
                .iter()
                .map(|(weight, part)| weight / total * part.mean[i])
                .sum()
        };
        let mean: Vec<f64> = (0..size).map(mean).collect();
        let mut lower = Triangle::new(size);
        let mut shrinkage = 0.0;
        for (weight, part) in parts {
            let share = weight / total;
            shrinkage += share * part.shrinkage;
            let apart = part.mean.iter().zip(&mean).map(|(part, all)| part - all);
            let apart: Vec<f64> = if own_means {
                vec![0.0; size]
            } else {
                apart.collect()
            };
            for j in 0..size {
                let own = part.lower.column(j).iter().zip(&apart[j..]);
                let sums = lower.below(j).iter_mut().zip(own);
                sums.for_each(|(sum, (own, far))| *sum += share * (own + far * apart[j]));
            }
        }
        Some(Covariance {
            mean,
            lower,
            shrinkage,
        })
    }

    /// The covariance drawn towards a multiple of the identity by the shrinkage; positive definite
    /// unless all inputs are constant.
    #[must_use]
    pub fn shrunk(&self) -> Mat<f64> {
        let mut matrix = self.shrunk_lower();
        mirror(&mut matrix);
        matrix
    }

    /// The same without its upper triangle.
    pub(super) fn shrunk_lower(&self) -> Mat<f64> {
        let Shrinking { factor, floor, .. } = self.shrinking();
        let mut matrix = self.lower.lower();
        for column in 0..matrix.ncols() {
            let below = matrix.below(column);
            below.iter_mut().for_each(|value| *value *= factor);
            matrix[(column, column)] += floor;
        }
        matrix
    }

    /// The same, element by element.
    pub(crate) fn shrinking(&self) -> Shrinking<'_> {
        // A floor relative to the mean variance keeps the matrix invertible in f64.
        let floor = self.shrinkage.max(1e-7) * self.mean_variance();
        Shrinking {
            lower: &self.lower,
            factor: 1.0 - self.shrinkage,
            floor: floor.max(f64::MIN_POSITIVE.sqrt()),
        }
    }
}

/// A shrunk covariance that is computed where it is read.
pub(crate) struct Shrinking<'a> {
    lower: &'a Triangle,
    factor: f64,
    floor: f64,
}

impl Shrinking<'_> {
    /// One element.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let own = if i == j { self.floor } else { 0.0 };
        self.lower.at(i, j) * self.factor + own
    }

    /// The lower triangle of the rows and columns of `picked`, which ascend.
    pub fn lower(&self, picked: &[usize]) -> Mat<f64> {
        let mut lower = Mat::zeros(picked.len(), picked.len());
        for (j, &column) in picked.iter().enumerate() {
            let below = self.lower.column(column);
            let targets = lower.col_as_slice_mut(j).iter_mut().zip(picked).skip(j);
            targets.for_each(|(to, row)| *to = below[row - column] * self.factor);
            lower[(j, j)] += self.floor;
        }
        lower
    }
}
