//! Lengths of axes as data: how entries travel to where they are used.

use crate::graph::{Graph, NodeView, ValueId};
use crate::groups::{Size, Walk};
use crate::onnx::DataType;
use crate::ops::registry::named_as;

/// Nodes that are followed to and from a list of sizes, and factors of one number.
pub(super) const MOST_FOLLOWED: usize = 1024;
pub(super) const MOST_FACTORS: usize = 4;

/// The sizes of the first input, which go on as they are.
pub(super) fn passed(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    walk.sizes(view.input(0)?).map(<[Size]>::to_vec)
}

/// Arithmetic on numbers that follow from channel counts and constants gives more of them.
pub(super) fn computed(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    view.input(0)?;
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    let is_known =
        |&value: &ValueId| view.graph.values[value].constant.is_some() || walk.is_counted(value);
    let count = view.output_shape().ok()?.iter().product();
    (inputs.iter().all(is_known) && inputs.iter().any(|&value| walk.sizes(value).is_some()))
        .then(|| vec![Size::Count; count])
}

/// The integer that all entries of a value are, where that can be seen.
pub(super) fn filled_with(graph: &Graph, value: ValueId, depth: usize) -> Option<i64> {
    let depth = depth.checked_sub(1)?;
    let known = &graph.values[value];
    if let Some(constant) = &known.constant {
        let ints = constant.to_i64().ok()?;
        let first = *ints.first()?;
        return ints.iter().all(|&int| int == first).then_some(first);
    }
    let view = graph.view(known.producer?);
    named_as(view.node).filled(view, depth)
}

pub(super) fn is_integer(view: NodeView<'_>, slot: usize) -> bool {
    let constant = view.constant(slot);
    constant.is_some_and(|tensor| is_index(tensor.dtype))
}

pub(super) fn is_index(dtype: DataType) -> bool {
    matches!(dtype, DataType::Int32 | DataType::Int64)
}
