//! LayerNormalization and RMSNormalization: a norm over the last axes, whose parameters are cut
//! where the user lets channels leave.

use std::ops::Range;

use crate::graph::{Freeze, NodeView, ValueId, view::normalize_axis};
use crate::groups::{Operator, Walk};
use crate::ops::Entry;
use crate::ops::norm::{OVER, OVER_CHANNELS, need_constants, pass};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &[
            "LayerNormalization",
            "RMSNormalization",
            "SimplifiedLayerNormalization",
        ],
        &LayerNormalization,
        OVER,
    ),
    Entry::microsoft(&["SimplifiedLayerNormalization"], &LayerNormalization, OVER),
];

struct LayerNormalization;

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
    slots: Range<usize>,
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
