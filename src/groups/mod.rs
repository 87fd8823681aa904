//! Coupled channels: which positions of which tensors must stay or leave together.
//!
//! One walk of the graph (`walk`) gives every position along a tracked axis an atom and unites the
//! atoms that an operator couples. A class of united atoms is a *channel*; channels that appear in
//! the same places are interchangeable and form a *group*.

mod axes;
mod backward;
mod constants;
mod consumer;
mod facets;
mod kept;
mod lengths;
mod partition;
mod rule;
mod splits;
mod storage;
#[cfg(test)]
mod tests;
mod ties;
mod walk;
mod weight;

use std::collections::BTreeMap;

use globset::GlobSet;

pub use axes::{Atom, Axes, AxisMap, Use};
pub use backward::{Attribute, Backward, BackwardGraph};
pub use constants::mark;
pub use consumer::{Bias, Consumer, Cost, Elements, Stack, WeightLayout, Window};
pub use facets::{Alike, Edit, Shifted, Taken, Told, Unscaled, Values};
pub use kept::Kept;
pub use lengths::Size;
pub use rule::{Operator, Rules, UNKNOWN};
pub use splits::{Role, SplitId};
pub use storage::{Carried, Dequantizer, Step, Stored};
pub use ties::Sharing;
pub use walk::{Reason, Walk};

use crate::graph::{Graph, GroupId, NodeId, Table, ValueId};

/// Index of a coupled channel.
pub type ChannelId = usize;
/// Channels along one axis, one per position.
pub type ChannelMap = Vec<ChannelId>;
/// Per axis of a tensor, its channels; `None` where the axis never changes.
pub type ChannelAxes = Vec<Option<ChannelMap>>;

/// What leaves of an attention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Heads {
    /// Channels inside the heads where every head's may be [combined](crate::combine), else whole
    /// heads.
    #[default]
    Best,
    /// Whole heads.
    Whole,
    /// Channels inside the heads, the same of each.
    Inside,
}

/// What may leave beyond what is exact and whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// What leaves of an attention.
    pub heads: Heads,
    /// Channels over which a norm runs may leave; the norm then runs over those that are left.
    pub normalized: bool,
}

/// Channels that appear in the same tensors and axes, equally often.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name of the first node that makes the channels.
    pub name: String,
    /// The channels, in the order of the first tensor that they appear in.
    pub channels: Vec<ChannelId>,
    /// Nodes with a weight whose output the channels are.
    pub producers: Vec<NodeId>,
    /// Positions of each channel along the weights that have the fewest of them: a head has its
    /// inner axis's length.
    pub positions: usize,
    /// Whether matrices in products of activations have the channels along an axis, as they have
    /// what is inside a head.
    pub is_inner: bool,
    /// Indexes into [`Groups::consumers`]: who reads the channels linearly.
    pub consumers: Vec<usize>,
    /// Why the group must stay whole; empty where it may be pruned.
    pub frozen: Vec<Reason>,
}

/// An entry of a constant size tensor.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The channels that it counts, of one axis or of several that share it.
    pub counted: ChannelMap,
    /// What to write instead of a number where several axes share it.
    pub open: Option<i64>,
}

/// Ends the reasons that [`Scope::normalized`] lifts.
pub(crate) const HINT: &str = " (`normalized` lets them leave)";

/// How many channels are left of every group.
pub type Widths = Table<GroupId, usize>;

/// All coupled channels of a graph and where they are.
#[derive(Debug, Clone)]
pub struct Groups {
    /// Number of channels.
    pub channel_count: usize,
    /// The groups, in the order of the graph.
    pub groups: Table<GroupId, Group>,
    /// Per value of the graph, the channels along its axes.
    pub values: Table<ValueId, ChannelAxes>,
    /// Per constant read by a node that channels cut, the channels along its axes.
    pub uses: BTreeMap<Use, ChannelAxes>,
    /// Entries of constant size tensors that follow the number of kept channels.
    pub entries: BTreeMap<(Use, usize), Entry>,
    /// Where nodes read numbers that follow from channel counts, with the channels counted: when
    /// some leave, a constant takes the place of the number.
    pub counts: BTreeMap<Use, Vec<ChannelMap>>,
    /// Linear consumers in topological order.
    pub consumers: Vec<Consumer>,
    /// Per consumer, with what it shares its weight.
    pub sharing: Vec<Sharing>,
    /// Costs of the nodes with a weight.
    pub costs: Vec<Cost>,
    /// Nodes that no rule covers, and why: whatever they read stays.
    pub refused: BTreeMap<NodeId, String>,
    /// How many samples a batch must have so that the positions in every tensor are those of the
    /// observed run; none where samples lie along the first axis everywhere.
    pub batch: Option<usize>,
}

impl Groups {
    /// Walks `graph`, which must be [marked](mark) and whose shapes must have been observed, and
    /// finds its groups.
    #[must_use]
    pub fn find(graph: &Graph, scope: Scope, rules: &dyn Rules) -> Self {
        partition::partition(graph, Walk::over(graph, scope, rules))
    }

    /// How many channels every group has.
    #[must_use]
    pub fn widths(&self) -> Widths {
        let groups = self.groups.iter();
        groups.map(|group| group.channels.len()).collect()
    }

    /// Which consumers read channels that may leave.
    #[must_use]
    pub fn judges(&self) -> Vec<bool> {
        let mut judges = vec![false; self.consumers.len()];
        for group in self.groups.iter().filter(|group| group.frozen.is_empty()) {
            for &consumer in &group.consumers {
                judges[consumer] = true;
            }
        }
        judges
    }

    /// Freezes what the user excludes: groups with a producer that `exclude` matches, and, where
    /// `only` is given, groups with a producer that it does not match.
    pub fn restrict(&mut self, graph: &Graph, exclude: Option<&GlobSet>, only: Option<&GlobSet>) {
        let matches = |set: &GlobSet, node: &NodeId| set.is_match(&graph.nodes[*node].name);
        for group in &mut self.groups {
            let mut hold = |node: &NodeId, text: &str| {
                group.frozen.push(Reason {
                    node: Some(*node),
                    text: text.to_owned(),
                });
            };
            for node in &group.producers {
                if exclude.is_some_and(|set| matches(set, node)) {
                    hold(node, "it matches `exclude`");
                }
                if only.is_some_and(|set| !matches(set, node)) {
                    hold(node, "it does not match `only`");
                }
            }
        }
    }

    /// Takes the hint at `--prune-normalized` off the reasons of groups that would stay whole with
    /// it too. The patterns are those of [`Groups::restrict`].
    pub fn check_hints(
        &mut self,
        graph: &Graph,
        scope: Scope,
        rules: &dyn Rules,
        (exclude, only): (Option<&GlobSet>, Option<&GlobSet>),
    ) {
        let is_hinted = |reason: &Reason| reason.text.ends_with(HINT);
        let reasons = self.groups.iter().flat_map(|group| &group.frozen);
        if !reasons.into_iter().any(is_hinted) {
            return;
        }
        let normalized = true;
        let mut tried = Groups::find(
            graph,
            Scope {
                normalized,
                ..scope
            },
            rules,
        );
        tried.restrict(graph, exclude, only);
        let mut leaves = vec![false; tried.channel_count];
        let free = tried.groups.iter().filter(|group| group.frozen.is_empty());
        for &channel in free.flat_map(|group| &group.channels) {
            leaves[channel] = true;
        }
        // The same places in the same tensors.
        let places = self.values.iter().flatten().flatten().flatten();
        let there = self.values.iter().zip(&tried.values);
        let there = there.flat_map(|(own, tried)| own.iter().zip(tried));
        let there = there.filter_map(|(own, tried)| Some((own.as_ref()?, tried)));
        let there = there.flat_map(|(own, tried)| {
            (0..own.len()).map(move |place| tried.as_ref()?.get(place).copied())
        });
        let mut lifted = vec![false; self.channel_count];
        for (&channel, other) in places.zip(there) {
            lifted[channel] |= other.is_some_and(|other| leaves[other]);
        }
        for group in &mut self.groups {
            if group.channels.iter().any(|&channel| lifted[channel]) {
                continue;
            }
            for reason in &mut group.frozen {
                if let Some(text) = reason.text.strip_suffix(HINT) {
                    reason.text = text.to_owned();
                }
            }
        }
    }

    /// The channels along the axis that a consumer reads; `None` where it is not tracked.
    #[must_use]
    pub fn read_by(&self, consumer: &Consumer) -> Option<&ChannelMap> {
        self.values
            .get(consumer.input)?
            .get(consumer.axis)?
            .as_ref()
    }

    /// The channels along the axis that a consumer makes; `None` where it is not tracked.
    #[must_use]
    pub fn made_by(&self, consumer: &Consumer) -> Option<&ChannelMap> {
        if consumer.partner.is_some() {
            return None;
        }
        if consumer.output_axis == Consumer::INNER {
            let axes = self.uses.get(&(consumer.node, consumer.weight))?;
            return axes.get(*consumer.layout.out_axes.first()?)?.as_ref();
        }
        self.values
            .get(consumer.output)?
            .get(consumer.output_axis)?
            .as_ref()
    }
}
