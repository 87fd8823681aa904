//! How nodes make one constant of another, element by element: parts that several of them share.

use crate::graph::{NodeView, ValueId};
use crate::ops::of;

/// The slot of two whose constant has all elements of the output, if the other one has fewer and is
/// stored.
pub(super) fn of_all(view: NodeView<'_>, output: &[usize]) -> Option<usize> {
    let (left, right) = (view.input(0)?, view.input(1)?);
    let count = |value: ValueId| shape_of(view, value).map(|shape| shape.iter().product::<usize>());
    let is_whole = |value: ValueId| shape_of(view, value) == Some(output);
    let is_side =
        |value: ValueId| count(value) < Some(output.iter().product()) && is_stored(view, value);
    match (is_whole(left), is_whole(right)) {
        (true, false) if is_side(right) => Some(0),
        (false, true) if is_side(left) => Some(1),
        _ => None,
    }
}

/// Whether a constant is in the file as it is.
pub(super) fn is_stored(view: NodeView<'_>, value: ValueId) -> bool {
    let value = &view.graph.values[value];
    let maker = value.producer.map(|node| &view.graph.nodes[node]);
    value.constant.is_some() && maker.is_none_or(|node| of(node).stores_tensor())
}

pub(super) fn shape_of(view: NodeView<'_>, value: ValueId) -> Option<&[usize]> {
    view.graph.values[value].shape.as_deref()
}

/// Axes of a shape that are axes of another one of the same elements.
pub(super) fn in_place(from: &[usize], to: &[usize]) -> Vec<Option<usize>> {
    let before = |shape: &[usize], axis: usize| shape.iter().take(axis).product::<usize>();
    let axis = |axis: usize| {
        let mut all = 0..from.len();
        all.find(|&own| {
            from[own] == to[axis] && from[own] > 1 && before(from, own) == before(to, axis)
        })
    };
    (0..to.len()).map(axis).collect()
}
