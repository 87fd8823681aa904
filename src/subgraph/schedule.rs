//! Which subgraph runs which nodes, and which values pass from one subgraph to later ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::graph::{Graph, NodeId, Table, ValueId};
use crate::groups::Use;
use crate::subgraph::Crossing;

/// The subgraphs of one model: subgraph `k` computes what is asked for at level `k` and was not
/// computed before.
pub(crate) struct Schedule {
    stages: Table<NodeId, Option<usize>>,
    /// Later subgraphs that run a node again, whose outputs are no tensors and cannot wait.
    again: BTreeMap<NodeId, BTreeSet<usize>>,
    /// Per subgraph, values that come from outside it.
    inputs: Vec<Vec<ValueId>>,
    /// Per subgraph, values that it makes (or, for the first, that the model reads) for later ones.
    outputs: Vec<Vec<ValueId>>,
    /// Per subgraph, values that nobody reads after it.
    done: Vec<Vec<ValueId>>,
}

impl Schedule {
    /// Of the model as it is; `requests` are the values asked for, per subgraph.
    pub fn new(graph: &Graph, requests: &[Vec<ValueId>]) -> Self {
        Schedule::cut(graph, &BTreeSet::new(), requests)
    }

    /// Of the model after a cut that put constants where nodes read computed values before.
    pub fn cut(graph: &Graph, constants: &BTreeSet<Use>, requests: &[Vec<ValueId>]) -> Self {
        let reads = |node| reads(graph, constants, node);
        let mut stages: Table<NodeId, Option<usize>> = vec![None; graph.nodes.len()].into();
        for (level, values) in requests.iter().enumerate() {
            let mut open: Vec<ValueId> = values.clone();
            while let Some(value) = open.pop() {
                let Some(node) = maker(graph, value) else {
                    continue;
                };
                if stages[node].is_none() {
                    stages[node] = Some(level);
                    open.extend(reads(node));
                }
            }
        }
        let count = requests.len();
        let mut readers: Table<ValueId, BTreeSet<usize>> =
            vec![BTreeSet::new(); graph.values.len()].into();
        let mut again: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
        let mut read = |values: &mut dyn Iterator<Item = ValueId>, level: usize| {
            let (tensors, makers) = tensors(graph, values, &|node| reads(node).collect());
            for value in tensors {
                readers[value].insert(level);
            }
            for node in makers {
                again.entry(node).or_default().insert(level);
            }
        };
        for (node, stage) in stages.entries() {
            if let Some(stage) = stage {
                read(&mut reads(node), *stage);
            }
        }
        for (level, values) in requests.iter().enumerate() {
            read(&mut values.iter().copied(), level);
        }
        let mut schedule = Schedule {
            stages,
            again,
            inputs: vec![Vec::new(); count],
            outputs: vec![Vec::new(); count],
            done: vec![Vec::new(); count],
        };
        for (value, levels) in readers.entries() {
            let (Some(&last), false) = (levels.last(), is_constant(graph, value)) else {
                continue;
            };
            let made = maker(graph, value).map(|node| schedule.stages[node].unwrap_or(0));
            for &level in levels.iter().filter(|&&level| made != Some(level)) {
                schedule.inputs[level].push(value);
            }
            if last > made.unwrap_or(0) {
                schedule.outputs[made.unwrap_or(0)].push(value);
            }
            if last > made.unwrap_or(0) || made.is_none() {
                schedule.done[last].push(value);
            }
        }
        schedule
    }

    /// The subgraph that runs a node, if any does.
    pub fn stage(&self, node: NodeId) -> Option<usize> {
        self.stages.get(node).copied().flatten()
    }

    /// Whether one of these subgraphs runs a node.
    pub fn runs(&self, node: NodeId, mut levels: RangeInclusive<usize>) -> bool {
        let is_first = self
            .stage(node)
            .is_some_and(|stage| levels.contains(&stage));
        let again = self.again.get(&node);
        is_first || again.is_some_and(|again| levels.any(|level| again.contains(&level)))
    }

    /// Values that a subgraph is fed.
    pub fn inputs(&self, level: usize) -> &[ValueId] {
        &self.inputs[level]
    }

    /// Values that a subgraph leaves to later ones.
    pub fn outputs(&self, level: usize) -> &[ValueId] {
        &self.outputs[level]
    }

    /// Values that subgraphs read which do not make them; `cost` is what moving one costs.
    pub fn crossings(&self, graph: &Graph, cost: &dyn Fn(ValueId) -> f64) -> Vec<Crossing> {
        let mut readers: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
        for (level, values) in self.inputs.iter().enumerate() {
            for &value in values {
                readers.entry(value).or_default().insert(level);
            }
        }
        let crossing = |(value, readers)| Crossing {
            cost: cost(value),
            made: maker(graph, value).and_then(|node| self.stage(node)),
            readers,
        };
        readers.into_iter().map(crossing).collect()
    }

    /// All values that pass from one subgraph to another.
    pub fn waiting(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().chain(&self.outputs).flatten().copied()
    }

    /// Values that are not read any more after a subgraph.
    pub fn done_after(&self, level: usize) -> Vec<ValueId> {
        self.done[level].clone()
    }
}

/// What waits for a subgraph that reads these values, and the nodes that it runs for that: a value
/// that is no tensor is made again, from what the node that makes it reads.
pub(crate) fn tensors(
    graph: &Graph,
    values: &mut dyn Iterator<Item = ValueId>,
    reads: &dyn Fn(NodeId) -> Vec<ValueId>,
) -> (BTreeSet<ValueId>, BTreeSet<NodeId>) {
    let mut found = BTreeSet::new();
    let mut makers = BTreeSet::new();
    let mut open: Vec<ValueId> = values.collect();
    while let Some(value) = open.pop() {
        match maker(graph, value).filter(|_| graph.values[value].is_sequence) {
            Some(node) if makers.insert(node) => open.extend(reads(node)),
            Some(_) => {}
            None => drop(found.insert(value)),
        }
    }
    (found, makers)
}

/// The node that makes a value while the model runs.
fn maker(graph: &Graph, value: ValueId) -> Option<NodeId> {
    if is_constant(graph, value) {
        return None;
    }
    graph.values[value].producer
}

/// Known before any run: every subgraph has its own.
fn is_constant(graph: &Graph, value: ValueId) -> bool {
    graph.values[value].is_constant
}

fn reads<'a>(
    graph: &'a Graph,
    constants: &'a BTreeSet<Use>,
    node: NodeId,
) -> impl Iterator<Item = ValueId> + 'a {
    let slots = graph.nodes[node].inputs.iter().enumerate();
    let computed = slots.filter(move |(slot, _)| !constants.contains(&(node, *slot)));
    let inputs = computed.filter_map(|(_, value)| *value);
    let all = inputs.chain(graph.nodes[node].captured.iter().copied());
    all.filter(|&value| !is_constant(graph, value))
}
