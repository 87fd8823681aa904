//! Relu and Clip: the identity on an interval, and constant outside of it.

use std::ops::RangeInclusive;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Walk};
use crate::ops::Entry;
use crate::ops::elementwise::{KEEP, broadcast};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Relu"], &Relu, KEEP),
    Entry::standard(&["Clip"], &Clip, KEEP),
];

struct Relu;

impl Operator for Relu {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn passes(&self, _: NodeView<'_>) -> Option<RangeInclusive<f64>> {
        Some(0.0..=f64::INFINITY)
    }
}

struct Clip;

impl Operator for Clip {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn passes(&self, view: NodeView<'_>) -> Option<RangeInclusive<f64>> {
        Some(end(view, 1, "min", f32::MIN)?..=end(view, 2, "max", f32::MAX)?)
    }
}

/// One end of a Clip: an input since opset 11, an attribute before; `None` where the model computes
/// it.
fn end(view: NodeView<'_>, slot: usize, attribute: &str, default: f32) -> Option<f64> {
    if view.input(slot).is_none() {
        return Some(f64::from(view.node.float(attribute, default)));
    }
    let values = view.constant(slot)?.to_f32().ok()?;
    values.first().map(|&value| f64::from(value))
}
