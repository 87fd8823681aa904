//! What narrowing one group can change: the nodes that are cut, and everything behind them.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeId, ValueId};

/// The part of a model that a trial has to run again.
#[derive(Debug)]
pub(super) struct Reach {
    /// Per node, whether it belongs to the part.
    pub nodes: Vec<bool>,
    /// Where the part begins, in the order of the graph.
    pub first: usize,
    /// Values that it reads and does not make.
    pub inputs: Vec<ValueId>,
    /// Outputs of the model that it makes.
    pub outputs: Vec<ValueId>,
}

impl Reach {
    /// Everything that depends on what `touched` nodes compute.
    pub fn of(graph: &Graph, touched: &BTreeSet<NodeId>) -> Self {
        let mut nodes = vec![false; graph.nodes.len()];
        let mut made = vec![false; graph.values.len()];
        let mut first = graph.nodes.len();
        let runs = |value: &ValueId| !graph.values[*value].is_constant;
        for (place, &node) in graph.order.iter().enumerate() {
            let known = &graph.nodes[node];
            if touched.contains(&node) || reads(graph, node).any(|value| made[value]) {
                nodes[node] = true;
                first = first.min(place);
                for &value in known.outputs.iter().flatten() {
                    made[value] = true;
                }
            }
        }
        let all = (0..graph.nodes.len()).filter(|&node| nodes[node]);
        let inputs: BTreeSet<ValueId> = all
            .flat_map(|node| reads(graph, node))
            .filter(|value| runs(value) && !made[*value])
            .collect();
        let outputs = (0..graph.values.len())
            .filter(|&value| made[value] && graph.values[value].is_output)
            .collect();
        Reach {
            nodes,
            first,
            inputs: inputs.into_iter().collect(),
            outputs,
        }
    }
}

fn reads(graph: &Graph, node: NodeId) -> impl Iterator<Item = ValueId> + '_ {
    let node = &graph.nodes[node];
    node.inputs.iter().flatten().chain(&node.captured).copied()
}
