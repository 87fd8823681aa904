//! What can be pruned in a model, and what holds the rest.

use serde::Serialize;

use crate::graph::Graph;
use crate::groups::{ChannelMap, Group, Groups};
use crate::report::sentence;
use crate::select::CostModel;

/// The groups of a model.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Multiply-accumulates of one sample in the nodes with a constant weight.
    pub macs: f64,
    /// Elements of the weights.
    pub parameters: f64,
    /// Share of the MACs that pruning can change.
    pub prunable_macs: f64,
    /// The groups, in the order of the graph.
    pub groups: Vec<GroupInspection>,
}

/// One group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupInspection {
    /// Its name, that of the first node that makes its channels.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Share of the model's MACs in nodes that read or make the channels.
    pub macs_share: f64,
    /// Share of the model's parameters in tensors with the channels.
    pub parameters_share: f64,
    /// Nodes that make the channels.
    pub producers: Vec<String>,
    /// Nodes that read them through a weight.
    pub consumers: Vec<String>,
    /// Tensors and axes that the channels lie along.
    pub places: Vec<Place>,
    /// Why the group is frozen; empty where it may be pruned.
    pub frozen: Vec<String>,
}

/// An axis of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The tensor.
    pub tensor: String,
    /// The axis.
    pub axis: usize,
    /// Positions of one channel along it.
    pub positions: usize,
}

/// Describes the groups of a graph.
#[must_use]
pub fn inspect(graph: &Graph, groups: &Groups) -> Inspection {
    let widths: Vec<usize> = groups
        .groups
        .iter()
        .map(|group| group.channels.len())
        .collect();
    let macs = CostModel::macs(graph, groups);
    let parameters = CostModel::parameters(graph, groups);
    let share = |model: &CostModel, group: usize| {
        let whole = model.total(&widths);
        if whole > 0.0 {
            model.touching(group).total(&widths) / whole
        } else {
            0.0
        }
    };
    let node = |id: &usize| graph.nodes[*id].name.clone();
    let one = |(index, group): (usize, &Group)| GroupInspection {
        name: group.name.clone(),
        channels: group.channels.len(),
        macs_share: share(&macs, index),
        parameters_share: share(&parameters, index),
        producers: group.producers.iter().map(node).collect(),
        consumers: group
            .consumers
            .iter()
            .map(|&c| node(&groups.consumers[c].node))
            .collect(),
        places: places(graph, groups, group),
        frozen: group
            .frozen
            .iter()
            .map(|reason| sentence(graph, reason))
            .collect(),
    };
    let least: Vec<usize> = groups
        .groups
        .iter()
        .map(|group| {
            if group.frozen.is_empty() {
                0
            } else {
                group.channels.len()
            }
        })
        .collect();
    let whole = macs.total(&widths);
    Inspection {
        macs: whole,
        parameters: parameters.total(&widths),
        prunable_macs: if whole > 0.0 {
            1.0 - macs.total(&least) / whole
        } else {
            0.0
        },
        groups: groups.groups.iter().enumerate().map(one).collect(),
    }
}

fn places(graph: &Graph, groups: &Groups, group: &Group) -> Vec<Place> {
    let Some(&first) = group.channels.first() else {
        return Vec::new();
    };
    let count = |map: &ChannelMap| map.iter().filter(|&&channel| channel == first).count();
    let mut places = Vec::new();
    let mut add = |tensor: &str, axis: usize, map: &ChannelMap| {
        let positions = count(map);
        let place = Place {
            tensor: tensor.to_owned(),
            axis,
            positions,
        };
        if positions > 0 && !places.contains(&place) {
            places.push(place);
        }
    };
    for (value, axes) in groups.values.iter().enumerate() {
        for (axis, map) in axes.iter().enumerate() {
            if let Some(map) = map {
                add(&graph.values[value].name, axis, map);
            }
        }
    }
    for ((node, slot), axes) in &groups.uses {
        let Some(value) = graph.view(*node).input(*slot) else {
            continue;
        };
        for (axis, map) in axes.iter().enumerate() {
            if let Some(map) = map {
                add(&graph.values[value].name, axis, map);
            }
        }
    }
    places
}
