/// Why what a tap handed out cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Values that are not numbers inside the model.
    #[error(
        "the model computes {value} at '{tensor}' on the calibration data: check that they are \
         preprocessed as the model expects"
    )]
    NotFinite {
        /// The tensor inside the model.
        tensor: String,
        /// The value.
        value: f64,
    },
    /// A tensor whose shape changed between two runs.
    #[error(
        "samples of '{tensor}' have shape {shape:?}, which does not fit the shape seen first: give \
         calibration samples of one shape"
    )]
    Shape {
        /// The tensor inside the model.
        tensor: String,
        /// The shape found.
        shape: Vec<usize>,
    },
}
