//! Normalisations with parameters per channel that do not mix channels.

use crate::graph::NodeView;
use crate::groups::Walk;
use crate::ops::{Freeze, Operator};

pub(super) struct BatchNormalization;

impl Operator for BatchNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        if view.node.int("training_mode", 0) != 0 {
            return Err(Freeze::new("it is in training mode"));
        }
        per_channel(view, walk, 1..5)
    }
}

pub(super) struct InstanceNormalization;

impl Operator for InstanceNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        per_channel(view, walk, 1..3)
    }
}

/// Channels on axis 1 pass; the parameters in `slots` are cut with them.
fn per_channel(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    slots: std::ops::Range<usize>,
) -> Result<(), Freeze> {
    let input = view.need(0)?;
    for slot in slots.clone() {
        if view.constant(slot).is_none() {
            return Err(Freeze::new(format!(
                "its parameter in input {slot} is not constant"
            )));
        }
    }
    let rank = view.shape(input)?.len();
    for axis in (0..rank).filter(|&axis| axis != 1) {
        walk.freeze_axis(input, axis, view.id, "it normalises along the tracked axis");
    }
    let Some(map) = walk.axis(input, 1) else {
        return Ok(());
    };
    for slot in slots {
        walk.cut((view.id, slot), 0, &map)?;
    }
    let output = view
        .output(0)
        .ok_or_else(|| Freeze::new("it has no output"))?;
    let mut axes = vec![None; rank];
    if let Some(slot) = axes.get_mut(1) {
        *slot = Some(map);
    }
    walk.set(output, axes)
}
