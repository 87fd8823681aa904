//! From atoms to channels and groups.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId, Table};
use crate::groups::ties;
use crate::groups::walk::{Reason, Walk};
use crate::groups::{
    Atom, Axes, AxisMap, ChannelAxes, ChannelId, ChannelMap, Elements, Entry, Group, Groups, Role,
};

/// Resolves the united atoms of a finished walk.
pub(super) fn partition(graph: &Graph, walk: Walk<'_>) -> Groups {
    let (channel_of, channel_count) = number_channels(&walk);
    let resolve = |map: &[Atom]| -> ChannelMap {
        map.iter()
            .filter_map(|&atom| channel_of.get(atom as usize).copied())
            .collect()
    };
    let resolve_axes = |axes: &Axes| -> ChannelAxes {
        axes.iter()
            .map(|map| map.as_ref().map(|map| resolve(map)))
            .collect()
    };
    let mut reasons: Vec<(&Reason, usize)> = walk.reasons.iter().map(|(r, &n)| (r, n)).collect();
    reasons.sort_by_key(|(_, number)| *number);
    let mut frozen = vec![BTreeSet::new(); channel_count];
    for &(atom, reason) in &walk.frozen {
        if let Some(&channel) = channel_of.get(atom as usize) {
            frozen[channel].insert(reason);
        }
    }
    let of_matrices = of_matrices(&walk, &resolve);
    let mut groups = Groups {
        channel_count,
        groups: Table::default(),
        values: walk.values.iter().map(resolve_axes).collect(),
        uses: walk
            .uses
            .iter()
            .map(|(at, axes)| (*at, resolve_axes(axes)))
            .collect(),
        entries: walk
            .entries
            .iter()
            .map(|(at, map)| (*at, entry(walk.open.get(at), map, &resolve)))
            .collect(),
        counts: walk
            .counts
            .iter()
            .map(|(at, maps)| (*at, maps.iter().map(|map| resolve(map)).collect()))
            .collect(),
        consumers: walk.consumers,
        sharing: Vec::new(),
        costs: walk.costs,
        refused: walk.refused,
        batch: walk.mixes_samples.then_some(walk.samples),
    };
    let mut first_origin = vec![None; channel_count];
    for (atom, &channel) in channel_of.iter().enumerate() {
        first_origin[channel].get_or_insert(walk.origins[atom]);
    }
    let reasons: Vec<&Reason> = reasons.into_iter().map(|(reason, _)| reason).collect();
    let facts = Facts::of(graph, &groups, (&frozen, &reasons), &first_origin);
    groups.groups = collect(graph, &groups, &facts).into();
    mark_inner(&mut groups, &of_matrices);
    let weights = walk.weights.iter().copied();
    groups.sharing = ties::sharing(graph, &groups, walk.rules, weights);
    groups
}

/// The channels along axes of matrices in products of activations.
fn of_matrices(walk: &Walk<'_>, resolve: &dyn Fn(&[Atom]) -> ChannelMap) -> BTreeSet<ChannelId> {
    let roles = walk.splits.roles.iter();
    let maps = roles.filter(|(_, role)| *role == Role::Matrix);
    maps.flat_map(|(map, _)| resolve(map)).collect()
}

fn mark_inner(groups: &mut Groups, of_matrices: &BTreeSet<ChannelId>) {
    for group in &mut groups.groups {
        let first = group.channels.first();
        group.is_inner = first.is_some_and(|first| of_matrices.contains(first));
    }
}

fn entry(
    open: Option<&(i64, Vec<AxisMap>)>,
    map: &AxisMap,
    resolve: &dyn Fn(&[Atom]) -> ChannelMap,
) -> Entry {
    match open {
        Some((open, maps)) => Entry {
            counted: maps.iter().flat_map(|map| resolve(map)).collect(),
            open: Some(*open),
        },
        None => Entry {
            counted: resolve(map),
            open: None,
        },
    }
}

/// Positions of a channel along the weights, where they are fewest.
fn positions(signature: &Signature, in_values: usize) -> usize {
    // Places in constants are numbered after the `in_values` places in values.
    let weights = signature.iter().filter(|(place, _)| *place >= in_values);
    weights.map(|(_, count)| *count).min().unwrap_or(1)
}

/// A channel per root of the union-find, numbered by its first atom.
fn number_channels(walk: &Walk<'_>) -> (Vec<ChannelId>, usize) {
    let mut numbers = BTreeMap::new();
    let channel_of = (0..walk.origins.len())
        .map(|atom| {
            let next = numbers.len();
            *numbers
                .entry(walk.united.find(atom as Atom))
                .or_insert(next)
        })
        .collect();
    (channel_of, numbers.len())
}

/// Where a channel appears: a place and how often there. Equal signatures are interchangeable.
type Signature = Vec<(usize, usize)>;

fn signatures(groups: &Groups) -> Vec<Signature> {
    let mut signatures: Vec<Signature> = vec![Vec::new(); groups.channel_count];
    let everywhere = groups
        .values
        .iter()
        .chain(groups.uses.values())
        .flatten()
        .flatten();
    for (place, map) in everywhere.enumerate() {
        for &channel in map {
            match signatures[channel].last_mut() {
                Some((last, count)) if *last == place => *count += 1,
                _ => signatures[channel].push((place, 1)),
            }
        }
    }
    signatures
}

/// What is known of each channel.
struct Facts<'a> {
    /// Why it must stay, as numbers of reasons: a tensor that thousands of nodes read has
    /// thousands.
    frozen: &'a [BTreeSet<usize>],
    reasons: &'a [&'a Reason],
    first_origin: &'a [Option<NodeId>],
    /// Who reads the channel, as indexes of consumers.
    consumers: Vec<Vec<usize>>,
    /// Nodes with a weight whose output it is.
    producers: Vec<Vec<NodeId>>,
}

impl<'a> Facts<'a> {
    fn of(
        graph: &Graph,
        groups: &Groups,
        (frozen, reasons): (&'a [BTreeSet<usize>], &'a [&'a Reason]),
        first_origin: &'a [Option<NodeId>],
    ) -> Self {
        let mut consumers = vec![Vec::new(); groups.channel_count];
        for (index, consumer) in groups.consumers.iter().enumerate() {
            for &channel in groups.read_by(consumer).into_iter().flatten() {
                note(&mut consumers[channel], index);
            }
        }
        let mut producers = vec![Vec::new(); groups.channel_count];
        let weights = groups.costs.iter();
        for cost in weights.filter(|cost| matches!(cost.of, Elements::Weight(_))) {
            let made = graph.nodes[cost.node].outputs.iter().flatten().next();
            let axes = made.and_then(|&value| groups.values.get(value));
            for &channel in axes.into_iter().flatten().flatten().flatten() {
                note(&mut producers[channel], cost.node);
            }
        }
        Facts {
            frozen,
            reasons,
            first_origin,
            consumers,
            producers,
        }
    }
}

/// Adds what is not there yet; equal ones come one after the other.
fn note<T: PartialEq>(list: &mut Vec<T>, index: T) {
    if list.last() != Some(&index) {
        list.push(index);
    }
}

fn collect(graph: &Graph, groups: &Groups, facts: &Facts<'_>) -> Vec<Group> {
    let mut members: BTreeMap<_, Vec<ChannelId>> = BTreeMap::new();
    for (channel, signature) in signatures(groups).into_iter().enumerate() {
        if !signature.is_empty() {
            members
                .entry((signature, &facts.frozen[channel]))
                .or_default()
                .push(channel);
        }
    }
    let in_values = groups.values.iter().flatten().flatten().count();
    let mut sets: Vec<(usize, Vec<ChannelId>)> = members
        .into_iter()
        .map(|((signature, _), channels)| (positions(&signature, in_values), channels))
        .collect();
    sets.sort_by_key(|(_, channels)| channels.first().copied());
    sets.into_iter()
        .map(|(positions, channels)| Group {
            positions,
            ..describe(graph, facts, channels)
        })
        .collect()
}

fn describe(graph: &Graph, facts: &Facts<'_>, channels: Vec<ChannelId>) -> Group {
    let first = channels.first().copied().unwrap_or_default();
    let consumers = facts.consumers[first].clone();
    let mut producers = facts.producers[first].clone();
    let origin = facts.first_origin[first];
    if producers.is_empty() {
        producers.extend(origin);
    }
    let name = origin
        .map(|node| graph.nodes[node].name.clone())
        .unwrap_or_default();
    let held = facts.frozen[first].iter();
    let held = held.filter_map(|&number| facts.reasons.get(number).copied());
    let mut reasons: Vec<Reason> = held.cloned().collect();
    reasons.sort_unstable();
    if reasons.is_empty() && consumers.is_empty() {
        let text = "no convolution or matrix product reads the channels, so nothing tells what \
                    they are worth";
        reasons.push(Reason {
            node: None,
            text: text.to_owned(),
        });
    }
    Group {
        name,
        positions: 1,
        is_inner: false,
        channels,
        producers,
        consumers,
        frozen: reasons,
    }
}
