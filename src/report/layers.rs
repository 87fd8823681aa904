//! The layers of a model, as a drawing needs them: widths, and who reads whom.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::graph::{Graph, GroupId, NodeId, ValueId};
use crate::groups::{Groups, Widths};
use crate::verify::Change;

/// Of layers that read a sum of many, no more than this many sources are told: the latest.
const MOST_SOURCES: usize = 3;

/// A node with a constant weight.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Place in the report's groups of the channels that it makes, where they have one.
    pub group: Option<usize>,
    /// The channels that it makes.
    pub channels: Change<usize>,
    /// Layers between here and the model's inputs, at most.
    pub level: usize,
    /// Places in this list of the layers that it reads, the latest few, other nodes between left
    /// out.
    pub reads: Vec<usize>,
}

/// The layers in the order of the graph; `widths` has the channels left in every group.
#[must_use]
pub fn layers(graph: &Graph, groups: &Groups, widths: &Widths) -> Vec<Layer> {
    let mut group_of: BTreeMap<NodeId, GroupId> = BTreeMap::new();
    for (index, group) in groups.groups.entries() {
        for &node in &group.producers {
            group_of.entry(node).or_insert(index);
        }
    }
    let weighted: std::collections::BTreeSet<NodeId> =
        groups.costs.iter().map(|cost| cost.node).collect();
    let mut layers: Vec<Layer> = Vec::new();
    // Per value, the layers that it comes from.
    let mut sources: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for &id in &graph.order {
        let Some(node) = graph.nodes.get(id) else {
            continue;
        };
        let read = node.inputs.iter().flatten().chain(&node.captured);
        let mut from: Vec<usize> = read
            .filter_map(|value| sources.get(value))
            .flatten()
            .copied()
            .collect();
        let level = |&layer: &usize| layers.get(layer).map_or(0, |layer| layer.level);
        from.sort_by_key(|layer| (std::cmp::Reverse(level(layer)), *layer));
        from.dedup();
        from.truncate(MOST_SOURCES);
        if weighted.contains(&id) {
            let level = from.iter().map(level).max().map_or(0, |level| level + 1);
            let group = group_of.get(&id).copied();
            layers.push(Layer {
                name: node.name.clone(),
                operator: node.full_name(),
                group: group.map(GroupId::index),
                channels: channels(groups, group, widths),
                level,
                reads: std::mem::take(&mut from),
            });
            from.push(layers.len() - 1);
        }
        for &value in node.outputs.iter().flatten() {
            sources.insert(value, from.clone());
        }
    }
    layers
}

fn channels(groups: &Groups, group: Option<GroupId>, widths: &Widths) -> Change<usize> {
    let group = group.and_then(|index| Some((index, groups.groups.get(index)?)));
    group.map_or_else(Change::default, |(index, group)| {
        let before = group.channels.len();
        Change {
            before,
            after: widths.get(index).copied().unwrap_or(before),
        }
    })
}
