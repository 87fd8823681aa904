//! LayerNormalization and RMSNormalization: a norm over the last axes, whose parameters are cut
//! where the user lets channels leave.

use std::ops::Range;

use crate::graph::{Freeze, NodeView, ValueId, view::normalize_axis};
use crate::groups::{Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{give_summed, input, number, product, scaled, shape, summed};
use crate::ops::norm::{OVER, OVER_CHANNELS, need_constants, pass};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["LayerNormalization"],
        &LayerNormalization { centres: true },
        OVER,
    ),
    Entry::standard(
        &["RMSNormalization", "SimplifiedLayerNormalization"],
        &LayerNormalization { centres: false },
        OVER,
    ),
    Entry::microsoft(
        &["SimplifiedLayerNormalization"],
        &LayerNormalization { centres: false },
        OVER,
    ),
];

const SCALE: usize = 1;
const BIAS: usize = 2;

struct LayerNormalization {
    centres: bool,
}

impl Operator for LayerNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let first = normalize_axis(view.node.int("axis", -1), rank)?;
        over_last(view, walk, input, first, 1..3)?;
        pass(view, walk, input)
    }

    /// With `h` the normalised values, `f` the inverse of their deviation and `g` the gradient
    /// times the scale, `f (g - mean(g) - h mean(g h))`; without the mean of `g` where the norm
    /// takes none off.
    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let (gradient, made) = (back.output()?, shape(view, 0)?);
        let first = normalize_axis(view.node.int("axis", -1), made.len()).ok()?;
        let axes: Vec<usize> = (first..made.len()).collect();
        let count = made.iter().skip(first).product::<usize>();
        let share = 1.0 / count.max(1) as f64;
        let opset = view.graph.opset;
        let mean = |back: &mut Backward<'_>, value: &str| {
            let sum = summed(back, opset, value, &axes)?;
            Some(scaled(back, &sum, share))
        };
        let own = input(view, 0)?;
        let moved = if self.centres {
            let mean = mean(back, own)?;
            back.graph.node("Sub", &[own, &mean], &[])
        } else {
            own.to_owned()
        };
        let square = product(back, &moved, &moved);
        let variance = mean(back, &square)?;
        let epsilon = number(back, f64::from(view.node.float("epsilon", 1e-5)));
        let variance = back.graph.node("Add", &[&variance, &epsilon], &[]);
        let deviation = back.graph.node("Sqrt", &[&variance], &[]);
        let normalised = back.graph.node("Div", &[&moved, &deviation], &[]);
        if back.wants(0) {
            let own = product(back, gradient, input(view, SCALE)?);
            let turned = product(back, &own, &normalised);
            let turned = mean(back, &turned)?;
            let turned = product(back, &normalised, &turned);
            let mut left = back.graph.node("Sub", &[&own, &turned], &[]);
            if self.centres {
                let level = mean(back, &own)?;
                left = back.graph.node("Sub", &[&left, &level], &[]);
            }
            let found = back.graph.node("Div", &[&left, &deviation], &[]);
            back.give(0, found);
        }
        if back.wants(SCALE) {
            let found = product(back, gradient, &normalised);
            give_summed(back, view, SCALE, &found, made)?;
        }
        if back.wants(BIAS) {
            give_summed(back, view, BIAS, gradient, made)?;
        }
        Some(())
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
