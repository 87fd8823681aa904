//! What the first nodes of a model tell of the values that its inputs take.

use std::collections::BTreeMap;

use crate::graph::{Graph, ValueId};
use crate::groups::Told;
pub use crate::groups::Values;
use crate::onnx::Tensor;
use crate::ops::of;

/// Nodes that are followed from an input.
const MOST_STEPS: usize = 6;

/// What is told of the inputs, by name; others are left out.
#[must_use]
pub fn values(graph: &Graph) -> BTreeMap<String, Values> {
    let values = graph.values.entries();
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
        match of(view.node).told(view, slot) {
            Told::Values(values) => Some(values),
            Told::Unchanged => follow(graph, view.output(0)?, steps + 1),
            Told::Nothing => None,
        }
    });
    told.min()
}

/// What a constant factor tells, or what it divides by, of which `factor` makes a factor.
pub(super) fn by_factor(constant: Option<&Tensor>, factor: impl Fn(f64) -> f64) -> Told {
    told(constant.and_then(largest).map(factor).and_then(of_factor))
}

/// What a constant tells that is subtracted.
pub(super) fn by_mean(constant: Option<&Tensor>) -> Told {
    told(constant.and_then(largest).and_then(of_mean))
}

/// What it tells to look up rows along the first axes of a table.
pub(super) fn by_table(table: Option<&Tensor>, axis: i64) -> Told {
    let shape = table.map(|table| table.shape.as_slice());
    let axis = usize::try_from(axis).ok();
    let rows = shape.zip(axis).and_then(|(shape, axis)| shape.get(axis));
    told(rows.map(|&rows| Values::Rows(rows)))
}

fn told(values: Option<Values>) -> Told {
    values.map_or(Told::Nothing, Told::Values)
}

/// What a factor tells: 1/255 or 1/128 is for bytes, 1/0.225 or 2 for shares.
fn of_factor(factor: f64) -> Option<Values> {
    match factor {
        _ if factor <= 0.0 => None,
        _ if factor < 0.025 => Some(Values::Bytes),
        _ if (1.5..8.0).contains(&factor) => Some(Values::Shares),
        _ => None,
    }
}

/// What a mean tells: 104 or 127.5 is for bytes, 0.485 or 0.5 for shares.
fn of_mean(mean: f64) -> Option<Values> {
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
