//! What is known of an operator: one trait, of which every facet is a method with a default.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::graph::{Freeze, Node, NodeView, ValueId};
use crate::groups::{
    Alike, Backward, Carried, Cost, Dequantizer, Edit, Kept, Shifted, Size, Taken, Told, Unscaled,
    Walk,
};
use crate::onnx::proto::NodeProto;
use crate::onnx::{Tensor, TensorError};

/// What is known of the operators of a model, which the stages from here on get handed.
pub trait Rules: Sync {
    /// What is known of the node's operator; [`UNKNOWN`] where that is nothing.
    fn of(&self, node: &Node) -> &dyn Operator;

    /// Whether a node of the file draws random numbers, or its subgraphs do, so that its outputs
    /// are no constants whatever it reads.
    fn draws(&self, _node: &NodeProto) -> bool {
        false
    }
}

/// An operator of which nothing is known.
pub const UNKNOWN: &dyn Operator = &Unknown;

struct Unknown;

impl Operator for Unknown {
    fn is_followed(&self) -> bool {
        false
    }
}

/// What is known of an operator, or of several that differ in nothing of it. What is asked of a
/// node is asked with its `view`; what holds for all nodes of the operator needs none.
pub trait Operator: Sync {
    // How channels pass.

    /// Whether there is a rule that says how channels pass. Without one, all that a node reads
    /// stays.
    fn is_followed(&self) -> bool {
        true
    }

    /// Passes atoms from the inputs of `view` to its outputs, and says which constants they cut,
    /// who consumes them linearly and what the node costs.
    ///
    /// # Errors
    /// The rule does not cover this node; the caller freezes the node's inputs.
    fn trace(&self, _view: NodeView<'_>, _walk: &mut Walk<'_>) -> Result<(), Freeze> {
        Err(Freeze::new("it has no rule"))
    }

    /// Attributes and inputs that change when only the `kept` channels stay.
    ///
    /// # Errors
    /// The node cannot follow; the rule's `trace` let something through that it should not have.
    fn rewrite(&self, _view: NodeView<'_>, _kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        Ok(Vec::new())
    }

    /// The cost of a node that multiplies with a weight, where `trace` does not say it.
    fn cost(&self, _view: NodeView<'_>, _walk: &Walk<'_>) -> Vec<Cost> {
        Vec::new()
    }

    // Lengths of axes as data.

    /// Whether the rule knows what to do with inputs that hold lengths of axes.
    fn reads_sizes(&self) -> bool {
        false
    }

    /// Whether the output holds lengths of axes, whatever the data along them.
    fn starts_sizes(&self) -> bool {
        false
    }

    /// Whether it computes few numbers from few: where it reads lengths of axes and constants only,
    /// its output is a *count*.
    fn computes_sizes(&self) -> bool {
        false
    }

    /// What the entries of the output stand for, if the node makes or moves lengths of axes.
    fn sizes(&self, _view: NodeView<'_>, _walk: &Walk<'_>) -> Option<Vec<Size>> {
        None
    }

    /// What a node that [starts sizes](Operator::starts_sizes) makes, where the shape of what it
    /// reads is known.
    fn lengths(&self, _view: NodeView<'_>) -> Option<Tensor> {
        None
    }

    /// The number that leaves a length open for all that reads a size which this node joins: -1 in
    /// a Reshape that has none yet, 1 in an Expand.
    fn open_entry(&self, _view: NodeView<'_>) -> Option<i64> {
        None
    }

    /// The number that leaves a length open where the node reads sizes in a slot. `left` nodes may
    /// be followed.
    fn opens(&self, _view: NodeView<'_>, _slot: usize, _left: &mut usize) -> Option<i64> {
        None
    }

    /// The slot from which the node takes the shape of its output.
    fn target(&self) -> Option<usize> {
        None
    }

    /// The slot and the index at which a constant states the length of an axis of the output.
    fn stated_length(&self, _view: NodeView<'_>, _axis: usize) -> Option<(usize, usize)> {
        None
    }

    /// Whether it lays elements out anew: then it makes as many as it reads.
    fn keeps_elements(&self) -> bool {
        false
    }

    // Constants.

    /// Whether the data of the outputs depend on that input's data, not just on its type.
    fn reads_data(&self, _slot: usize) -> bool {
        true
    }

    /// Whether it takes any number of inputs, none of which may be left out.
    fn reads_all_slots(&self) -> bool {
        false
    }

    /// Whether it stores a tensor in an attribute: what surgery writes back.
    fn stores_tensor(&self) -> bool {
        false
    }

    /// Whether it fills a tensor with one number.
    fn fills(&self) -> bool {
        false
    }

    /// The tensor that the node stores, or fills with one number; `None` for constants of other
    /// kinds (strings, sparse tensors). `first` is what its first input holds, where that is
    /// constant. No more than `most` bytes are filled: a larger constant is left to ONNX Runtime.
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

    /// The integer that all entries of the output are, where that can be seen; no more than `depth`
    /// factors are looked at.
    fn filled(&self, _view: NodeView<'_>, _depth: usize) -> Option<i64> {
        None
    }

    /// How the node makes a constant of the shape `made` of one that is stored.
    fn carried(&self, _view: NodeView<'_>, _made: &[usize]) -> Option<Carried> {
        None
    }

    /// What the node stores in few bits, if it is one that does.
    fn dequantizer(&self, _node: &Node) -> Option<Dequantizer> {
        None
    }

    /// The constant in the weight's slot as real numbers, up to a factor for each output.
    ///
    /// # Errors
    /// Its elements are no numbers, or its zero points do not fit.
    fn weight<'v>(
        &self,
        view: NodeView<'v>,
        slot: usize,
    ) -> Option<Result<Cow<'v, Tensor>, TensorError>> {
        view.constant(slot).map(|tensor| Ok(Cow::Borrowed(tensor)))
    }

    // What is computed.

    /// What the node does to channels, where that is the same for all of an axis, or but for
    /// constants. Asked where it has one output.
    fn alike(&self, _view: NodeView<'_>) -> Option<Alike> {
        None
    }

    /// Per output, the indexes of one axis of the first input that it holds; `None` where the node
    /// does anything else.
    fn taken(&self, _view: NodeView<'_>) -> Option<Vec<Taken>> {
        None
    }

    /// The node that [scales](Alike::Scales) channels, divided; `None` where its constants are not
    /// there.
    ///
    /// # Errors
    /// Constants that are no floats, or beyond their type.
    fn unscaled(&self, _view: NodeView<'_>) -> Option<Result<Unscaled, TensorError>> {
        None
    }

    /// The constant with which the node makes of its input in `slot` what it would make of a
    /// shifted one.
    fn shifted(&self, _view: NodeView<'_>, _slot: usize) -> Option<Shifted> {
        None
    }

    /// The other summand, where the node adds the value `own` and one other that is no constant.
    fn other_summand(&self, _view: NodeView<'_>, _own: ValueId) -> Option<ValueId> {
        None
    }

    /// The interval where the node gives its first input as it is, if it gives the interval's
    /// nearest end for all other inputs.
    fn passes(&self, _view: NodeView<'_>) -> Option<RangeInclusive<f64>> {
        None
    }

    /// What the node reads, where it makes each position behind the channels from the same position
    /// of that alone, with weights that all positions share.
    fn pointwise(&self, _view: NodeView<'_>) -> Option<ValueId> {
        None
    }

    /// Gives the gradients of the inputs that they are wanted of, from those of the outputs; `None`
    /// where that is not known: then nothing behind the node tells anything of what is before it.
    /// The shapes of all values are known.
    fn backward(&self, _view: NodeView<'_>, _back: &mut Backward<'_>) -> Option<()> {
        None
    }

    /// What the node tells of the values that it reads in a slot.
    fn told(&self, _view: NodeView<'_>, _slot: usize) -> Told {
        Told::Nothing
    }

    /// Elements that the repetitions of the node's body are worth, at least, where the file says
    /// how many there are; 0 for other nodes.
    fn repetitions(&self, _view: NodeView<'_>) -> u64 {
        0
    }
}
