//! What the first nodes of a model tell of the values that its inputs take.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeView, ValueId};
use crate::onnx::Tensor;
use crate::ops::contrib;

/// Nodes that are followed from an input.
const MOST_STEPS: usize = 6;

/// The values of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Values {
    /// Rows of a table that has so many: tokens of a vocabulary.
    Rows(usize),
    /// Pixels from 0 to 255: the model scales them itself.
    Bytes,
    /// Pixels from 0 to 1: the model normalises them itself.
    Shares,
}

/// What is told of the inputs, by name; others are left out.
#[must_use]
pub fn values(graph: &Graph) -> BTreeMap<String, Values> {
    let values = graph.values.iter().enumerate();
    let inputs = values.filter(|(_, value)| value.producer.is_none() && !value.is_constant);
    let told = inputs.filter_map(|(id, value)| Some((value.name.clone(), follow(graph, id, 0)?)));
    told.collect()
}

/// What the readers of a value tell of it: the shortest table, or the first scaling.
fn follow(graph: &Graph, value: ValueId, steps: usize) -> Option<Values> {
    if steps == MOST_STEPS {
        return None;
    }
    let readers = &graph.values.get(value)?.readers;
    let told = readers.iter().filter_map(|&(node, slot)| {
        let view = graph.view(node);
        match by_node(view, slot) {
            Told::Values(values) => Some(values),
            Told::Unchanged => follow(graph, view.output(0)?, steps + 1),
            Told::Nothing => None,
        }
    });
    told.min()
}

enum Told {
    Values(Values),
    /// The node's first output has the same values.
    Unchanged,
    Nothing,
}

fn by_node(view: NodeView<'_>, slot: usize) -> Told {
    let node = view.node;
    let rows = |table: usize, axis: i64| {
        let shape = view.constant(table).map(|table| table.shape.as_slice());
        let axis = usize::try_from(axis).ok();
        let rows = shape.zip(axis).and_then(|(shape, axis)| shape.get(axis));
        rows.map_or(Told::Nothing, |&rows| Told::Values(Values::Rows(rows)))
    };
    let told = |values: Option<Values>| values.map_or(Told::Nothing, Told::Values);
    let other = || largest(view.constant(1 - slot.min(1))?);
    match (node.domain.as_str(), node.op_type.as_str(), slot) {
        ("", "Gather", 1) => rows(0, node.int("axis", 0)),
        (contrib::DOMAIN, "EmbedLayerNormalization", 0) => rows(2, 0),
        ("", "Cast" | "Identity" | "Transpose", 0) => Told::Unchanged,
        ("", "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten", 0) => Told::Unchanged,
        ("", "Mul", _) => told(other().and_then(by_factor)),
        ("", "Div", 0) => told(other().and_then(|by| by_factor(1.0 / by))),
        ("", "Sub", 0) => told(other().and_then(by_mean)),
        ("", "BatchNormalization", 0) => told(view.constant(3).and_then(largest).and_then(by_mean)),
        _ => Told::Nothing,
    }
}

/// What a factor tells: 1/255 or 1/128 is for bytes, 1/0.225 or 2 for shares.
fn by_factor(factor: f64) -> Option<Values> {
    match factor {
        _ if factor <= 0.0 => None,
        _ if factor < 0.025 => Some(Values::Bytes),
        _ if (1.5..8.0).contains(&factor) => Some(Values::Shares),
        _ => None,
    }
}

/// What a mean tells: 104 or 127.5 is for bytes, 0.485 or 0.5 for shares.
fn by_mean(mean: f64) -> Option<Values> {
    match mean {
        _ if mean > 32.0 => Some(Values::Bytes),
        _ if (0.1..0.9).contains(&mean) => Some(Values::Shares),
        _ => None,
    }
}

/// The largest number of a constant of one number, or one for each channel.
fn largest(tensor: &Tensor) -> Option<f64> {
    if tensor.len() > 4 {
        return None;
    }
    let values = tensor.to_f64().ok()?;
    values.iter().copied().reduce(f64::max)
}
