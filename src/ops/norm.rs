//! Normalisations with parameters per channel that do not mix channels.

use crate::graph::NodeView;
use crate::groups::{Kept, Walk};
use crate::ops::{Edit, Freeze, Operator};

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

pub(super) struct GroupNormalization;

impl Operator for GroupNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        for axis in (0..rank).filter(|&axis| axis != 1) {
            walk.freeze_axis(input, axis, view.id, "it normalises along the tracked axis");
        }
        let Some(map) = walk.axis(input, 1) else {
            return Ok(());
        };
        if view.constant(1).is_none() || view.constant(2).is_none() {
            return Err(Freeze::new("its parameters are not constant"));
        }
        let length = group_length(view, map.len())?;
        // Statistics are shared within a group: whole groups leave.
        let mut firsts = Vec::new();
        for part in map.chunks(length) {
            let first = part.first().copied().unwrap_or_default();
            walk.tie(&part.into(), &vec![first; part.len()].into())?;
            firsts.push(first);
        }
        for slot in [1, 2] {
            // One parameter per group before opset 21, per channel from then on.
            let count = view.shape(view.need(slot)?)?.first().copied();
            let per_group = count == Some(firsts.len()) && count != Some(map.len());
            let cut = if per_group {
                firsts.as_slice().into()
            } else {
                map.clone()
            };
            walk.cut((view.id, slot), 0, &cut)?;
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

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let input = view.need(0)?;
        let Some(map) = kept.map(input, 1) else {
            return Ok(Vec::new());
        };
        let groups = kept.count(map) / group_length(view, map.len())?;
        let groups = i64::try_from(groups).map_err(|_| Freeze::new("too many groups"))?;
        Ok(vec![Edit::Int("num_groups", groups)])
    }
}

/// Channels of one group of a group norm.
fn group_length(view: NodeView<'_>, channels: usize) -> Result<usize, Freeze> {
    let groups = usize::try_from(view.node.int("num_groups", 0)).unwrap_or(0);
    match channels.checked_div(groups) {
        Some(length) if length > 0 && length * groups == channels => Ok(length),
        _ => Err(Freeze::new("its groups do not divide the channels")),
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
