//! From a graph to the nodes that make gradients: reverse accumulation, node by node.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, Table, ValueId};
use crate::groups::{Backward, BackwardGraph};
use crate::onnx::DataType;
use crate::ops;

/// Gradients by value, and the nodes where they end: their rules do not know those of what is
/// before them.
pub(super) struct Gradients {
    pub of: BTreeMap<ValueId, String>,
    pub ends: Vec<NodeId>,
}

/// Adds to `made` what makes the gradients of the values that `may_learn`, from those of the
/// values in `seeds`. A value of which some reader's part is not known has none.
pub(super) fn differentiate(
    graph: &Graph,
    seeds: Vec<(ValueId, String)>,
    may_learn: &dyn Fn(ValueId) -> bool,
    made: &mut BackwardGraph,
) -> Gradients {
    let (depends, mut ends) = (depends(graph, may_learn), Vec::new());
    // What is known of a value's gradient, the seeds first, and how many readers gave a part.
    let mut parts: Table<ValueId, Vec<String>> = vec![Vec::new(); graph.values.len()].into();
    let mut givers: Table<ValueId, usize> = vec![0; graph.values.len()].into();
    for (value, seed) in seeds {
        parts[value].push(seed);
    }
    for &id in graph.order.iter().rev() {
        let node = &graph.nodes[id];
        let wanted = |value: &Option<ValueId>| value.is_some_and(|value| depends[value]);
        let wanted: Vec<bool> = node.inputs.iter().map(wanted).collect();
        let reached = node.outputs.iter().flatten();
        if !wanted.contains(&true) || reached.into_iter().all(|&made| parts[made].is_empty()) {
            continue;
        }
        let outputs = node.outputs.iter().map(|output| {
            let all = &parts[(*output)?];
            ops::build::sum(made, all)
        });
        let outputs: Vec<Option<String>> = outputs.collect();
        let Some(given) = given(graph, id, &outputs, &wanted, made) else {
            ends.push(id);
            continue;
        };
        for (slot, gradient) in given {
            if let Some(value) = node.inputs.get(slot).copied().flatten() {
                parts[value].push(gradient);
                givers[value] += 1;
            }
        }
    }
    let mut of = BTreeMap::new();
    for (id, value) in graph.values.entries() {
        if may_learn(id) && givers[id] == value.readers.len() && !value.is_captured {
            of.extend(ops::build::sum(made, &parts[id]).map(|gradient| (id, gradient)));
        }
    }
    ends.reverse();
    Gradients { of, ends }
}

/// What a node's rule gives; what it added counts for nothing where it gives up.
fn given(
    graph: &Graph,
    node: NodeId,
    outputs: &[Option<String>],
    wanted: &[bool],
    made: &mut BackwardGraph,
) -> Option<Vec<(usize, String)>> {
    let before = (made.nodes.len(), made.constants.len());
    let view = graph.view(node);
    let mut back = Backward::new(made, outputs, wanted);
    if ops::of(view.node).backward(view, &mut back).is_some() {
        return Some(back.given());
    }
    made.nodes.truncate(before.0);
    made.constants.truncate(before.1);
    None
}

/// Which values depend on one that may learn.
fn depends(graph: &Graph, may_learn: &dyn Fn(ValueId) -> bool) -> Table<ValueId, bool> {
    let mut depends: Table<ValueId, bool> = graph.values.ids().map(may_learn).collect();
    for &id in &graph.order {
        let node = &graph.nodes[id];
        let reads = node.inputs.iter().flatten().any(|&value| depends[value]);
        for &output in node.outputs.iter().flatten() {
            depends[output] |= reads && graph.values[output].dtype == Some(DataType::Float);
        }
    }
    depends
}
