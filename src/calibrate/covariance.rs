//! Measured second moments as what selection and repair read: a covariance, and how far to trust it.

use faer::Mat;

/// Mean and covariance with the shrinkage that the spread between samples asks for.
#[derive(Debug, Clone)]
pub struct Covariance {
    /// Means of the inputs.
    pub mean: Vec<f64>,
    /// Covariance of the inputs, symmetric, as measured.
    pub matrix: Mat<f64>,
    /// Intensity between 0 (trust the data) and 1: Ledoit and Wolf's, or, of few rows, that of the best
    /// held-out prediction where it is larger.
    pub shrinkage: f64,
}

impl Covariance {
    /// Mean variance of the inputs.
    #[must_use]
    pub fn mean_variance(&self) -> f64 {
        let size = self.matrix.nrows().max(1) as f64;
        self.matrix.diagonal().column_vector().iter().sum::<f64>() / size
    }

    /// Covariance of the channels alone where each has `taps` inputs next to each other: the mean
    /// over the taps.
    #[must_use]
    pub fn over_taps(&self, taps: usize) -> Covariance {
        let taps = taps.max(1);
        if taps == 1 {
            return self.clone();
        }
        let channels = self.matrix.nrows() / taps;
        let mut matrix = Mat::zeros(channels, channels);
        for j in 0..channels {
            let sums = matrix.col_as_slice_mut(j);
            for tap in 0..taps {
                let column = self.matrix.col_as_slice(j * taps + tap).iter();
                let own = column.skip(tap).step_by(taps);
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
            sums.iter_mut().for_each(|sum| *sum /= taps as f64);
        }
        let mean = (0..channels)
            .map(|i| self.mean.iter().skip(i * taps).take(taps).sum::<f64>() / taps as f64)
            .collect();
        Covariance {
            mean,
            matrix,
            shrinkage: self.shrinkage,
        }
    }

    /// The covariance drawn towards a multiple of the identity by the shrinkage; positive definite
    /// unless all inputs are constant.
    #[must_use]
    pub fn shrunk(&self) -> Mat<f64> {
        self.clone().into_shrunk()
    }

    /// The same in the place of this one.
    #[must_use]
    pub fn into_shrunk(mut self) -> Mat<f64> {
        let Shrinking { factor, floor, .. } = self.shrinking();
        for column in 0..self.matrix.ncols() {
            let values = self.matrix.col_as_slice_mut(column);
            values.iter_mut().for_each(|value| *value *= factor);
            self.matrix[(column, column)] += floor;
        }
        self.matrix
    }

    /// The same, element by element.
    pub(crate) fn shrinking(&self) -> Shrinking<'_> {
        // A floor relative to the mean variance keeps the matrix invertible in f64.
        let floor = self.shrinkage.max(1e-7) * self.mean_variance();
        Shrinking {
            matrix: &self.matrix,
            factor: 1.0 - self.shrinkage,
            floor: floor.max(f64::MIN_POSITIVE.sqrt()),
        }
    }
}

/// A shrunk covariance that is computed where it is read.
pub(crate) struct Shrinking<'a> {
    matrix: &'a Mat<f64>,
    factor: f64,
    floor: f64,
}

impl Shrinking<'_> {
    /// One element.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let own = if i == j { self.floor } else { 0.0 };
        self.matrix[(i, j)] * self.factor + own
    }
}
