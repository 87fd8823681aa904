use crate::onnx::TensorError;

/// What can be wrong with a model's graph.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The file holds no graph.
    #[error("the model has no graph: expected one in field `graph`; export the model again")]
    NoGraph,
    /// A node reads a name that nothing defines.
    #[error(
        "node '{node}' reads '{input}', which no graph input, initializer or node defines; \
         export the model again"
    )]
    MissingInput {
        /// The reading node.
        node: String,
        /// The undefined name.
        input: String,
    },
    /// A node without an input that it cannot do without.
    #[error(
        "node '{node}' ({op_type}) has no input in slot {slot}, expected one in each; export the model again"
    )]
    EmptyInput {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// The slot that is left out.
        slot: usize,
    },
    /// A graph output that nothing defines.
    #[error("graph output '{output}' is made by no node; export the model again")]
    MissingOutput {
        /// The undefined name.
        output: String,
    },
    /// Nodes that wait for each other.
    #[error(
        "the graph has a cycle through node '{node}': its inputs depend on its own outputs; \
         ONNX graphs must be acyclic, export the model again"
    )]
    Cycle {
        /// A node on the cycle.
        node: String,
    },
    /// A tensor that cannot be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Why a rule gave up: the channels that the node touches must stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze(pub String);

impl Freeze {
    /// A clause that completes "the channels stay because".
    pub fn new(text: impl Into<String>) -> Self {
        Freeze(text.into())
    }
}
