//! Resize and Upsample: other axes than the channels' get longer or shorter.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Attribute, AxisMap, Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{all_ints, scaled, shape};
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

    /// Of copies, as many along each axis: their sum.
    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let copies = copies(view)?;
        let (kernel, count) = (all_ints(&copies), copies.iter().product::<usize>());
        let attributes = [
            Attribute::Ints("kernel_shape", &kernel),
            Attribute::Ints("strides", &kernel),
        ];
        let mean = back
            .graph
            .node("AveragePool", &[back.output()?], &attributes);
        let found = scaled(back, &mean, count as f64);
        back.give(0, found);
        Some(())
    }
}

/// How often each position is repeated along each axis behind the channels, where that is all that
/// the node does: output `i` is input `i / s`, rounded down.
fn copies(view: NodeView<'_>) -> Option<Vec<usize>> {
    /// Before, positions were not centred, and rounded down.
    const CENTRES: i64 = 11;
    let (read, made) = (shape(view, 0)?, view.output_shape().ok()?);
    let whole =
        |(&read, &made): (&usize, &usize)| (read > 0 && made % read == 0).then(|| made / read);
    let copies: Vec<usize> = read.iter().zip(made).map(whole).collect::<Option<_>>()?;
    let (outer, inner) = copies.split_at_checked(2)?;
    let is_nearest = view.node.text("mode", "nearest") == "nearest";
    let (place, rounding) = if view.graph.opset < CENTRES {
        ("asymmetric".to_owned(), "floor".to_owned())
    } else {
        let place = view
            .node
            .text("coordinate_transformation_mode", "half_pixel");
        (place, view.node.text("nearest_mode", "round_prefer_floor"))
    };
    let rounds_down = match (place.as_str(), rounding.as_str()) {
        ("asymmetric", "floor") => true,
        ("half_pixel" | "pytorch_half_pixel", "round_prefer_floor") => true,
        ("asymmetric", "round_prefer_floor") => inner.iter().all(|&copies| copies <= 2),
        _ => false,
    };
    let is_known = is_nearest && rounds_down && !inner.is_empty() && outer == [1, 1];
    is_known.then(|| inner.to_vec())
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
