//! QLinearConv and QLinearMatMul that have no standard form: convolutions and products of integers
//! with fixed scales.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Cost, Elements, Operator, Walk};
use crate::ops::Entry;
use crate::ops::cost::{self, Work};

const CHANNELS: &str = "\
    where they have no standard form, their channels stay: the scales of what they sum lie in \
    other nodes";

/// The weight's slot.
const WEIGHT: usize = 3;

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["QLinearConv"],
        &Integers {
            axis: 1,
            work: Work::Filters,
        },
        CHANNELS,
    ),
    Entry::standard(
        &["QLinearMatMul"],
        &Integers {
            axis: -1,
            work: Work::Matrix,
        },
        CHANNELS,
    ),
];

struct Integers {
    /// The axis of what they make, counted from the end where it is negative.
    axis: i64,
    work: Work,
}

impl Operator for Integers {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const TEXT: &str = "it computes with integers, whose scales lie in other nodes";
        let shape = view.output_shape()?;
        let axis = normalize_axis(self.axis, shape.len())?;
        for value in view.node.inputs.iter().flatten() {
            for own in 0..view.shape(*value)?.len() {
                walk.freeze_axis(*value, own, view.id, TEXT);
            }
        }
        let length = shape.get(axis).copied().unwrap_or(0);
        let mut axes = vec![None; shape.len()];
        if let Some(slot) = axes.get_mut(axis) {
            *slot = Some(walk.fixed(view.id, length, TEXT));
        }
        if view.constant(WEIGHT).is_some() {
            let positions =
                shape.iter().map(|&n| n as u64).product::<u64>() / (length as u64).max(1);
            walk.cost(Cost {
                node: view.id,
                of: Elements::Weight(WEIGHT),
                positions: walk.per_sample(positions),
            });
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, WEIGHT, &self.work)
    }
}
