//! Normalisations: those that work on each channel alone, on groups of channels, or over them.

mod batch;
mod embedding;
mod group;
mod instance;
mod layer;
mod skip;

use std::ops::Range;

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::Walk;
use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[
    batch::OPERATORS,
    instance::OPERATORS,
    group::OPERATORS,
    layer::OPERATORS,
    skip::OPERATORS,
    embedding::OPERATORS,
];

/// What norms mean for the channels that they work on alone.
const ALONE: &str = "channels keep their place; the parameters are cut with them";
/// What norms mean for the channels that they run over.
const OVER: &str = "\
    channels on axes that are not normalised pass. Those that are stay, unless \
    `--prune-normalized` is given: then the norm runs over the channels that are left and its \
    parameters are cut";

/// Why channels over which a norm runs stay unless the user lets them leave.
const OVER_CHANNELS: &str = "it normalises over the channels (`normalized` lets them leave)";

/// All axes but that of the channels.
fn others(view: NodeView<'_>) -> Result<impl Iterator<Item = usize>, Freeze> {
    let rank = view.shape(view.need(0)?)?.len();
    Ok((0..rank).filter(|&axis| axis != 1))
}

/// Channels on axis 1 pass; the parameters in `slots` are cut with them.
fn per_channel(view: NodeView<'_>, walk: &mut Walk<'_>, slots: Range<usize>) -> Result<(), Freeze> {
    let input = view.need(0)?;
    need_constants(view, slots.clone())?;
    if let Some(map) = walk.axis(input, 1) {
        for slot in slots {
            walk.cut((view.id, slot), 0, &map)?;
        }
    }
    pass(view, walk, input)
}

fn need_constants(view: NodeView<'_>, slots: Range<usize>) -> Result<(), Freeze> {
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
