//! Shape and Size: lengths of axes as data.

use std::ops::Range;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Size as Length, Walk};
use crate::onnx::Tensor;
use crate::ops::Entry;

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["Shape"],
        &Shape,
        "\
            lengths of axes are followed to the Reshape, Expand or Resize that uses them, through \
            Gather, Slice, Concat and Cast. A length that comes from another tensor becomes a \
            number where that is needed to keep the two apart; an entry that several Reshapes \
            share becomes -1",
    ),
    Entry::standard(
        &["Size"],
        &Size,
        "its output is known from the shape of its input",
    ),
];

struct Shape;

impl Operator for Shape {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }

    fn starts_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, _: &Walk<'_>) -> Option<Vec<Length>> {
        let data = view.input(0)?;
        let rank = view.shape(data).map_or(0, <[usize]>::len);
        let axes = axes_told(view, rank);
        Some(axes.map(|axis| Length::Axis(data, axis)).collect())
    }

    fn lengths(&self, view: NodeView<'_>) -> Option<Tensor> {
        let shape = view.shape(view.input(0)?).ok()?;
        let told = shape.get(axes_told(view, shape.len()))?;
        let sizes: Vec<i64> = told.iter().map(|&size| int(size)).collect::<Option<_>>()?;
        Tensor::from_i64(&[sizes.len()], &sizes).ok()
    }
}

struct Size;

impl Operator for Size {
    fn is_followed(&self) -> bool {
        false
    }

    fn starts_sizes(&self) -> bool {
        true
    }

    fn lengths(&self, view: NodeView<'_>) -> Option<Tensor> {
        let shape = view.shape(view.input(0)?).ok()?;
        let product = shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s))?;
        Tensor::from_i64(&[], &[int(product)?]).ok()
    }
}

fn int(size: usize) -> Option<i64> {
    i64::try_from(size).ok()
}

/// The axes of a tensor of `rank` axes whose lengths the node tells: its attributes may leave some
/// out.
fn axes_told(view: NodeView<'_>, rank: usize) -> Range<usize> {
    let length = i64::try_from(rank).unwrap_or(i64::MAX);
    let bound = |name: &str, default: i64| {
        let int = view.node.int(name, default);
        let int = if int < 0 {
            int.saturating_add(length)
        } else {
            int
        };
        usize::try_from(int.clamp(0, length)).unwrap_or(0)
    };
    let start = bound("start", 0);
    start..bound("end", length).max(start)
}
