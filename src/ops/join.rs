//! Concat: maps laid end to end.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Operator, Walk};

pub(super) struct Concat;

impl Operator for Concat {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let shape = view.output_shape()?.to_vec();
        let along = normalize_axis(view.node.int("axis", 1), shape.len())?;
        let mut axes = vec![None; shape.len()];
        for (axis, slot) in axes.iter_mut().enumerate() {
            *slot = if axis == along {
                end_to_end(view, walk, along)?
            } else {
                side_by_side(view, walk, axis)?
            };
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

/// The joined axis: each input brings its own positions.
fn end_to_end(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axis: usize,
) -> Result<Option<AxisMap>, Freeze> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    if inputs.iter().all(|&value| walk.axis(value, axis).is_none()) {
        return Ok(None);
    }
    let mut joined = Vec::new();
    for (slot, &value) in inputs.iter().enumerate() {
        let length = view.shape(value)?.get(axis).copied().unwrap_or(0);
        let part = match walk.axis(value, axis) {
            Some(map) => map,
            None if view.graph.values[value].constant.is_some() => {
                // Constant channels, such as zeros that widen a shortcut, can leave like others.
                let map = walk.fresh(view.id, length);
                walk.cut((view.id, slot), axis, &map)?;
                map
            }
            None => {
                let name = &view.graph.values[value].name;
                walk.fixed(
                    view.id,
                    length,
                    &format!("they come from '{name}', which is not pruned"),
                )
            }
        };
        joined.extend_from_slice(&part);
    }
    Ok(Some(joined.into()))
}

/// Another axis: all inputs must agree there.
fn side_by_side(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axis: usize,
) -> Result<Option<AxisMap>, Freeze> {
    let mut joined: Option<AxisMap> = None;
    for value in view.node.inputs.iter().flatten() {
        if let Some(map) = walk.axis(*value, axis) {
            match &joined {
                Some(first) => walk.tie(&first.clone(), &map)?,
                None => joined = Some(map),
            }
        }
    }
    let Some(map) = joined else { return Ok(None) };
    for (slot, value) in view.node.inputs.iter().enumerate() {
        let Some(value) = *value else { continue };
        if view.graph.values[value].constant.is_some() {
            walk.cut((view.id, slot), axis, &map)?;
        } else if walk.axis(value, axis).is_none() {
            let name = &view.graph.values[value].name;
            walk.freeze(
                &map,
                view.id,
                &format!("it joins the channels with '{name}', which is not pruned"),
            );
        }
    }
    Ok(Some(map))
}
