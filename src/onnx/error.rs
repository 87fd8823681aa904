//! What can be wrong with a model file, said so that the user can act on it.

use super::DataType;
use crate::outputs::OutputError;
use std::{io, path::PathBuf};

/// Why a model could not be read, checked or written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// An error in a file, with the file's name.
    #[error("{}: {error}", path.display())]
    File {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<OnnxError>,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system reported.
        error: io::Error,
    },
    /// The file has no bytes.
    #[error(
        "the file is empty, expected an ONNX model: check that it was exported or copied whole"
    )]
    Empty,
    /// The bytes are not a whole protobuf message of the schema.
    #[error(
        "not a whole ONNX model: at byte {offset}, in {message}: {what}. The file is truncated, \
         damaged or no ONNX file: copy or export it again"
    )]
    Wire {
        /// Byte offset in the file.
        offset: usize,
        /// Full name of the message being read.
        message: &'static str,
        /// What was expected and found.
        what: String,
    },
    /// A field that the schema lacks: decoding would lose it.
    #[error(
        "field {number} of {message}, at byte {offset}, is not in the schema this build knows \
         (IR version {MAX_IR}), and writing the model would lose it: export the model for IR \
         version {MAX_IR} or lower, or, if this is no ONNX file, give one"
    )]
    UnknownField {
        /// Field number.
        number: u64,
        /// Full name of the message that holds it.
        message: &'static str,
        /// Byte offset of the field in the file.
        offset: usize,
    },
    /// Protobuf decoding failed.
    #[error("not a valid ONNX model: {0}: the file is damaged or no ONNX file, export it again")]
    Decode(#[from] prost::DecodeError),
    /// A tensor whose data, type or shape is wrong.
    #[error("{owner}: {error}: the model was written wrongly or is damaged, export it again")]
    Tensor {
        /// Where the tensor stands.
        owner: String,
        /// What is wrong with it.
        error: TensorError,
    },
    /// External data that cannot be attached.
    #[error("{owner}, external data: {what}")]
    External {
        /// Where the tensor stands.
        owner: String,
        /// What was expected, found, and what to do.
        what: String,
    },
    /// The model's structure is wrong.
    #[error("{what}")]
    Structure {
        /// What was expected, found, and what to do.
        what: String,
    },
    /// The model without external data is beyond what protobuf can hold.
    #[error(
        "the model takes {size} bytes without external data, protobuf allows {limit}: {advice}"
    )]
    TooLarge {
        /// Bytes of the encoded model.
        size: u64,
        /// Bytes allowed.
        limit: u64,
        /// What to do.
        advice: &'static str,
    },
    /// The output cannot be written as asked.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The newest IR version of the schema.
pub(super) const MAX_IR: i64 = super::proto::Version::IrVersion as i64;

/// Why a tensor could not be read, converted or sliced.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages print.
pub enum TensorError {
    /// An error with the tensor's name.
    #[error("tensor '{name}': {error}")]
    Named {
        name: String,
        error: Box<TensorError>,
    },
    /// A negative size.
    #[error("shape {dims:?} has a size below zero or too large, expected sizes from 0 on")]
    Dimension { dims: Vec<i64> },
    /// More elements than memory can address.
    #[error("shape {shape:?} has more elements than this machine can address")]
    TooLarge { shape: Vec<usize> },
    /// No element type, or one that the schema lacks.
    #[error("element type is {dtype}, expected one that ONNX (IR version {MAX_IR}) defines")]
    UnknownType { dtype: DataType },
    /// Only a piece of a tensor.
    #[error("holds a segment of a larger tensor, which is not supported: export it whole")]
    Segmented,
    /// Data in two places.
    #[error("holds both raw_data and a typed data field, expected one of them")]
    TwoStorages,
    /// Too many or too few elements.
    #[error("{field} holds {found} entries, expected {expected} for {dtype} of shape {shape:?}")]
    Length {
        field: &'static str,
        found: usize,
        expected: usize,
        dtype: DataType,
        shape: Vec<usize>,
    },
    /// A value that the element type cannot hold.
    #[error("value {value} is outside {dtype}")]
    Value { value: String, dtype: DataType },
    /// The elements have no fixed size in whole bytes.
    #[error("elements of type {dtype} are not stored in whole bytes each, so they cannot be used")]
    NoBytes { dtype: DataType },
    /// The elements are not of the kind that was asked for.
    #[error("elements are of type {dtype}, expected {wanted}")]
    NotNumbers {
        dtype: DataType,
        wanted: &'static str,
    },
    /// No such axis.
    #[error("axis {axis} is asked for, but the tensor has {rank} axes")]
    Axis { axis: usize, rank: usize },
    /// A position beyond the axis.
    #[error("position {position} of axis {axis} is asked for, but the axis has size {size}")]
    Position {
        position: usize,
        axis: usize,
        size: usize,
    },
}

impl TensorError {
    pub(super) fn named(name: &str, error: TensorError) -> TensorError {
        TensorError::Named {
            name: name.to_owned(),
            error: Box::new(error),
        }
    }
}

impl OnnxError {
    pub(super) fn io(path: &std::path::Path, action: &'static str, error: io::Error) -> OnnxError {
        let path = path.to_owned();
        OnnxError::Io {
            path,
            action,
            error,
        }
    }
}
