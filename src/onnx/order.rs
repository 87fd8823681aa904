//! Nodes in an order in which each comes after those whose outputs it reads, as the format asks
//! for. Some converters do not keep to it, and ONNX Runtime does not mind.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::Model;
use super::proto::{GraphProto, NodeProto};

impl Model {
    /// The model with the nodes of its main graph in order; those that are so already do not move,
    /// and neither does anything in a graph with a cycle.
    #[must_use]
    pub fn in_order(mut self) -> Model {
        if let Some(graph) = self.proto.graph.as_mut()
            && let Some(order) = new_order(graph)
        {
            let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node)
                .into_iter()
                .map(Some)
                .collect();
            let sorted = order.iter().filter_map(|&at| nodes.get_mut(at)?.take());
            graph.node = sorted.collect();
        }
        self
    }
}

/// The places of the nodes in a valid order; nothing where they are in one, or none exists.
fn new_order(graph: &GraphProto) -> Option<Vec<usize>> {
    let mut producers = BTreeMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            producers.insert(output.as_str(), at);
        }
    }
    let mut readers = vec![Vec::new(); graph.node.len()];
    let mut waits = vec![0usize; graph.node.len()];
    let mut is_sorted = true;
    for (at, node) in graph.node.iter().enumerate() {
        let mut names = BTreeSet::new();
        read(node, &mut names);
        let before: BTreeSet<usize> = names
            .iter()
            .filter_map(|name| producers.get(name).copied())
            .collect();
        for &producer in &before {
            is_sorted &= producer < at;
            readers.get_mut(producer)?.push(at);
        }
        *waits.get_mut(at)? = before.len();
    }
    if is_sorted {
        return None;
    }
    let free = (0..waits.len()).filter(|&at| waits.get(at) == Some(&0));
    let mut ready: BinaryHeap<Reverse<usize>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for &reader in readers.get(at)? {
            let left = waits.get_mut(reader)?;
            *left = left.saturating_sub(1);
            if *left == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    (order.len() == waits.len()).then_some(order)
}

/// Names that a node or its subgraphs read.
fn read<'a>(node: &'a NodeProto, names: &mut BTreeSet<&'a str>) {
    names.extend(node.input.iter().map(String::as_str));
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            names.extend(graph.output.iter().map(|output| output.name()));
            for inner in &graph.node {
                read(inner, names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{AttributeProto, ModelProto};

    fn node(name: &str, inputs: &[&str]) -> NodeProto {
        NodeProto {
            name: Some(name.to_owned()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            ..Default::default()
        }
    }

    fn names(nodes: Vec<NodeProto>) -> Vec<String> {
        let graph = GraphProto {
            node: nodes,
            ..Default::default()
        };
        let proto = ModelProto {
            graph: Some(graph),
            ..Default::default()
        };
        let sorted = Model { proto }.in_order().proto.graph;
        let nodes = sorted.into_iter().flat_map(|graph| graph.node);
        nodes.map(|node| node.name().to_owned()).collect()
    }

    #[test]
    fn nodes_come_after_what_they_and_their_subgraphs_read() {
        let mut branch = node("if", &["x"]);
        let body = GraphProto {
            node: vec![node("inner", &["late"])],
            ..Default::default()
        };
        branch.attribute.push(AttributeProto {
            g: Some(body),
            ..Default::default()
        });
        let nodes = vec![
            branch,
            node("b", &["a"]),
            node("a", &["x"]),
            node("late", &[]),
        ];
        assert_eq!(names(nodes), ["a", "b", "late", "if"]);
    }

    #[test]
    fn sorted_nodes_and_cycles_stay() {
        let sorted = vec![node("b", &[]), node("a", &["b"]), node("c", &["x"])];
        assert_eq!(names(sorted), ["b", "a", "c"]);
        let cycle = vec![node("c", &["a"]), node("a", &["b"]), node("b", &["a"])];
        assert_eq!(names(cycle), ["c", "a", "b"]);
    }
}
