//! The layers of a model, as a drawing needs them: widths, and who reads whom.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::graph::{Graph, GroupId, NodeId, ValueId};
use crate::groups::{Groups, Widths};
use crate::select::CostModel;
use crate::verify::Change;

/// Of layers that read a sum of many, no more than this many sources are told: the latest.
const MOST_SOURCES: usize = 3;

/// A node with a constant weight.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Layer {
    /// The node.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Place in the report's groups of the channels that it makes; `None` without one.
    pub group: Option<usize>,
    /// The channels that it makes.
    pub channels: Change<usize>,
    /// Its multiply-accumulates.
    #[cfg_attr(test, schemars(with = "Change<crate::verify::Measure>"))]
    pub macs: Change<f64>,
    /// Elements of the weight and the bias that it reads; shared ones count in every layer.
    #[cfg_attr(test, schemars(with = "Change<crate::verify::Measure>"))]
    pub parameters: Change<f64>,
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
    let macs = CostModel::macs_by_node(graph, groups);
    let parameters = CostModel::weights_by_node(graph, groups);
    let whole = groups.widths();
    let change = |models: &BTreeMap<NodeId, CostModel>, id: NodeId| {
        let total = |widths| models.get(&id).map_or(0.0, |model| model.total(widths));
        Change {
            before: total(&whole),
            after: total(widths),
        }
    };
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
        if macs.contains_key(&id) {
            let level = from.iter().map(level).max().map_or(0, |level| level + 1);
            let group = group_of.get(&id).copied();
            layers.push(Layer {
                name: node.name.clone(),
                operator: node.full_name(),
                group: group.map(GroupId::index),
                channels: channels(groups, group, widths),
                macs: change(&macs, id),
                parameters: change(&parameters, id),
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
