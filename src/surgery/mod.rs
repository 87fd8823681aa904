//! Surgery: a model and the channels that stay, to the physically smaller model.
//!
//! All changes are collected first, as values ([`Changes`]), and then applied to the file's own
//! structure, so that names, order, metadata and everything that no channel touches stay as they
//! were.

mod absorb;
mod apply;
mod back;
mod changes;
mod error;
mod forms;
mod quantized;
mod shapes;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

pub use error::SurgeryError;

use crate::graph::{Graph, NodeId};
use crate::groups::{Edit, Groups, Kept, Use, Widths};
use crate::onnx::{Model, Tensor};

/// Weights and biases that a repair changed, already without what left.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// Per node and input slot, the new constant.
    pub inputs: BTreeMap<Use, Tensor>,
    /// Per node whose operator has no bias, the one to add behind it.
    pub added: BTreeMap<NodeId, Tensor>,
}

/// Everything that changes, collected before anything does.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Constants to read instead, per node and input slot.
    pub inputs: BTreeMap<Use, Tensor>,
    /// Those of them that nodes make of what is stored.
    pub forms: BTreeMap<Use, stored::Form>,
    /// Biases that are stored in few bits.
    pub packed: BTreeMap<Use, quantized::Quantized>,
    /// Nodes that are cut without repair, as their weight cannot be stored as it was, and why.
    pub unrepaired: BTreeMap<NodeId, String>,
    /// Attribute edits per node, in order.
    pub attributes: Vec<(NodeId, Edit)>,
    /// Biases that an Add after the node brings.
    pub added: BTreeMap<NodeId, Tensor>,
}

/// The model with only the channels that `stays` names (one entry per channel), and the repaired
/// weights and biases put in.
///
/// # Errors
/// A node that cannot follow; see [`SurgeryError`].
pub fn prune(
    model: &Model,
    graph: &Graph,
    groups: &Groups,
    stays: &[bool],
    repaired: &Repaired,
) -> Result<Model, SurgeryError> {
    Ok(prune_noting(model, graph, groups, stays, repaired)?.0)
}

/// A model of these widths, for what neither weights nor which channels stay make a difference to.
///
/// # Errors
/// As [`prune`].
pub fn at_widths(
    model: &Model,
    graph: &Graph,
    groups: &Groups,
    widths: &Widths,
) -> Result<Model, SurgeryError> {
    let mut stays = vec![true; groups.channel_count];
    for (group, &width) in groups.groups.iter().zip(widths) {
        for &channel in group.channels.iter().skip(width) {
            stays[channel] = false;
        }
    }
    prune(model, graph, groups, &stays, &Repaired::default())
}

/// The same with what is to be said about it.
///
/// # Errors
/// As [`prune`].
pub fn prune_noting(
    model: &Model,
    graph: &Graph,
    groups: &Groups,
    stays: &[bool],
    repaired: &Repaired,
) -> Result<(Model, Vec<String>), SurgeryError> {
    let kept = Kept::new(groups, stays);
    let mut changes = changes::collect(graph, &kept, repaired, &|_| true)?;
    absorb::absorb(graph, groups, &mut changes)?;
    let pruned = changed(model, graph, &kept, &changes);
    pruned.check()?;
    Ok((pruned, notes(graph, &changes)))
}

/// Which repaired weights could not be stored, by the reason.
fn notes(graph: &Graph, changes: &Changes) -> Vec<String> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (&node, why) in &changes.unrepaired {
        nodes.entry(why).or_default().push(&graph.nodes[node].name);
    }
    let note = |(why, nodes): (&str, Vec<&str>)| {
        let more = match nodes.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let first = nodes.first().copied().unwrap_or_default();
        format!("'{first}'{more}: cut without repair, as the weight {why}")
    };
    nodes.into_iter().map(note).collect()
}

/// The same where only the nodes that are `wanted` are cut, which need not be a valid model.
pub(crate) fn cut(
    model: &Model,
    graph: &Graph,
    kept: &Kept<'_>,
    repaired: &Repaired,
    wanted: &dyn Fn(NodeId) -> bool,
) -> Result<Model, SurgeryError> {
    let changes = changes::collect(graph, kept, repaired, wanted)?;
    Ok(changed(model, graph, kept, &changes))
}

fn changed(model: &Model, graph: &Graph, kept: &Kept<'_>, changes: &Changes) -> Model {
    let mut pruned = apply::apply(model, graph, changes);
    shapes::update(&mut pruned, graph, kept);
    pruned
}

/// Where nodes read constants when only the channels of `kept` are left, which may have been
/// computed before.
///
/// # Errors
/// As [`prune`].
pub(crate) fn constants(graph: &Graph, kept: &Kept<'_>) -> Result<BTreeSet<Use>, SurgeryError> {
    let changes = changes::collect(graph, kept, &Repaired::default(), &|_| true)?;
    Ok(changes.inputs.into_keys().collect())
}

/// The nodes whose constants or attributes change when only the channels of `kept` are left.
///
/// # Errors
/// As [`prune`].
pub(crate) fn touched(graph: &Graph, kept: &Kept<'_>) -> Result<BTreeSet<NodeId>, SurgeryError> {
    let changes = changes::collect(graph, kept, &Repaired::default(), &|_| true)?;
    let inputs = changes.inputs.keys().map(|at| at.0);
    let attributes = changes.attributes.iter().map(|(node, _)| *node);
    Ok(inputs.chain(attributes).collect())
}
