//! Relu and Clip: the identity on an interval, and constant outside of it.

use std::ops::RangeInclusive;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{input, is_greater, number, product};
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
        passing(view, back, self.passes(view)?)
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
        passing(view, back, self.passes(view)?)
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

/// Of what lies in an interval the gradient passes.
pub(super) fn passing(
    view: NodeView<'_>,
    back: &mut Backward<'_>,
    interval: RangeInclusive<f64>,
) -> Option<()> {
    let (own, mut gradient) = (input(view, 0)?, back.output()?.to_owned());
    let (low, high) = interval.into_inner();
    if low > f64::from(f32::MIN) {
        let low = number(back, low);
        let inside = is_greater(back, own, &low);
        gradient = product(back, &gradient, &inside);
    }
    if high < f64::from(f32::MAX) {
        let high = number(back, high);
        let inside = is_greater(back, &high, own);
        gradient = product(back, &gradient, &inside);
    }
    back.give(0, gradient);
    Some(())
}
