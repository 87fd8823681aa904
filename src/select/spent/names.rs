//! Names of nodes in what runtimes call their kernels.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId};

/// What may stand around a node's name.
const AROUND: [char; 9] = [' ', ',', '(', ')', '[', ']', '{', '}', '\t'];
/// What a runtime may put between a name and its own addition.
const BEHIND: [char; 3] = ['_', '/', ':'];
/// TensorRT names a part of the graph by its first node and its last with this between them.
const RANGE: &str = "...";

/// The nodes that a text names, in its order.
pub(super) struct Named {
    pub nodes: Vec<NodeId>,
    /// Whether a name stands before them that is none of the graph's.
    pub is_behind: bool,
}

/// The graph's names.
pub(super) struct Names<'a> {
    graph: &'a Graph,
    known: BTreeMap<&'a str, NodeId>,
}

impl<'a> Names<'a> {
    /// Those of the nodes, and of the values that they make.
    pub fn of(graph: &'a Graph) -> Self {
        let mut known = BTreeMap::new();
        for (id, node) in graph.nodes.entries() {
            known.entry(node.name.as_str()).or_insert(id);
            let values = node.outputs.iter().flatten();
            for value in values.filter_map(|&value| graph.values.get(value)) {
                known.entry(value.name.as_str()).or_insert(id);
            }
        }
        known.remove("");
        Names { graph, known }
    }

    /// What a text names.
    pub fn in_text(&self, text: &str) -> Named {
        if let Some(node) = self.one(text) {
            return Named {
                nodes: vec![node],
                is_behind: false,
            };
        }
        let words = text.split(AROUND).filter(|word| !word.is_empty());
        let of_word = |word: &str| match word.split_once(RANGE) {
            Some((first, last)) => self.between(first, last),
            None => self.one(word).into_iter().collect(),
        };
        let all: Vec<Vec<NodeId>> = words.map(of_word).collect();
        let is_behind = all.first().is_some_and(Vec::is_empty);
        let mut nodes = all.concat();
        let mut seen = BTreeSet::new();
        nodes.retain(|&node| seen.insert(node));
        Named { nodes, is_behind }
    }

    /// The node of a name, or of the longest name that it begins with.
    fn one(&self, word: &str) -> Option<NodeId> {
        if let Some(&node) = self.known.get(word) {
            return Some(node);
        }
        let ends = word
            .char_indices()
            .rev()
            .filter(|(_, c)| BEHIND.contains(c));
        let mut begins = ends.filter_map(|(end, _)| word.get(..end));
        begins.find_map(|begin| self.known.get(begin).copied())
    }

    /// The nodes on the ways from one node to another, both included.
    fn between(&self, first: &str, last: &str) -> Vec<NodeId> {
        let (Some(first), Some(last)) = (self.one(first), self.one(last)) else {
            return Vec::new();
        };
        let graph = self.graph;
        let mut below = BTreeSet::from([first]);
        for &id in &graph.order {
            let inputs = graph
                .nodes
                .get(id)
                .into_iter()
                .flat_map(|node| &node.inputs);
            let mut makers = inputs
                .flatten()
                .filter_map(|&value| graph.values.get(value)?.producer);
            if makers.any(|maker| below.contains(&maker)) {
                below.insert(id);
            }
        }
        let mut above = BTreeSet::from([last]);
        for &id in graph.order.iter().rev() {
            if !above.contains(&id) {
                continue;
            }
            let inputs = graph
                .nodes
                .get(id)
                .into_iter()
                .flat_map(|node| &node.inputs);
            above.extend(
                inputs
                    .flatten()
                    .filter_map(|&value| graph.values.get(value)?.producer),
            );
        }
        let is_between = |id: &&NodeId| below.contains(id) && above.contains(id);
        graph.order.iter().filter(is_between).copied().collect()
    }
}
