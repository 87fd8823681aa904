/// A covariance that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinalgError {
    /// A matrix that should be positive definite is not.
    #[error(
        "a covariance of {size} channels is not positive definite: the calibration data give no \
         finite statistics there; use more, or more varied, calibration samples"
    )]
    NotPositiveDefinite {
        /// Rows of the matrix.
        size: usize,
    },
}
