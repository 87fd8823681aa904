//! Which values are constants, and which follow from lengths of axes.

use std::collections::BTreeSet;

use crate::graph::{Graph, GraphError, Node, NodeId, ValueId};
use crate::groups::Rules;
use crate::onnx::proto::NodeProto;
use crate::onnx::{Model, Tensor};

/// No more bytes than this are filled of all constants of which the file has the shape alone.
const MOST_FILLED: usize = 1 << 28;

/// Marks in the `graph` of a `model` the values that nodes make of constants or of lengths of axes
/// alone, and takes over the constants that nodes store.
///
/// # Errors
/// A node without an input that it cannot do without, or a stored constant that cannot be read.
pub fn mark(graph: &mut Graph, model: &Model, rules: &dyn Rules) -> Result<(), GraphError> {
    check_slots(graph, rules)?;
    let lasting = lasting(model, rules);
    let mut left = MOST_FILLED;
    for index in 0..graph.order.len() {
        let id = graph.order[index];
        if let Some(tensor) = stored(graph, id, rules, &mut left)? {
            if let Some(Some(output)) = graph.nodes[id].outputs.first() {
                let value = &mut graph.values[*output];
                value.shape = Some(tensor.shape.clone());
                value.dtype = Some(tensor.dtype);
                value.constant = Some(tensor);
                value.is_constant = true;
            }
            continue;
        }
        let lasts = lasting.get(id.index()).copied().unwrap_or(false);
        let folds = lasts && reads_constants(graph, &graph.nodes[id], rules);
        let is_count = !folds && counts(graph, &graph.nodes[id], rules);
        for output in graph.nodes[id].outputs.clone().into_iter().flatten() {
            graph.values[output].is_constant |= folds;
            graph.values[output].is_count |= is_count;
        }
    }
    Ok(())
}

/// ONNX Runtime does not look, and reads what is not there.
fn check_slots(graph: &Graph, rules: &dyn Rules) -> Result<(), GraphError> {
    for node in &graph.nodes {
        let empty = node.inputs.iter().position(Option::is_none);
        if let Some(slot) = empty.filter(|_| rules.of(node).reads_all_slots()) {
            return Err(GraphError::EmptyInput {
                node: node.name.clone(),
                op_type: node.op_type.clone(),
                slot,
            });
        }
    }
    Ok(())
}

/// Which nodes make the same of the same in every run. Of the model's own functions that is not
/// known.
fn lasting(model: &Model, rules: &dyn Rules) -> Vec<bool> {
    let functions = model.proto.functions.iter();
    let functions: BTreeSet<_> = functions.map(|f| (f.name(), f.domain())).collect();
    let called = |node: &NodeProto| functions.contains(&(node.op_type(), node.domain()));
    let nodes = model.proto.graph.iter().flat_map(|graph| &graph.node);
    nodes
        .map(|node| !called(node) && !rules.draws(node))
        .collect()
}

/// The constant that the node stores, or fills with one number; of the latter `left` bytes may be
/// filled.
fn stored(
    graph: &Graph,
    id: NodeId,
    rules: &dyn Rules,
    left: &mut usize,
) -> Result<Option<Tensor>, GraphError> {
    let node = &graph.nodes[id];
    let first = node.inputs.first().copied().flatten();
    let first = first.and_then(|value| graph.values[value].constant.as_ref());
    let operator = rules.of(node);
    let stored = operator.stored(node, first, *left)?;
    if let Some(tensor) = stored.as_ref().filter(|_| operator.fills()) {
        *left = left.saturating_sub(tensor.bytes.len());
    }
    Ok(stored)
}

/// Whether the node reads data, and constants alone.
fn reads_constants(graph: &Graph, node: &Node, rules: &dyn Rules) -> bool {
    let operator = rules.of(node);
    let slots = node.inputs.iter().enumerate();
    let mut read = slots
        .filter(|(slot, _)| operator.reads_data(*slot))
        .filter_map(|(_, value)| value.as_ref())
        .peekable();
    read.peek().is_some()
        && read
            .chain(&node.captured)
            .all(|&value| graph.values[value].is_constant)
}

/// Whether the node computes with lengths of axes and constants only.
fn counts(graph: &Graph, node: &Node, rules: &dyn Rules) -> bool {
    let is_known = |&value: &ValueId| {
        let value = &graph.values[value];
        value.is_count || value.is_constant
    };
    let operator = rules.of(node);
    operator.starts_sizes()
        || operator.computes_sizes() && node.inputs.iter().flatten().all(is_known)
}
