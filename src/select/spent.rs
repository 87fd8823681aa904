//! Which nodes of the graph the time of a profile was spent on.

mod names;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, Node, NodeId};
use crate::groups::Groups;
use crate::profile::{Kernel, Profile};
use crate::select::cost::CostModel;
use names::{Named, Names};

/// A part of a run's time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// What it goes with.
    pub with: Goes,
    /// Milliseconds.
    pub milliseconds: f64,
}

/// What time goes with as channels leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goes {
    /// What the node computes.
    WithWork(NodeId),
    /// The elements that the node makes, which something else handles.
    WithOutputs(NodeId),
    /// It stays.
    Nowhere,
}

/// Whose time the profile shows. Kernels that a runtime adds itself, such as a change of layout,
/// handle what the kernel before them made; the time between kernels stays. What several nodes with
/// weights take together they share by their multiply-accumulates.
#[must_use]
pub fn spent(graph: &Graph, groups: &Groups, profile: &Profile) -> Vec<Spent> {
    let macs = macs_of(graph, groups);
    let mut spent = Vec::new();
    let mut last = Goes::Nowhere;
    let nodes = nodes_of(graph, &macs, profile);
    for (kernel, nodes) in profile.kernels.iter().zip(nodes) {
        let work = |node: &NodeId| macs.get(node).copied().unwrap_or(0.0);
        let total: f64 = nodes.iter().map(work).sum();
        let milliseconds = kernel.milliseconds;
        match nodes.as_slice() {
            [] => spent.push(Spent {
                with: last,
                milliseconds,
            }),
            [node] => spent.push(Spent {
                with: Goes::WithWork(*node),
                milliseconds,
            }),
            several => spent.extend(several.iter().map(|node| Spent {
                with: Goes::WithWork(*node),
                milliseconds: milliseconds * work(node) / total,
            })),
        }
        last = nodes.last().map_or(last, |node| Goes::WithOutputs(*node));
    }
    let inside: f64 = spent.iter().map(|part| part.milliseconds).sum();
    spent.push(Spent {
        with: Goes::Nowhere,
        milliseconds: (profile.run - inside).max(0.0),
    });
    spent
}

/// The names of the kernels that are none of the graph's nodes, by their time.
#[must_use]
pub fn strangers(graph: &Graph, groups: &Groups, profile: &Profile) -> Vec<Kernel> {
    let nodes = nodes_of(graph, &macs_of(graph, groups), profile);
    let all = profile.kernels.iter().zip(nodes);
    let strange = all.filter(|(kernel, nodes)| nodes.is_empty() && kernel.milliseconds > 0.0);
    let mut strange: Vec<Kernel> = strange.map(|(kernel, _)| kernel.clone()).collect();
    strange.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    strange
}

/// The multiply-accumulates of the nodes with weights.
fn macs_of(graph: &Graph, groups: &Groups) -> BTreeMap<NodeId, f64> {
    let whole = groups.widths();
    let all = CostModel::macs_by_node(graph, groups).into_iter();
    let all = all.map(|(node, cost)| (node, cost.total(&whole)));
    all.filter(|(_, macs)| *macs > 0.0).collect()
}

/// Per kernel the nodes whose work it does, each node's once: all that multiply with weights of
/// those that it names, or the one that it is named after.
fn nodes_of(graph: &Graph, macs: &BTreeMap<NodeId, f64>, profile: &Profile) -> Vec<Vec<NodeId>> {
    let names = Names::of(graph);
    let mut taken = BTreeSet::new();
    let mut all: Vec<Vec<NodeId>> = Vec::new();
    for kernel in &profile.kernels {
        let tagged = kernel.node().map(NodeId::from);
        let nodes = match tagged.filter(|&node| graph.nodes.get(node).is_some()) {
            Some(node) => vec![node],
            None => {
                let named = names.in_text(&kernel.name);
                let is_free = |node: &&NodeId| macs.contains_key(*node) && !taken.contains(*node);
                let own: Vec<NodeId> = named.nodes.iter().filter(is_free).copied().collect();
                let main = || main_of(graph, kernel, &named, macs, &taken);
                if own.is_empty() {
                    main().into_iter().collect()
                } else {
                    own
                }
            }
        };
        taken.extend(nodes.iter().copied());
        all.push(nodes);
    }
    in_turn(graph, macs, profile, all)
}

/// The node whose work a kernel does that is named after its last node, or after what that makes:
/// the nearest of its type on the way up that none has `taken`, or, where the kernel has a name of
/// its own before that, the nearest with weights; else the last itself.
fn main_of(
    graph: &Graph,
    kernel: &Kernel,
    named: &Named,
    macs: &BTreeMap<NodeId, f64>,
    taken: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let last = *named.nodes.last()?;
    // The types of fused kernels end with that of the main node: FusedConv.
    let is_type = |node: &Node| kernel.op_type.ends_with(&node.op_type);
    let mut above = above(graph, last);
    above.retain(|id| !taken.contains(id));
    let mut of_type = above.iter();
    let of_type = of_type.find(|&&id| graph.nodes.get(id).is_some_and(is_type));
    let mut with_weights = above.iter().filter(|_| named.is_behind);
    let with_weights = with_weights.find(|id| macs.contains_key(id));
    let found = of_type.or(with_weights).copied();
    found.or(Some(last)).filter(|id| !taken.contains(id))
}

/// A node and those above it, the nearest first. No fusion is deeper.
fn above(graph: &Graph, last: NodeId) -> Vec<NodeId> {
    const DEPTH: usize = 8;
    let mut seen = BTreeSet::from([last]);
    let mut level = vec![last];
    let mut all = Vec::new();
    for _ in 0..DEPTH {
        all.extend(level.iter().copied());
        let nodes = level.iter().filter_map(|&id| graph.nodes.get(id));
        let values = nodes.flat_map(|node| node.inputs.iter().flatten());
        let makers = values.filter_map(|&value| graph.values.get(value)?.producer);
        level = makers.filter(|&id| seen.insert(id)).collect();
        // Of several ways up the one that ran last: what stands on the others ran before.
        level.sort_unstable_by(|a, b| b.cmp(a));
    }
    all
}

/// Kernels without a node, of the types that run weights elsewhere in the profile, get the nodes
/// with weights that are left between those of their neighbours, where there are as many: a
/// runtime that folds a norm into the layer before it may call that anything.
fn in_turn(
    graph: &Graph,
    macs: &BTreeMap<NodeId, f64>,
    profile: &Profile,
    mut all: Vec<Vec<NodeId>>,
) -> Vec<Vec<NodeId>> {
    let place: BTreeMap<NodeId, usize> = (graph.order.iter().copied()).zip(0..).collect();
    let taken: BTreeSet<NodeId> = all.iter().flatten().copied().collect();
    let has_weights = |nodes: &[NodeId]| nodes.iter().any(|node| macs.contains_key(node));
    let kernels = profile.kernels.iter().zip(&all);
    let types = kernels.filter(|(_, nodes)| has_weights(nodes));
    let types = types.map(|(kernel, _)| kernel.op_type.as_str());
    let types: BTreeSet<&str> = types.filter(|name| !name.is_empty()).collect();
    let left = graph.order.iter().filter(|node| macs.contains_key(node));
    let left: Vec<NodeId> = left.filter(|node| !taken.contains(node)).copied().collect();
    let is_open = |index: usize| {
        let kernel = profile.kernels.get(index);
        let is_type = kernel.is_some_and(|kernel| types.contains(kernel.op_type.as_str()));
        is_type && all.get(index).is_some_and(Vec::is_empty)
    };
    let open: Vec<usize> = (0..all.len()).filter(|&index| is_open(index)).collect();
    let placed = |nodes: &Vec<NodeId>| {
        nodes
            .iter()
            .filter_map(|node| place.get(node))
            .max()
            .copied()
    };
    let mut found = Vec::new();
    let mut rest = open.as_slice();
    while let Some(&first) = rest.first() {
        // Those up to the next kernel with weights that has its node.
        let known = |&index: &usize| all.get(index).is_some_and(|nodes| has_weights(nodes));
        let end = (first..all.len()).find(known).unwrap_or(all.len());
        let (run, others) = rest.split_at(rest.partition_point(|&index| index < end));
        rest = others;
        let before = (0..first)
            .rev()
            .find(known)
            .and_then(|index| placed(all.get(index)?));
        let after = all.get(end).and_then(placed);
        let between = left.iter().filter(|node| {
            let at = place.get(node).copied();
            at > before && after.is_none_or(|after| at < Some(after))
        });
        let between: Vec<NodeId> = between.copied().collect();
        if between.len() == run.len() {
            found.extend(run.iter().copied().zip(between));
        }
    }
    for (index, node) in found {
        if let Some(nodes) = all.get_mut(index) {
            nodes.push(node);
        }
    }
    all
}
