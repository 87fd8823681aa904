//! com.microsoft.SkipLayerNormalization and its simplified form: a sum and a norm over its last
//! axis.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Walk};
use crate::ops::Entry;
use crate::ops::elementwise::broadcast;
use crate::ops::norm::{OVER, OVER_CHANNELS, need_constants};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::microsoft(
    &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"],
    &SkipNormalization,
    OVER,
)];

struct SkipNormalization;

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
