//! Numpy broadcasting: what meets along an axis is one channel.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{AxisMap, Walk};

/// Each element of the output comes from the elements of the inputs at its own place.
pub(in crate::ops) fn trace(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
    if view.node.has("broadcast") || view.node.has("axis") {
        return Err(Freeze::new("it broadcasts in the way of opsets before 7"));
    }
    let shape = view.output_shape()?.to_vec();
    let mut axes = vec![None; shape.len()];
    for (axis, slot) in axes.iter_mut().enumerate() {
        *slot = trace_axis(view, walk, axis, &shape)?;
    }
    for output in view.node.outputs.iter().flatten() {
        // Dropout's mask has the shape of its data.
        walk.set(*output, axes.clone())?;
    }
    Ok(())
}

/// The output has the data of the first input, whatever else the node reads or makes.
pub(in crate::ops) fn first(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
    let output = view
        .output(0)
        .ok_or_else(|| Freeze::new("it has no output"))?;
    let axes = walk.axes(view.need(0)?);
    walk.set(output, axes)
}

/// Unites what meets along one output axis and cuts the constants that stand beside it.
pub(in crate::ops) fn trace_axis(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axis: usize,
    shape: &[usize],
) -> Result<Option<AxisMap>, Freeze> {
    let inputs = view.node.inputs.iter().enumerate();
    let inputs: Vec<(usize, ValueId)> = inputs.filter_map(|(i, v)| Some((i, (*v)?))).collect();
    join(view, walk, &inputs, axis, shape)
}

/// The same for some of the node's inputs.
pub(in crate::ops) fn join(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    inputs: &[(usize, ValueId)],
    axis: usize,
    shape: &[usize],
) -> Result<Option<AxisMap>, Freeze> {
    let mut joined: Option<AxisMap> = None;
    let mut constants = Vec::new();
    let mut untracked: Option<ValueId> = None;
    for &(slot, value) in inputs {
        let Some(own) = own_axis(view, value, axis, shape)? else {
            continue;
        };
        if view.graph.values[value].constant.is_some() {
            constants.push((slot, own));
            continue;
        }
        match (walk.axis(value, own), &joined) {
            (Some(map), Some(first)) => walk.tie(&first.clone(), &map)?,
            (Some(map), None) => joined = Some(map),
            (None, _) => untracked = Some(value),
        }
    }
    let Some(map) = joined.or_else(|| of_constants(view, walk, &constants, inputs)) else {
        return Ok(None);
    };
    if let Some(value) = untracked {
        let name = &view.graph.values[value].name;
        walk.freeze(
            &map,
            view.id,
            &format!("it combines the channels with '{name}', which is not pruned"),
        );
    }
    for (slot, own) in constants {
        walk.cut((view.id, slot), own, &map)?;
    }
    Ok(Some(map))
}

/// New atoms for constants that meet nothing but single numbers that are computed, as a bias does
/// that is quantised with a scale of the data.
fn of_constants(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    constants: &[(usize, usize)],
    inputs: &[(usize, ValueId)],
) -> Option<AxisMap> {
    let &(slot, own) = constants.first()?;
    let values = &view.graph.values;
    let is_one = |shape: &Vec<usize>| shape.iter().all(|&length| length == 1);
    let mut computed = inputs.iter().map(|&(_, value)| &values[value]);
    let only_numbers = computed.all(|value| {
        value.constant.is_some() || !value.is_count && value.shape.as_ref().is_some_and(is_one)
    });
    let length = view.shape(view.input(slot)?).ok()?.get(own).copied()?;
    (only_numbers && length > 1).then(|| walk.fresh(view.id, length))
}

/// The axis of an input that lies along an output axis, unless the input is repeated there.
fn own_axis(
    view: NodeView<'_>,
    value: ValueId,
    axis: usize,
    shape: &[usize],
) -> Result<Option<usize>, Freeze> {
    let own_shape = view.shape(value)?;
    let missing = shape.len().saturating_sub(own_shape.len());
    let Some(own) = axis.checked_sub(missing) else {
        return Ok(None);
    };
    let (Some(&length), Some(&target)) = (own_shape.get(own), shape.get(axis)) else {
        return Ok(None);
    };
    Ok(
        (length == target && !(length == 1 && view.graph.values[value].constant.is_some()))
            .then_some(own),
    )
}
