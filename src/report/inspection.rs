//! What can be pruned in a model, and what holds the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::flags::with_flags;
use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{ChannelMap, Elements, Group, Groups, Reason, Widths};
use crate::onnx::DataType;
use crate::report::sentence;
use crate::select::CostModel;

/// The groups of a model.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Inspection {
    /// Multiply-accumulates of one sample in the nodes with a constant weight.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub macs: f64,
    /// Elements of the weights.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub parameters: f64,
    /// Share of the multiply-accumulates that pruning can change.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub prunable_macs: f64,
    /// The groups, in the order of the graph.
    pub groups: Vec<GroupInspection>,
    /// Layers with weights that make no channels of a group.
    pub ungrouped: Vec<Ungrouped>,
}

/// A layer with weights that makes no channels of a group, so that it is not pruned.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ungrouped {
    /// The node.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Share of the model's multiply-accumulates in the node; 0 where they are not known.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub macs_share: f64,
    /// Why it stays.
    pub frozen: String,
}

/// One group.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GroupInspection {
    /// Its name, that of the first node that makes its channels.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Share of the model's multiply-accumulates in nodes that read or make the channels.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub macs_share: f64,
    /// Share of the model's parameters in tensors with the channels.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    let widths: Widths = groups
        .groups
        .iter()
        .map(|group| group.channels.len())
        .collect();
    let macs = CostModel::macs(graph, groups);
    let parameters = CostModel::parameters(graph, groups);
    let [of_macs, of_parameters] = [&macs, &parameters].map(|model| {
        let whole = model.total(&widths);
        let shares = model.shares(&widths);
        let shares = shares
            .iter()
            .map(|share| if whole > 0.0 { share / whole } else { 0.0 });
        shares.collect::<Vec<f64>>()
    });
    let node = |id: &NodeId| graph.nodes[*id].name.clone();
    let one = |(((group, macs_share), parameters_share), places): Described<'_>| GroupInspection {
        name: group.name.clone(),
        channels: group.channels.len(),
        macs_share,
        parameters_share,
        producers: group.producers.iter().map(node).collect(),
        consumers: group
            .consumers
            .iter()
            .map(|&c| node(&groups.consumers[c].node))
            .collect(),
        places,
        frozen: group
            .frozen
            .iter()
            .map(|reason| with_flags(&sentence(graph, reason)).into_owned())
            .collect(),
    };
    let least: Widths = groups
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
    let all = groups.groups.iter().zip(of_macs).zip(of_parameters);
    let all = all.zip(places(graph, groups));
    Inspection {
        macs: whole,
        parameters: parameters.total(&widths),
        prunable_macs: if whole > 0.0 {
            1.0 - macs.total(&least) / whole
        } else {
            0.0
        },
        groups: all.map(one).collect(),
        ungrouped: ungrouped(graph, groups),
    }
}

/// The layers with weights that make no channels of a group, in the order of the graph.
#[must_use]
pub fn ungrouped(graph: &Graph, groups: &Groups) -> Vec<Ungrouped> {
    let widths = groups.widths();
    let whole = CostModel::macs(graph, groups).total(&widths);
    let macs = CostModel::macs_by_node(graph, groups);
    let mut weights: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for cost in &groups.costs {
        if let Elements::Weight(slot) = cost.of {
            weights.entry(cost.node).or_default().push(slot);
        }
    }
    let one = |&id: &NodeId| {
        let weights = weights.get(&id).map_or(&[][..], Vec::as_slice);
        let frozen = why_ungrouped(graph, groups, id, weights)?;
        let own = macs.get(&id).map_or(0.0, |macs| macs.total(&widths));
        Some(Ungrouped {
            name: graph.nodes[id].name.clone(),
            operator: graph.nodes[id].full_name(),
            macs_share: if whole > 0.0 { own / whole } else { 0.0 },
            frozen,
        })
    };
    graph.order.iter().filter_map(one).collect()
}

/// Why a layer with weights in these slots makes no channels of a group; `None` where it does, or
/// is no such layer.
fn why_ungrouped(graph: &Graph, groups: &Groups, id: NodeId, weights: &[usize]) -> Option<String> {
    if let Some(text) = groups.refused.get(&id) {
        let is_layer = !weights.is_empty() || reads_weight(graph, id);
        return is_layer.then(|| {
            let reason = Reason {
                node: Some(id),
                text: text.clone(),
            };
            with_flags(&sentence(graph, &reason)).into_owned()
        });
    }
    let is_cut = |slot: usize| groups.uses.contains_key(&(id, slot));
    if weights.is_empty() || weights.iter().any(|&slot| is_cut(slot)) {
        return None;
    }
    let read = graph.view(id).input(0)?;
    let name = &graph.values[read].name;
    Some(format!(
        "it passes on the channels of '{name}', which is not pruned"
    ))
}

/// Whether a constant that the node reads may be a weight: one with two axes or more of numbers
/// that are no indices.
fn reads_weight(graph: &Graph, id: NodeId) -> bool {
    let inputs = graph.nodes[id].inputs.iter().flatten();
    let mut constants = inputs.filter_map(|&value| graph.values[value].constant.as_ref());
    constants.any(|tensor| {
        let is_index = matches!(
            tensor.dtype,
            DataType::Int32 | DataType::Int64 | DataType::Bool
        );
        !is_index && tensor.shape.iter().filter(|&&length| length > 1).count() > 1
    })
}

/// A group with its shares of MACs and parameters, and its places.
type Described<'a> = (((&'a Group, f64), f64), Vec<Place>);

/// Where each group's first channel lies, in one pass over all tensors.
fn places(graph: &Graph, groups: &Groups) -> Vec<Vec<Place>> {
    let mut group_of = vec![None; groups.channel_count];
    for (index, group) in groups.groups.iter().enumerate() {
        if let Some(&first) = group.channels.first() {
            group_of[first] = Some(index);
        }
    }
    let mut places = vec![Vec::new(); groups.groups.len()];
    let mut known = BTreeSet::new();
    let mut add = |value: ValueId, axis: usize, map: &ChannelMap| {
        let mut counts = BTreeMap::new();
        for group in map.iter().filter_map(|&channel| group_of[channel]) {
            *counts.entry(group).or_insert(0) += 1;
        }
        for (group, positions) in counts {
            if known.insert((group, value, axis, positions)) {
                places[group].push(Place {
                    tensor: graph.values[value].name.clone(),
                    axis,
                    positions,
                });
            }
        }
    };
    let values = groups.values.entries();
    let uses = groups
        .uses
        .iter()
        .filter_map(|((node, slot), axes)| Some((graph.view(*node).input(*slot)?, axes)));
    for (value, axes) in values.chain(uses) {
        for (axis, map) in axes.iter().enumerate() {
            if let Some(map) = map {
                add(value, axis, map);
            }
        }
    }
    places
}
