//! Nodes that run a body many times.

use crate::graph::NodeView;

/// What a node of a body costs each time beside its elements, in elements: about a microsecond.
const PER_NODE: u64 = 1024;

/// Elements that the repetitions of the node's body are worth, at least, where the file says how many there are; 0
/// for other nodes.
#[must_use]
pub fn repetitions(view: NodeView<'_>) -> u64 {
    let node = view.node;
    if !node.domain.is_empty() || node.op_type != "Loop" {
        return 0;
    }
    let trips = view.constant_ints(0).ok().flatten();
    let trips = trips.and_then(|trips| u64::try_from(*trips.first()?).ok());
    let body = node.attributes.get("body").and_then(|body| body.g.as_ref());
    let nodes = body.map_or(0, |body| body.node.len() as u64);
    let each = nodes.saturating_mul(PER_NODE);
    trips.unwrap_or(0).saturating_mul(each)
}
