//! InstanceNormalization: each channel of each sample alone.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Walk};
use crate::ops::Entry;
use crate::ops::norm::{ALONE, OVER_CHANNELS, others, per_channel};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["InstanceNormalization"],
    &InstanceNormalization,
    ALONE,
)];

struct InstanceNormalization;

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
