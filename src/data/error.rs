//! What can be wrong with calibration data.

use std::path::PathBuf;

use crate::allowance::OverLimit;

/// An error in calibration data or the options that describe it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}; check that it exists and may be read", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Nothing that could be read.
    #[error(
        "{} holds no calibration data: expected .npy, .npz, .pb (ONNX TensorProto), .jpg, .jpeg, \
         .png or .webp files of one kind, found {found}", path.display()
    )]
    NoFiles {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A file that is damaged or of a kind that cannot be read.
    #[error("{}: {problem}; {advice}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// An array whose shape does not fit the model's input.
    #[error(
        "{}: input '{input}' expects shape {expected}, found {found}; save the data with the \
         samples along the first axis and the other sizes as the model has them (open sizes can be \
         fixed with `shape`)", path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// The input's shape; N is the number of samples.
        expected: String,
        /// The array's shape.
        found: String,
    },
    /// Samples of different shapes, which cannot form one batch.
    #[error(
        "{}: input '{input}' has samples of shape {found:?}, but {} has {expected:?}; bring all \
         samples to one shape", path.display(), first.display()
    )]
    DifferentShapes {
        /// The file.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// The file that fixed the shape.
        first: PathBuf,
        /// The shape of one sample there.
        expected: Box<[usize]>,
        /// The shape of one sample here.
        found: Box<[usize]>,
    },
    /// An element type that cannot be converted to the input's.
    #[error(
        "{}: input '{input}' expects {expected}, found {found}, which cannot be converted without \
         loss; save the array as {expected}", path.display()
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// The input's type.
        expected: String,
        /// The array's type or value.
        found: String,
    },
    /// NaN or infinity.
    #[error(
        "{}: sample {sample} (counted from 0 in this file) for input '{input}' has a value that is \
         NaN or infinite; remove or repair it", path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// The sample's index in this file.
        sample: usize,
    },
    /// A model input that the data lack.
    #[error(
        "{} has no array for the model's input '{input}'; found {found}; name the arrays after the \
         inputs", path.display()
    )]
    MissingInput {
        /// The file or folder.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// The names found.
        found: String,
    },
    /// Arrays of one file with different numbers of samples.
    #[error(
        "{}: {found} samples for input '{input}', but {expected} for input '{first}'; save as many \
         for each", path.display()
    )]
    SampleCounts {
        /// The file or folder.
        path: PathBuf,
        /// The input that differs.
        input: String,
        /// Its number of samples.
        found: usize,
        /// The first input.
        first: String,
        /// Its number of samples.
        expected: usize,
    },
    /// An option that does not fit the model or the data.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Data that take more memory than is allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Sample indexes or a batch size that the data set cannot serve.
    #[error("cannot read the samples: {0}")]
    Samples(String),
}
