//! Relu and Clip: the identity on an interval, and constant outside of it.

use std::ops::RangeInclusive;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{input, is_greater, number, output, product};
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

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        passing(view, back)
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

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        passing(view, back)
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

/// The gradient of what is left as it is passes.
fn passing(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    const COMPARES_FLOATS: i64 = 11;
    let (own, made) = (input(view, 0)?, output(view)?);
    let gradient = back.output()?;
    let found = if view.graph.opset < COMPARES_FLOATS {
        // What was moved lies between the two.
        let above = is_greater(back, own, made);
        let below = is_greater(back, made, own);
        let moved = back.graph.node("Add", &[&above, &below], &[]);
        let one = number(back, 1.0);
        let stays = back.graph.node("Sub", &[&one, &moved], &[]);
        product(back, gradient, &stays)
    } else {
        let stays = back.graph.node("Equal", &[own, made], &[]);
        let zero = number(back, 0.0);
        back.graph.node("Where", &[&stays, gradient, &zero], &[])
    };
    back.give(0, found);
    Some(())
}
