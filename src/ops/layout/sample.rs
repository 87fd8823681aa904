//! GridSample, RoiAlign and MaxRoiPool: samples at places that another input gives.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Walk};
use crate::ops::Entry;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["GridSample", "RoiAlign", "MaxRoiPool"],
    &Sample,
    "channels keep their place",
)];

/// Channels on axis 1 pass.
struct Sample;

impl Operator for Sample {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let mut channels = None;
        for (slot, value) in view.node.inputs.iter().enumerate() {
            for axis in 0..value.map_or(Ok(0), |v| view.shape(v).map(<[usize]>::len))? {
                match *value {
                    Some(value) if (slot, axis) == (0, 1) => channels = walk.axis(value, axis),
                    Some(value) => {
                        let text = "it takes samples along the tracked axis";
                        walk.freeze_axis(value, axis, view.id, text);
                    }
                    None => {}
                }
            }
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let mut axes = vec![None; view.output_shape()?.len()];
        if let Some(slot) = axes.get_mut(1) {
            *slot = channels;
        }
        walk.set(output, axes)
    }
}
