//! Where a consumer's output goes on to, as long as it is the same channels.

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::Groups;

/// The channels along an axis of a tensor, on their way through nodes that read them alone.
#[derive(Clone, Copy)]
pub(super) struct Onward<'a> {
    pub graph: &'a Graph,
    pub groups: &'a Groups,
    pub axis: usize,
}

impl Onward<'_> {
    /// The only node that reads a value, which no output of the model is.
    pub fn reader(&self, value: ValueId) -> Option<NodeId> {
        let value = &self.graph.values[value];
        match *value.readers {
            [(reader, _)] if !value.is_output && !value.is_captured => Some(reader),
            _ => None,
        }
    }

    /// What the only reader of a value makes of it, if that is a tensor of the same shape with the
    /// same channels, position by position. Where a weight makes others of them, the way ends.
    pub fn next(&self, value: ValueId) -> Option<ValueId> {
        let reader = self.reader(value)?;
        let [Some(made)] = *self.graph.nodes[reader].outputs else {
            return None;
        };
        let mut consumers = self.groups.consumers.iter();
        let weighs = consumers.any(|consumer| consumer.node == reader);
        (!weighs && self.is_same(value, made)).then_some(made)
    }

    /// Whether two tensors have one shape and, along the axis, the same channels.
    pub fn is_same(&self, left: ValueId, right: ValueId) -> bool {
        let map = |value: ValueId| self.groups.values.get(value)?.get(self.axis)?.as_ref();
        let shape = |value: ValueId| self.graph.values[value].shape.as_ref();
        map(left).is_some() && map(left) == map(right) && shape(left) == shape(right)
    }
}
