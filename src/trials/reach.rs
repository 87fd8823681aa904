//! What narrowing one group can change: the nodes that are cut, and everything behind them.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeId, Table, ValueId};
use crate::groups::Kept;
use crate::subgraph;
use crate::surgery::{self, SurgeryError};
use crate::trials::dense::Division;

/// The part of a model that a trial has to run again: its head, which is cut, and the parts of the
/// dense model behind it.
#[derive(Debug)]
pub(super) struct Reach {
    /// Per node, whether a trial runs it.
    pub nodes: Table<NodeId, bool>,
    /// Where it begins, in the order of the graph.
    pub first: usize,
    /// Per node, whether it belongs to the head.
    pub head: Table<NodeId, bool>,
    /// Values that the head reads and does not make.
    pub inputs: Vec<ValueId>,
    /// What is asked of the head: what parts behind it read, and outputs of the model.
    pub ends: Vec<ValueId>,
    /// The first part of the dense model behind the head.
    pub part: usize,
}

impl Reach {
    /// Everything that depends on what differs where only the channels of `kept` are left.
    pub fn of(graph: &Graph, kept: &Kept<'_>, division: &Division) -> Result<Self, SurgeryError> {
        let touched = surgery::touched(graph, kept)?;
        let mut nodes = Table::<NodeId, bool>::from(vec![false; graph.nodes.len()]);
        let mut made = Table::<ValueId, bool>::from(vec![false; graph.values.len()]);
        let mut first = graph.nodes.len();
        for (place, &node) in graph.order.iter().enumerate() {
            if touched.contains(&node) || reads(graph, node).iter().any(|&value| made[value]) {
                nodes[node] = true;
                first = first.min(place);
                for &value in graph.nodes[node].outputs.iter().flatten() {
                    made[value] = true;
                }
            }
        }
        let narrowed = graph.nodes.ids().filter(|&node| {
            reads(graph, node)
                .iter()
                .any(|&value| is_narrowed(kept, value))
        });
        let part = division.after(touched.iter().copied().chain(narrowed));
        let ids = graph.nodes.ids();
        let head: Table<NodeId, bool> = ids
            .map(|node| nodes[node] && division.is_before(node, part))
            .collect();
        let makes = |value: ValueId| graph.values[value].producer.is_some_and(|node| head[node]);
        let all = graph.nodes.ids().filter(|&node| head[node]);
        let inputs: BTreeSet<ValueId> = all
            .flat_map(|node| reads(graph, node))
            .filter(|&value| !graph.values[value].is_constant && !makes(value))
            .collect();
        let is_end = |value: &ValueId| {
            let is_output = graph.values[*value].is_output;
            makes(*value) && (is_output || division.is_read_from(*value, part))
        };
        Ok(Reach {
            first,
            inputs: inputs.into_iter().collect(),
            ends: graph.values.ids().filter(is_end).collect(),
            nodes,
            head,
            part,
        })
    }
}

/// Whether channels of a value leave.
fn is_narrowed(kept: &Kept<'_>, value: ValueId) -> bool {
    let axes = kept.groups().values.get(value);
    let mut maps = axes.into_iter().flatten().flatten();
    maps.any(|map| kept.count(map) < map.len())
}

/// The tensors that a node reads, itself or through a sequence.
fn reads(graph: &Graph, node: NodeId) -> BTreeSet<ValueId> {
    let own = |node: NodeId| {
        let node = &graph.nodes[node];
        let all = node.inputs.iter().flatten().chain(&node.captured);
        all.copied().collect::<Vec<ValueId>>()
    };
    subgraph::tensors(graph, &mut own(node).into_iter(), &own).0
}
