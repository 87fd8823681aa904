//! Resize and Upsample: other axes than the channels' get longer or shorter.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Operator, Walk};
use crate::ops::Entry;
use crate::ops::layout::RESIZED;

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Resize"], &Resize { has_sizes: true }, RESIZED),
    Entry::standard(&["Upsample"], &Resize { has_sizes: false }, RESIZED),
];

struct Resize {
    /// Whether it may read sizes.
    has_sizes: bool,
}

impl Operator for Resize {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (before, after) = (view.shape(input)?, view.output_shape()?);
        let axes = walk.axes(input);
        for (axis, map) in axes.iter().enumerate() {
            if map.is_some() && before.get(axis) != after.get(axis) {
                return Err(Freeze::new("it resizes along the channels"));
            }
        }
        if self.has_sizes {
            follow_target(view, walk, &axes)?;
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}

/// Resize's `sizes` input, which may speak of some axes only.
fn follow_target(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axes: &[Option<AxisMap>],
) -> Result<(), Freeze> {
    const SIZES: usize = 3;
    let Some(sizes) = view.input(SIZES) else {
        return Ok(());
    };
    if view.shape(sizes)? == [0] {
        return Ok(());
    }
    let listed: Vec<Option<AxisMap>> = match view.node.ints("axes") {
        Some(some) => some
            .iter()
            .map(|&axis| {
                Ok(axes
                    .get(normalize_axis(axis, axes.len())?)
                    .cloned()
                    .flatten())
            })
            .collect::<Result<_, Freeze>>()?,
        None => axes.to_vec(),
    };
    walk.follow_sizes((view.id, SIZES), &listed, |_, _| false)
}
