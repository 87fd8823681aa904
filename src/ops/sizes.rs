//! Lengths of axes as data: Shape, and how its entries travel to where they are used.

use crate::graph::{Node, NodeView, view::normalize_axis};
use crate::groups::{Size, Walk};
use crate::onnx::DataType;
use crate::ops::{Freeze, Operator};

pub(super) struct Shape;

impl Operator for Shape {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }
}

/// Whether the node's output holds lengths of axes, whatever it reads.
#[must_use]
pub fn starts(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op_type.as_str(), "Shape" | "Size")
}

/// Whether the node computes few numbers from few: where it reads lengths of axes and constants
/// only, its output is a *count*.
#[must_use]
pub fn computes(node: &Node) -> bool {
    const MOVES: &[&str] = &[
        "Cast",
        "Concat",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Unsqueeze",
    ];
    node.domain.is_empty() && (MOVES.contains(&node.op_type.as_str()) || is_arithmetic(node))
}

fn is_arithmetic(node: &Node) -> bool {
    const NAMES: &[&str] = &[
        "Abs",
        "Add",
        "Ceil",
        "Div",
        "Equal",
        "Floor",
        "Greater",
        "Less",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Pow",
        "Reciprocal",
        "ReduceProd",
        "Round",
        "Sqrt",
        "Sub",
        "Where",
    ];
    NAMES.contains(&node.op_type.as_str())
}

/// What the entries of the node's output stand for, if the node makes or moves lengths of axes.
#[must_use]
pub fn flow(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    if !view.node.domain.is_empty() {
        return None;
    }
    let data = view.input(0)?;
    if is_arithmetic(view.node) {
        return computed(view, walk);
    }
    match view.node.op_type.as_str() {
        "Shape" => Some(axes_of(view, data)),
        "Concat" => joined(view, walk),
        "Gather" => {
            let sizes = walk.sizes(data)?;
            let indices = view.constant_ints(1).ok()??;
            indices
                .iter()
                .map(|&i| sizes.get(normalize_axis(i, sizes.len()).ok()?).cloned())
                .collect()
        }
        "Slice" => sliced(view, walk.sizes(data)?),
        "Squeeze" | "Unsqueeze" | "Cast" | "Identity" | "Reshape" => {
            walk.sizes(data).map(<[Size]>::to_vec)
        }
        _ => None,
    }
}

/// Arithmetic on numbers that follow from channel counts and constants gives more of them.
fn computed(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    let is_known =
        |&value: &usize| view.graph.values[value].constant.is_some() || walk.is_counted(value);
    let count = view.output_shape().ok()?.iter().product();
    (inputs.iter().all(is_known) && inputs.iter().any(|&value| walk.sizes(value).is_some()))
        .then(|| vec![Size::Count; count])
}

fn axes_of(view: NodeView<'_>, data: usize) -> Vec<Size> {
    let rank = view.shape(data).map_or(0, <[usize]>::len);
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
    (bound("start", 0)..bound("end", length))
        .map(|axis| Size::Axis(data, axis))
        .collect()
}

fn joined(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    if !inputs.iter().any(|&value| walk.sizes(value).is_some()) {
        return None;
    }
    let mut sizes = Vec::new();
    for (slot, &value) in inputs.iter().enumerate() {
        let count = view.shape(value).ok()?.iter().product();
        match walk.sizes(value) {
            // Seen from here they are constants, which can be replaced one by one.
            Some(known) if known.contains(&Size::Count) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
            }
            Some(known) => sizes.extend_from_slice(known),
            None if is_integer(view, slot) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
            }
            None => sizes.extend(std::iter::repeat_n(Size::Other, count)),
        }
    }
    Some(sizes)
}

fn is_integer(view: NodeView<'_>, slot: usize) -> bool {
    let constant = view.constant(slot);
    constant.is_some_and(|tensor| matches!(tensor.dtype, DataType::Int32 | DataType::Int64))
}

fn sliced(view: NodeView<'_>, sizes: &[Size]) -> Option<Vec<Size>> {
    let length = i64::try_from(sizes.len()).ok()?;
    let first = |list: Option<Vec<i64>>, default: i64| match list {
        Some(list) => list.first().copied(),
        None => Some(default),
    };
    let clamp = |int: i64| {
        let int = if int < 0 {
            int.saturating_add(length)
        } else {
            int
        };
        usize::try_from(int.clamp(0, length)).ok()
    };
    if first(view.constant_ints(4).ok()?, 1)? != 1 {
        return None;
    }
    let start = clamp(first(view.ints("starts", 1).ok()?, 0)?)?;
    let end = clamp(first(view.ints("ends", 2).ok()?, length)?)?;
    sizes.get(start..end.max(start)).map(<[Size]>::to_vec)
}
