//! Pooling: works on each channel alone.

use crate::graph::NodeView;
use crate::groups::Walk;
use crate::ops::{Freeze, Operator};

pub(super) struct Pool;

pub(super) fn covers(op_type: &str) -> bool {
    const NAMES: &[&str] = &[
        "AveragePool",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "LpPool",
        "MaxPool",
    ];
    NAMES.contains(&op_type)
}

impl Operator for Pool {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if view.output(1).is_some() {
            return Err(Freeze::new(
                "its second output counts positions across all channels",
            ));
        }
        let rank = view.shape(input)?.len();
        for axis in 2..rank {
            walk.freeze_axis(input, axis, view.id, "it pools along the tracked axis");
        }
        let mut axes = vec![None; view.output_shape()?.len()];
        for (axis, slot) in axes.iter_mut().enumerate().take(2) {
            *slot = walk.axis(input, axis);
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}
