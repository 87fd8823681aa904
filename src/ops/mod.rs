//! What each operator means for channels: the only place that knows operator names.
//!
//! One file per operator family, with all that is known of it: how atoms pass from a node's inputs
//! to its outputs, which attributes follow, what the node costs, and whatever else the facets of
//! [`Operator`](crate::groups::Operator) ask. Each file has a table of its operators, and [`RULES`]
//! knows those of all files. Operators that have no rule freeze what they touch.

mod backward;
pub mod build;
pub mod constant;
pub mod inputs;
pub mod quantize;

mod attention;
mod cost;
mod elementwise;
mod fused;
mod layout;
mod mixing;
mod norm;
mod pool;
mod random;
mod recurrent;
mod registry;
mod repeat;
mod shape;
mod sizes;
mod storage;
mod weights;

pub use fused::unfused;
pub use registry::{Entry, Known, RULES, entries, of};

use crate::graph::{Graph, GraphError, NodeView, ValueId};
use crate::groups::{self, Alike};
use crate::onnx::{Model, Tensor};

/// The tables of all files, by family.
const FAMILIES: &[&[&[Entry]]] = &[
    weights::FILES,
    &[recurrent::OPERATORS, quantize::OPERATORS],
    attention::FILES,
    elementwise::FILES,
    norm::FILES,
    &[pool::OPERATORS],
    layout::FILES,
    mixing::FILES,
    &[shape::OPERATORS, constant::OPERATORS, repeat::OPERATORS],
];

/// The graph of a model, with its constants and counts [marked](groups::mark).
///
/// # Errors
/// Those of [`Graph::unmarked`] and of [`groups::mark`].
pub fn graph(model: &Model) -> Result<Graph, GraphError> {
    let mut graph = Graph::unmarked(model)?;
    groups::mark(&mut graph, model, &RULES)?;
    Ok(graph)
}

/// What the repetitions of a node's body are worth, in elements.
#[must_use]
pub fn repetitions(view: NodeView<'_>) -> u64 {
    of(view.node).repetitions(view)
}

/// What the node does to channels, where that is the same for all of an axis, or but for constants.
#[must_use]
pub fn alike(view: NodeView<'_>) -> Option<Alike> {
    let makes_one = view.node.outputs.iter().flatten().count() == 1;
    makes_one.then(|| of(view.node).alike(view)).flatten()
}

/// What a node takes the shape of its output from, where that is a constant.
#[must_use]
pub fn target(view: NodeView<'_>) -> Option<&Tensor> {
    view.constant(of(view.node).target()?)
}

/// Whether a node that lays elements out anew makes as many as it reads, as far as their shapes are
/// known.
#[must_use]
pub fn keeps_elements(view: NodeView<'_>) -> bool {
    let shape = |value: Option<ValueId>| view.shape(value?).ok();
    match (shape(view.input(0)), shape(view.output(0))) {
        (Some(read), Some(made)) if of(view.node).keeps_elements() => {
            let count = |shape: &[usize]| shape.iter().copied().fold(1, usize::saturating_mul);
            count(read) == count(made)
        }
        _ => true,
    }
}
