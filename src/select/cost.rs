//! What a model costs as a function of the width of every group.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, GroupId, NodeId, Table, ValueId};
use crate::groups::{ChannelAxes, ChannelMap, Cost, Elements, Groups, Stored, Use, Widths};
use crate::onnx::Tensor;
use crate::ops;
use crate::profile::Profile;
use crate::select::spent::{Goes, spent};

/// A sum of terms, each a constant times the lengths of the axes of one weight.
#[derive(Debug, Clone, Default)]
pub struct CostModel {
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    factor: f64,
    axes: Vec<Axis>,
}

/// What the widths make of a term.
#[derive(Debug, Clone, PartialEq)]
enum Axis {
    /// The length of an axis: positions that never leave, and how many each channel of a group has.
    Length {
        fixed: f64,
        per_channel: BTreeMap<GroupId, f64>,
    },
    /// What was measured of a group.
    Measured(Curve),
}

/// What a cost is at some widths of a group, as a share of that at its present one.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The group.
    pub group: GroupId,
    /// Widths, rising, with their shares.
    pub points: Vec<(usize, f64)>,
}

impl Curve {
    /// The share at a width: between two points on the line through them, beyond the last as
    /// there.
    #[must_use]
    pub fn at(&self, width: usize) -> f64 {
        let next = self.points.partition_point(|(known, _)| *known < width);
        let before = next.checked_sub(1).and_then(|last| self.points.get(last));
        match (before, self.points.get(next)) {
            (Some(&(low, left)), Some(&(high, right))) => {
                let share = (width - low) as f64 / (high - low) as f64;
                left + share * (right - left)
            }
            (Some((_, share)), None) | (None, Some((_, share))) => *share,
            (None, None) => 1.0,
        }
    }
}

impl CostModel {
    /// Multiply-accumulates of one sample through convolutions and matrix products.
    #[must_use]
    pub fn macs(graph: &Graph, groups: &Groups) -> Self {
        CostModel::macs_of(graph, groups, &|_| true)
    }

    /// Those of the nodes that `counts` names.
    pub(crate) fn macs_of(graph: &Graph, groups: &Groups, counts: &dyn Fn(NodeId) -> bool) -> Self {
        let group_of = group_of(groups);
        let costs = groups.costs.iter().filter(|cost| counts(cost.node));
        CostModel {
            terms: costs
                .filter_map(|cost| term(graph, groups, cost, &group_of))
                .collect(),
        }
    }

    /// Those of every node that has any.
    pub(crate) fn macs_by_node(graph: &Graph, groups: &Groups) -> BTreeMap<NodeId, Self> {
        let group_of = group_of(groups);
        let mut all: BTreeMap<NodeId, CostModel> = BTreeMap::new();
        for cost in &groups.costs {
            let of_node = all.entry(cost.node).or_default();
            of_node.terms.extend(term(graph, groups, cost, &group_of));
        }
        all
    }

    /// Elements of the weights and biases that every node with a cost reads; one that several share
    /// counts for each of them.
    pub(crate) fn weights_by_node(graph: &Graph, groups: &Groups) -> BTreeMap<NodeId, Self> {
        let group_of = group_of(groups);
        let slots = groups.costs.iter().filter_map(|cost| match cost.of {
            Elements::Weight(slot) => Some((cost.node, slot)),
            Elements::Axes(_) => None,
        });
        let slots: BTreeSet<Use> = slots.collect();
        let read = |&node: &NodeId| {
            let inputs = graph.nodes.get(node).map(|node| node.inputs.as_slice());
            let inputs = inputs.unwrap_or_default().iter().enumerate();
            let terms = inputs.filter_map(|(slot, value)| {
                let value = graph.values.get((*value)?)?;
                let is_float = value.dtype.is_some_and(ops::constant::is_weight);
                let is_read = slots.contains(&(node, slot)) || value.is_constant && is_float;
                is_read.then_some(Term {
                    factor: 1.0,
                    axes: lengths(
                        value.shape.as_deref()?,
                        groups.uses.get(&(node, slot)),
                        &group_of,
                    ),
                })
            });
            let terms = terms.collect();
            (node, CostModel { terms })
        };
        let nodes: BTreeSet<NodeId> = groups.costs.iter().map(|cost| cost.node).collect();
        nodes.iter().map(read).collect()
    }

    /// The time of a run as profiled: that of nodes with a weight goes with their
    /// multiply-accumulates, that of others with the elements that they make, the rest stays.
    #[must_use]
    pub fn time(graph: &Graph, groups: &Groups, profile: &Profile) -> Self {
        CostModel::sum(CostModel::times(graph, groups, profile).into_values())
    }

    /// The same in its parts.
    #[must_use]
    pub fn times(graph: &Graph, groups: &Groups, profile: &Profile) -> BTreeMap<Goes, Self> {
        let group_of = group_of(groups);
        let whole = groups.widths();
        let macs = CostModel::macs_by_node(graph, groups);
        let mut times: BTreeMap<Goes, CostModel> = BTreeMap::new();
        for part in spent(graph, groups, profile) {
            let terms = match part.with {
                Goes::WithWork(node) => match macs.get(&node) {
                    Some(macs) if !macs.terms.is_empty() => macs.terms.clone(),
                    _ => elements(graph, groups, node, &group_of),
                },
                Goes::WithOutputs(node) => elements(graph, groups, node, &group_of),
                Goes::Nowhere => Vec::new(),
            };
            let model = times.entry(part.with).or_default();
            let now: f64 = terms.iter().map(|term| term.cost(&whole)).sum();
            if now > 0.0 {
                terms
                    .into_iter()
                    .for_each(|term| model.add(term, part.milliseconds / now));
            } else {
                model.add(Term::fixed(part.milliseconds), 1.0);
            }
        }
        times
    }

    /// The sum of models.
    #[must_use]
    pub fn sum(models: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = CostModel::default();
        for term in models.into_iter().flat_map(|model| model.terms) {
            sum.add(term, 1.0);
        }
        sum
    }

    /// What costs `whole` at the present widths, and at others what was measured: the product of
    /// the groups' shares.
    #[must_use]
    pub fn measured(whole: f64, curves: impl IntoIterator<Item = Curve>) -> Self {
        let term = Term {
            factor: whole,
            axes: curves.into_iter().map(Axis::Measured).collect(),
        };
        CostModel { terms: vec![term] }
    }

    /// Adds a multiple of a term; those that go with the same channels become one, which keeps a
    /// model of many small nodes quick to evaluate.
    fn add(&mut self, mut term: Term, times: f64) {
        let fixed = term.axes.iter().filter_map(Axis::fixed);
        term.factor *= times * fixed.product::<f64>();
        term.axes.retain(|axis| axis.fixed().is_none());
        match self.terms.iter_mut().find(|known| known.axes == term.axes) {
            Some(known) => known.factor += term.factor,
            None => self.terms.push(term),
        }
    }

    /// Elements of the weights as they are stored, constants that do not change left out.
    #[must_use]
    pub fn parameters(graph: &Graph, groups: &Groups) -> Self {
        let weights = weights_of(graph, groups);
        CostModel::stored(graph, groups, &|value, tensor| {
            let is_weight = ops::constant::is_weight(tensor.dtype) || weights.contains(&value);
            is_weight.then_some(1.0)
        })
    }

    /// Bytes of the constants as they are stored, and so many `beside` them.
    #[must_use]
    pub fn bytes(graph: &Graph, groups: &Groups, beside: f64) -> Self {
        let mut model = CostModel::stored(graph, groups, &|_, tensor| {
            tensor.dtype.bits().map(|bits| bits as f64 / 8.0)
        });
        model.terms.push(Term::fixed(beside));
        model
    }

    /// What the elements of the constants cost as they are stored, each as much as `each` says;
    /// none of those are counted of which it says nothing.
    fn stored(
        graph: &Graph,
        groups: &Groups,
        each: &dyn Fn(ValueId, &Tensor) -> Option<f64>,
    ) -> Self {
        let group_of = group_of(groups);
        let mut terms = Vec::new();
        for (value, cuts) in stored_cuts(graph, groups) {
            let tensor = graph.values[value].constant.as_ref();
            let Some((tensor, factor)) = tensor.and_then(|t| Some((t, each(value, t)?))) else {
                continue;
            };
            let is_stored = graph.values[value]
                .producer
                .is_none_or(|node| ops::of(&graph.nodes[node]).stores_tensor());
            // A tensor that several nodes cut in the same way is stored once.
            let reads = cuts.iter().filter(|cut| is_stored || cut.is_some());
            terms.extend(reads.map(|cut| Term {
                factor,
                axes: lengths(&tensor.shape, cut.as_ref(), &group_of),
            }));
        }
        CostModel { terms }
    }

    /// The cost when every group has that many channels left.
    #[must_use]
    pub fn total(&self, widths: &Widths) -> f64 {
        // The sum of no terms would be -0.
        0.0 + self.terms.iter().map(|term| term.cost(widths)).sum::<f64>()
    }

    /// For each of `widths`' groups, the cost of all that its width changes.
    #[must_use]
    pub fn shares(&self, widths: &Widths) -> Table<GroupId, f64> {
        let mut shares = Table::from(vec![0.0; widths.len()]);
        for term in &self.terms {
            let cost = term.cost(widths);
            let groups = term.axes.iter().flat_map(Axis::groups);
            for group in groups.collect::<BTreeSet<_>>() {
                if let Some(share) = shares.get_mut(group) {
                    *share += cost;
                }
            }
        }
        shares
    }

    /// The part of the cost that a group's width changes, per group.
    #[must_use]
    pub fn touching(&self, group: GroupId) -> CostModel {
        let terms = self.terms.iter().filter(|term| term.touches(group));
        CostModel {
            terms: terms.cloned().collect(),
        }
    }

    /// Whether a group's width changes the cost.
    #[must_use]
    pub fn touches(&self, group: GroupId) -> bool {
        self.terms.iter().any(|term| term.touches(group))
    }
}

fn term(graph: &Graph, groups: &Groups, cost: &Cost, group_of: &[GroupId]) -> Option<Term> {
    let factor = cost.positions;
    let weight = match &cost.of {
        Elements::Weight(slot) => *slot,
        Elements::Axes(axes) => {
            let axes = axes.iter();
            let axes = axes.map(|at| length(graph, groups, *at, group_of));
            return Some(Term {
                factor,
                axes: axes.collect::<Option<_>>()?,
            });
        }
    };
    let value = (*graph.nodes.get(cost.node)?.inputs.get(weight)?)?;
    let shape = graph.values.get(value)?.shape.as_deref()?;
    let axes = groups.uses.get(&(cost.node, weight));
    Some(Term {
        factor,
        axes: lengths(shape, axes, group_of),
    })
}

/// What is stored of the weights that nodes multiply with, of whatever type.
fn weights_of(graph: &Graph, groups: &Groups) -> BTreeSet<ValueId> {
    let weight = |cost: &Cost| match cost.of {
        Elements::Weight(slot) => graph.view(cost.node).input(slot),
        Elements::Axes(_) => None,
    };
    let weights = groups.costs.iter().filter_map(weight);
    weights
        .map(|value| Stored::of(graph, value, &ops::RULES).root)
        .collect()
}

/// Per constant, the different ways in which it is cut where it is stored.
fn stored_cuts(graph: &Graph, groups: &Groups) -> BTreeMap<ValueId, BTreeSet<Option<ChannelAxes>>> {
    let mut all: BTreeMap<ValueId, BTreeSet<Option<ChannelAxes>>> = BTreeMap::new();
    let anew = stored_anew(graph, groups);
    let constants = graph.values.entries();
    for (id, value) in constants.filter(|(_, value)| value.constant.is_some()) {
        let stored = Stored::of(graph, id, &ops::RULES);
        let is_kept = stored.root != id && graph.values[stored.root].constant.is_some();
        let reads = value.readers.iter().filter(|at| !is_folded(graph, at.0));
        let mut reads = reads.peekable();
        // What only other constants are computed from goes where these are stored anew.
        if reads.peek().is_none() && (is_kept || is_replaced(graph, &anew, id)) {
            continue;
        }
        let cuts = reads.map(|at| groups.uses.get(at));
        let rooted = |axes: &ChannelAxes| -> ChannelAxes {
            let rank = graph.values[stored.root].shape.as_ref().map_or(0, Vec::len);
            let axis = |axis| axes.get(stored.axis_of(axis)?)?.clone();
            (0..rank).map(axis).collect()
        };
        let cuts: Vec<Option<ChannelAxes>> = cuts.map(|cut| cut.map(rooted)).collect();
        let entry = all.entry(stored.root).or_default();
        if cuts.is_empty() {
            entry.insert(None);
        } else {
            entry.extend(cuts);
        }
    }
    all
}

impl Term {
    fn fixed(cost: f64) -> Term {
        Term {
            factor: cost,
            axes: Vec::new(),
        }
    }

    fn touches(&self, group: GroupId) -> bool {
        let mut groups = self.axes.iter().flat_map(Axis::groups);
        groups.any(|other| other == group)
    }

    fn cost(&self, widths: &Widths) -> f64 {
        self.axes
            .iter()
            .map(|axis| axis.length(widths))
            .product::<f64>()
            * self.factor
    }
}

impl Axis {
    /// An axis of that length with the channels of `map` along it.
    fn of(map: Option<&ChannelMap>, length: usize, group_of: &[GroupId]) -> Axis {
        let Some(map) = map else {
            return Axis::Length {
                fixed: length as f64,
                per_channel: BTreeMap::new(),
            };
        };
        let mut counts: BTreeMap<GroupId, (usize, Vec<usize>)> = BTreeMap::new();
        for &channel in map {
            let entry = counts.entry(group_of[channel]).or_default();
            entry.0 += 1;
            entry.1.push(channel);
        }
        let times = |(group, (count, mut channels)): (GroupId, (usize, Vec<usize>))| {
            channels.sort_unstable();
            channels.dedup();
            (group, count as f64 / channels.len() as f64)
        };
        Axis::Length {
            fixed: 0.0,
            per_channel: counts.into_iter().map(times).collect(),
        }
    }

    /// The groups whose widths make a difference to it.
    fn groups(&self) -> Vec<GroupId> {
        match self {
            Axis::Length { per_channel, .. } => per_channel.keys().copied().collect(),
            Axis::Measured(curve) => vec![curve.group],
        }
    }

    /// What it is where no width makes a difference.
    fn fixed(&self) -> Option<f64> {
        match self {
            Axis::Length { fixed, per_channel } if per_channel.is_empty() => Some(*fixed),
            _ => None,
        }
    }

    fn length(&self, widths: &Widths) -> f64 {
        let width = |group: &GroupId| widths.get(*group).copied().unwrap_or(0);
        match self {
            Axis::Length { fixed, per_channel } => {
                let each = per_channel.iter();
                let channels = each.map(|(group, times)| times * width(group) as f64);
                fixed + channels.sum::<f64>()
            }
            Axis::Measured(curve) => curve.at(width(&curve.group)),
        }
    }
}

/// The elements that a node makes.
fn elements(graph: &Graph, groups: &Groups, node: NodeId, group_of: &[GroupId]) -> Vec<Term> {
    let outputs = graph.nodes.get(node).map(|node| node.outputs.as_slice());
    let made = outputs.unwrap_or_default().iter().flatten();
    let term = |&value: &ValueId| {
        let shape = graph.values.get(value)?.shape.as_deref()?;
        Some(Term {
            factor: 1.0,
            axes: lengths(shape, groups.values.get(value), group_of),
        })
    };
    made.filter_map(term).collect()
}

/// Whether everything that the node makes is known before the model runs.
fn is_folded(graph: &Graph, node: NodeId) -> bool {
    let outputs = &graph.nodes[node].outputs;
    outputs
        .iter()
        .flatten()
        .all(|&value| graph.values[value].is_constant)
}

/// Whether nodes read a constant only to compute others, all of which are cut and stored `anew`.
fn is_replaced(graph: &Graph, anew: &Table<ValueId, bool>, value: ValueId) -> bool {
    graph.values[value].readers.iter().all(|&(node, _)| {
        let mut made = graph.nodes[node].outputs.iter().flatten();
        is_folded(graph, node) && made.all(|&value| anew[value])
    })
}

/// Per value, whether all that read it cut it, or compute what is cut from it.
fn stored_anew(graph: &Graph, groups: &Groups) -> Table<ValueId, bool> {
    let mut anew = Table::from(vec![false; graph.values.len()]);
    for &node in graph.order.iter().rev() {
        for &value in graph.nodes[node].outputs.iter().flatten() {
            let readers = &graph.values[value].readers;
            let is_cut = |at: &Use| groups.uses.contains_key(at);
            let folded = readers.iter().any(|at| is_folded(graph, at.0));
            let mut cut = readers.iter().filter(|at| !is_folded(graph, at.0));
            anew[value] = !readers.is_empty()
                && cut.all(is_cut)
                && (!folded || is_replaced(graph, &anew, value));
        }
    }
    anew
}

/// The group of every channel.
#[must_use]
pub fn group_of(groups: &Groups) -> Vec<GroupId> {
    let mut group_of = vec![GroupId::from(usize::MAX); groups.channel_count];
    for (index, group) in groups.groups.entries() {
        for &channel in &group.channels {
            group_of[channel] = index;
        }
    }
    group_of
}

/// The length of an axis of a computed value.
fn length(
    graph: &Graph,
    groups: &Groups,
    (value, axis): (ValueId, usize),
    group_of: &[GroupId],
) -> Option<Axis> {
    let length = *graph.values.get(value)?.shape.as_ref()?.get(axis)?;
    let map = groups.values.get(value)?.get(axis)?.as_ref();
    Some(Axis::of(map, length, group_of))
}

fn lengths(shape: &[usize], axes: Option<&ChannelAxes>, group_of: &[GroupId]) -> Vec<Axis> {
    let map = |axis: usize| axes.and_then(|axes| axes.get(axis)?.as_ref());
    let each = shape.iter().enumerate();
    each.map(|(axis, &length)| Axis::of(map(axis), length, group_of))
        .collect()
}
