//! Which nodes of the graph the time of a profile was spent on.

use std::collections::BTreeSet;

use crate::graph::{Graph, Node, NodeId};
use crate::runtime::{Kernel, Profile};

/// A part of a run's time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// What it goes with.
    pub with: Goes,
    /// Milliseconds.
    pub milliseconds: f64,
}

/// What time goes with as channels leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// What the node computes.
    WithWork(NodeId),
    /// The elements that the node makes, which something else handles.
    WithOutputs(NodeId),
    /// It stays.
    Nowhere,
}

/// Whose time the profile shows. Kernels that ONNX Runtime adds itself, such as a change of layout,
/// handle what the kernel before them made; the time between kernels stays.
#[must_use]
pub fn spent(graph: &Graph, profile: &Profile) -> Vec<Spent> {
    let mut taken = BTreeSet::new();
    let mut spent = Vec::new();
    let mut last = Goes::Nowhere;
    for kernel in &profile.kernels {
        let node = node_of(graph, kernel, &taken);
        taken.extend(node);
        let with = node.map_or(last, Goes::WithWork);
        last = node.map_or(last, Goes::WithOutputs);
        spent.push(Spent {
            with,
            milliseconds: kernel.milliseconds,
        });
    }
    let inside: f64 = spent.iter().map(|part| part.milliseconds).sum();
    spent.push(Spent {
        with: Goes::Nowhere,
        milliseconds: (profile.run - inside).max(0.0),
    });
    spent
}

/// The node that a kernel runs: that of its name, or, where ONNX Runtime named it after the last
/// output of nodes that it fused, the nearest of its type on the way up that no kernel has `taken`.
fn node_of(graph: &Graph, kernel: &Kernel, taken: &BTreeSet<NodeId>) -> Option<NodeId> {
    if let Some(node) = kernel.node() {
        let node = NodeId::from(node);
        return graph.nodes.get(node).map(|_| node);
    }
    let values = graph.values.iter().filter(|value| {
        let rest = kernel.name.strip_prefix(&value.name);
        !value.name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    let last = values.max_by_key(|value| value.name.len())?.producer?;
    // The types of fused kernels end with that of the main node: FusedConv.
    let is_main = |node: &Node| kernel.op_type.ends_with(&node.op_type);
    let mut seen = BTreeSet::from([last]);
    let mut level = vec![last];
    // No fusion is deeper.
    for _ in 0..8 {
        let found = level.iter().find(|&&id| {
            let node = graph.nodes.get(id);
            node.is_some_and(is_main) && !taken.contains(&id)
        });
        if found.is_some() {
            return found.copied();
        }
        let above = level.iter().filter_map(|&id| graph.nodes.get(id));
        let values = above.flat_map(|node| node.inputs.iter().flatten());
        let makers = values.filter_map(|&value| graph.values.get(value)?.producer);
        level = makers.filter(|&id| seen.insert(id)).collect();
    }
    Some(last)
}
