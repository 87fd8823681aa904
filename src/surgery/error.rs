use crate::linalg::LinalgError;
use crate::onnx::{OnnxError, TensorError};

/// Why a model could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum SurgeryError {
    /// A node that cannot follow the channels that left.
    #[error(
        "node '{node}' cannot follow the pruning: {what}; exclude the layers around it with \
         `exclude` and report the model"
    )]
    Node {
        /// The node.
        node: String,
        /// What goes wrong.
        what: String,
    },
    /// A tensor that cannot be cut.
    #[error("a constant of node '{node}' cannot be cut: {error}")]
    Tensor {
        /// The reading node.
        node: String,
        /// What goes wrong.
        error: TensorError,
    },
    /// A repair whose equations cannot be solved.
    #[error("the repair of node '{node}' failed: {error}; try `repair` none")]
    Repair {
        /// The repaired node.
        node: String,
        /// What goes wrong.
        error: LinalgError,
    },
    /// The result is not a valid model.
    #[error("the pruned model is not valid, which is a defect of this program: {0}")]
    Invalid(#[from] OnnxError),
}
