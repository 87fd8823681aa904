//! What the walk asks of operators: their names are known elsewhere.

use crate::graph::{Freeze, Node, NodeView};
use crate::groups::storage::Carried;
use crate::groups::{Cost, Kept, Size, Walk};
use crate::onnx::proto::NodeProto;
use crate::onnx::{Tensor, TensorError};

/// A change to a node that follows from the channels that left.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Set an integer attribute.
    Int(&'static str, i64),
    /// Set a floating-point attribute.
    Float(&'static str, f32),
    /// Set a list of integers.
    Ints(&'static str, Vec<i64>),
    /// Remove an attribute.
    Drop(&'static str),
    /// Read another constant in an input slot.
    Input(usize, Tensor),
}

/// The rule of an operator family.
pub trait Operator: Sync {
    /// Passes atoms from the inputs of `view` to its outputs.
    ///
    /// # Errors
    /// The rule does not cover this node; the caller freezes the node's inputs.
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze>;

    /// Attributes and inputs that change when only the `kept` channels stay.
    ///
    /// # Errors
    /// The node cannot follow; the rule's `trace` let something through that it should not have.
    fn rewrite(&self, _view: NodeView<'_>, _kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        Ok(Vec::new())
    }

    /// Whether the rule knows what to do with inputs that hold lengths of axes.
    fn reads_sizes(&self) -> bool {
        false
    }
}

/// What is known of operators.
pub trait Rules: Sync {
    /// The rule of the node's operator, if there is one.
    fn find(&self, node: &Node) -> Option<&dyn Operator>;

    /// What the entries of the node's output stand for, if the node makes or moves lengths of axes.
    fn sizes(&self, _view: NodeView<'_>, _walk: &Walk<'_>) -> Option<Vec<Size>> {
        None
    }

    /// The number that leaves a length open for all that reads a size which this node joins or reads.
    fn open_entry(&self, _view: NodeView<'_>) -> Option<i64> {
        None
    }

    /// The cost of a node that multiplies with a weight, where no rule says it.
    fn cost(&self, _view: NodeView<'_>, _walk: &Walk<'_>) -> Vec<Cost> {
        Vec::new()
    }

    /// How the node makes its constant of one that is stored.
    fn carried(&self, _view: NodeView<'_>) -> Option<Carried> {
        None
    }

    /// The tensor that a node stores, or fills with one number. `first` is what its first input holds, where
    /// that is constant. No more than `most` bytes are filled.
    ///
    /// # Errors
    /// The stored tensor's data do not match its shape.
    fn stored(
        &self,
        _node: &Node,
        _first: Option<&Tensor>,
        _most: usize,
    ) -> Result<Option<Tensor>, TensorError> {
        Ok(None)
    }

    /// Whether the node fills a tensor with one number.
    fn fills(&self, _node: &Node) -> bool {
        false
    }

    /// Whether the node draws random numbers, or its subgraphs do.
    fn draws(&self, _node: &NodeProto) -> bool {
        false
    }

    /// Whether the data of the node's outputs depend on that input's data, not just on its type.
    fn reads_data(&self, _node: &Node, _slot: usize) -> bool {
        true
    }

    /// Whether the node takes any number of inputs, none of which may be left out.
    fn reads_all_slots(&self, _node: &Node) -> bool {
        false
    }

    /// Whether the node's output holds lengths of axes, whatever it reads.
    fn starts_sizes(&self, _node: &Node) -> bool {
        false
    }

    /// Whether the node computes few numbers from few.
    fn computes_sizes(&self, _node: &Node) -> bool {
        false
    }
}
