//! Normalisations: those that work on each channel alone, on groups of channels, or over them.

use crate::graph::{Freeze, NodeView, ValueId, view::normalize_axis};
use crate::groups::{AxisMap, Edit, Kept, Operator, Walk};
use crate::ops::broadcast;

/// Why channels over which a norm runs stay unless the user lets them leave.
pub(super) const OVER_CHANNELS: &str =
    "it normalises over the channels (--prune-normalized lets them leave)";

pub(super) struct BatchNormalization;

impl Operator for BatchNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        if view.node.int("training_mode", 0) != 0 {
            return Err(Freeze::new("it is in training mode"));
        }
        for axis in others(view)? {
            walk.freeze_axis(
                view.need(0)?,
                axis,
                view.id,
                "it normalises along the tracked axis",
            );
        }
        per_channel(view, walk, 1..5)
    }
}

pub(super) struct InstanceNormalization;

impl Operator for InstanceNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        for axis in others(view)? {
            // Axes after the channels are those over which it runs.
            if axis == 0 || !walk.scope().normalized {
                walk.freeze_axis(view.need(0)?, axis, view.id, OVER_CHANNELS);
            }
        }
        per_channel(view, walk, 1..3)
    }
}

/// All axes but that of the channels.
fn others(view: NodeView<'_>) -> Result<impl Iterator<Item = usize>, Freeze> {
    let rank = view.shape(view.need(0)?)?.len();
    Ok((0..rank).filter(|&axis| axis != 1))
}

/// Channels on axis 1 pass; the parameters in `slots` are cut with them.
fn per_channel(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    slots: std::ops::Range<usize>,
) -> Result<(), Freeze> {
    let input = view.need(0)?;
    need_constants(view, slots.clone())?;
    if let Some(map) = walk.axis(input, 1) {
        for slot in slots {
            walk.cut((view.id, slot), 0, &map)?;
        }
    }
    pass(view, walk, input)
}

fn need_constants(view: NodeView<'_>, slots: std::ops::Range<usize>) -> Result<(), Freeze> {
    for slot in slots {
        if view.input(slot).is_some() && view.constant(slot).is_none() {
            return Err(Freeze::new(format!(
                "its parameter in input {slot} is not constant"
            )));
        }
    }
    Ok(())
}

/// The first output has the axes of `input`.
fn pass(view: NodeView<'_>, walk: &mut Walk<'_>, input: ValueId) -> Result<(), Freeze> {
    let output = view
        .output(0)
        .ok_or_else(|| Freeze::new("it has no output"))?;
    let axes = walk.axes(input);
    walk.set(output, axes)
}

/// GroupNormalization: channels of whole groups leave, which changes nothing for the others.
pub(super) struct GroupNormalization;

impl GroupNormalization {
    /// Number of groups and channels of each.
    fn sizes(view: NodeView<'_>) -> Result<(usize, usize), Freeze> {
        let shape = view.shape(view.need(0)?)?;
        let channels = shape.get(1).copied().unwrap_or(0);
        let groups = usize::try_from(view.node.int("num_groups", 0)).unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Freeze::new("its groups do not divide its channels"));
        }
        Ok((groups, channels / groups))
    }
}

impl Operator for GroupNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (groups, size) = GroupNormalization::sizes(view)?;
        for axis in others(view)? {
            walk.freeze_axis(input, axis, view.id, OVER_CHANNELS);
        }
        need_constants(view, 1..3)?;
        if let Some(map) = walk.axis(input, 1) {
            if groups == 1 && !walk.scope().normalized {
                walk.freeze(&map, view.id, OVER_CHANNELS);
            }
            let firsts: AxisMap = map.iter().step_by(size.max(1)).copied().collect();
            if groups > 1 {
                let whole = firsts
                    .iter()
                    .flat_map(|&atom| std::iter::repeat_n(atom, size));
                walk.tie(&map, &whole.collect())?;
            }
            for slot in 1..3 {
                // Before opset 21, a parameter for each group.
                let length = view.shape(view.need(slot)?)?.first().copied();
                let map = if length == Some(map.len()) {
                    &map
                } else {
                    &firsts
                };
                if groups > 1 || length == Some(map.len()) {
                    walk.cut((view.id, slot), 0, map)?;
                }
            }
        }
        pass(view, walk, input)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let (groups, size) = GroupNormalization::sizes(view)?;
        let left = kept.length(view.need(0)?, 1, groups * size);
        if groups == 1 || left == groups * size {
            return Ok(Vec::new());
        }
        let groups = i64::try_from(left / size).map_err(|_| Freeze::new("too many groups"))?;
        Ok(vec![Edit::Int("num_groups", groups)])
    }
}

/// LayerNormalization and RMSNormalization: a norm over the last axes, whose parameters are cut
/// where the user lets channels leave.
pub(super) struct LayerNormalization;

impl Operator for LayerNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let first = normalize_axis(view.node.int("axis", -1), rank)?;
        over_last(view, walk, input, first, 1..3)?;
        pass(view, walk, input)
    }
}

/// The norm runs over the axes from `first` on; the parameters in `slots` lie along the last axes.
fn over_last(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    input: ValueId,
    first: usize,
    slots: std::ops::Range<usize>,
) -> Result<(), Freeze> {
    let shape = view.shape(input)?;
    for (axis, length) in shape.iter().enumerate().skip(first) {
        let Some(map) = walk.axis(input, axis) else {
            continue;
        };
        if !walk.scope().normalized {
            walk.freeze(&map, view.id, OVER_CHANNELS);
            continue;
        }
        need_constants(view, slots.clone())?;
        for slot in slots.clone() {
            let Some(parameter) = view.input(slot) else {
                continue;
            };
            let own = view.shape(parameter)?;
            let place = (axis + own.len()).checked_sub(shape.len());
            if let Some(place) = place
                && own.get(place) == Some(length)
            {
                walk.cut((view.id, slot), place, &map)?;
            }
        }
    }
    Ok(())
}

/// SkipLayerNormalization and its simplified form: a sum and a norm over its last axis.
pub(super) struct SkipNormalization;

impl Operator for SkipNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const SUM: usize = 3;
        let (input, skip) = (view.need(0)?, view.need(1)?);
        let shape = view.shape(input)?.to_vec();
        let last = shape
            .len()
            .checked_sub(1)
            .ok_or_else(|| Freeze::new("its input has no axes"))?;
        need_constants(view, 2..5)?;
        let mut axes = Vec::new();
        for axis in 0..shape.len() {
            let pair = [(0, input), (1, skip)];
            axes.push(broadcast::join(view, walk, &pair, axis, &shape)?);
        }
        if let Some(map) = axes.last().cloned().flatten() {
            if !walk.scope().normalized {
                walk.freeze(&map, view.id, OVER_CHANNELS);
            }
            for slot in 2..5 {
                let own = view
                    .input(slot)
                    .map(|value| view.shape(value))
                    .transpose()?;
                if own == shape.get(last..) {
                    walk.cut((view.id, slot), 0, &map)?;
                }
            }
        }
        for slot in [0, SUM] {
            if let Some(output) = view.output(slot) {
                walk.set(output, axes.clone())?;
            }
        }
        Ok(())
    }
}
