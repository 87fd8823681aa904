//! Tile: all that there is, again and again.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Operator, Walk};
use crate::ops::Entry;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["Tile"],
    &Tile,
    "channels keep their place, and are repeated",
)];

struct Tile;

impl Operator for Tile {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (before, after) = (view.shape(input)?, view.output_shape()?);
        let mut axes = walk.axes(input);
        for (axis, slot) in axes.iter_mut().enumerate() {
            let Some(map) = slot else { continue };
            let length = after.get(axis).copied().unwrap_or(0);
            if before.get(axis) != Some(&length) && view.constant(1).is_none() {
                return Err(Freeze::new(
                    "how often it repeats the channels is not constant",
                ));
            }
            let repeated: AxisMap = map.iter().copied().cycle().take(length).collect();
            *slot = Some(repeated);
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}
