//! DepthToSpace and SpaceToDepth: blocks of space become channels and back.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Operator, Walk};
use crate::ops::Entry;

const CHANNELS: &str = "\
    the channels that one output channel is laid out from are tied, in either mode; a channel that \
    goes to several places leaves from all";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["DepthToSpace"], &DepthToSpace, CHANNELS),
    Entry::standard(&["SpaceToDepth"], &SpaceToDepth, CHANNELS),
];

const CHANNEL_AXIS: usize = 1;

struct DepthToSpace;

impl Operator for DepthToSpace {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let Some((map, area)) = channels(view, walk)? else {
            return Ok(());
        };
        let left = map.len() / area;
        if left * area != map.len() {
            return Err(Freeze::new("its block does not divide the channels"));
        }
        // Output channel `c` is laid out from `area` channels, which leave together.
        let in_rows = view.node.text("mode", "DCR") == "CRD";
        let source = |c: usize, k: usize| if in_rows { c * area + k } else { k * left + c };
        let part = |k: usize| -> AxisMap {
            (0..left)
                .filter_map(|c| map.get(source(c, k)).copied())
                .collect()
        };
        let first = part(0);
        for k in 1..area {
            walk.tie(&first, &part(k))?;
        }
        set(view, walk, first)
    }
}

struct SpaceToDepth;

impl Operator for SpaceToDepth {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let Some((map, area)) = channels(view, walk)? else {
            return Ok(());
        };
        // Every place of a block holds all channels.
        let made = map.iter().copied().cycle().take(map.len() * area).collect();
        set(view, walk, made)
    }
}

/// The input's channels, if they are tracked, and the number of positions of a block.
fn channels(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<Option<(AxisMap, usize)>, Freeze> {
    let input = view.need(0)?;
    let rank = view.shape(input)?.len();
    for axis in (0..rank).filter(|&axis| axis != CHANNEL_AXIS) {
        walk.freeze_axis(
            input,
            axis,
            view.id,
            "it moves the tracked axis into blocks",
        );
    }
    let side = usize::try_from(view.node.int("blocksize", 0)).unwrap_or(0);
    if side == 0 {
        return Err(Freeze::new("it has no blocksize"));
    }
    Ok(walk.axis(input, CHANNEL_AXIS).map(|map| (map, side * side)))
}

fn set(view: NodeView<'_>, walk: &mut Walk<'_>, map: AxisMap) -> Result<(), Freeze> {
    let output = view
        .output(0)
        .ok_or_else(|| Freeze::new("it has no output"))?;
    let mut axes = vec![None; view.output_shape()?.len()];
    if let Some(slot) = axes.get_mut(CHANNEL_AXIS) {
        *slot = Some(map);
    }
    walk.set(output, axes)
}
