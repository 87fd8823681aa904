//! Functions that are the identity on an interval and constant outside of it.

use std::ops::RangeInclusive;

use crate::graph::NodeView;

/// The interval where the node passes its first input on as it is; outside it gives the nearest end.
pub(super) fn passes(view: NodeView<'_>) -> Option<RangeInclusive<f64>> {
    let node = view.node;
    if !node.domain.is_empty() {
        return None;
    }
    match node.op_type.as_str() {
        "Relu" => Some(0.0..=f64::INFINITY),
        "Clip" => Some(end(view, 1, "min", f32::MIN)?..=end(view, 2, "max", f32::MAX)?),
        _ => None,
    }
}

/// One end of a Clip: an input since opset 11, an attribute before; `None` where the model computes it.
fn end(view: NodeView<'_>, slot: usize, attribute: &str, default: f32) -> Option<f64> {
    if view.input(slot).is_none() {
        return Some(f64::from(view.node.float(attribute, default)));
    }
    let values = view.constant(slot)?.to_f32().ok()?;
    values.first().map(|&value| f64::from(value))
}
