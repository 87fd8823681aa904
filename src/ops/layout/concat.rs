//! Concat: maps laid end to end.

use crate::graph::{Freeze, Graph, NodeView, ValueId, view::normalize_axis};
use crate::groups::{AxisMap, Backward, Operator, Size, Walk};
use crate::ops::Entry;
use crate::ops::backward::{int, shape, sliced};
use crate::ops::registry::named_as;
use crate::ops::sizes::{MOST_FOLLOWED, is_index, is_integer};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &[CONCAT],
    &Concat,
    "channels are laid end to end; constant parts can leave like others",
)];

const CONCAT: &str = "Concat";

struct Concat;

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

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        joined(view, walk)
    }

    fn reads_all_slots(&self) -> bool {
        true
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let along =
            normalize_axis(view.node.int("axis", 1), view.output_shape().ok()?.len()).ok()?;
        let mut start = 0;
        for slot in 0..view.node.inputs.len() {
            let end = start + int(*shape(view, slot)?.get(along)?);
            if back.wants(slot) {
                let bounds: [&[i64]; 3] = [&[start], &[end], &[int(along)]];
                let found = sliced(back, view.graph.opset, back.output()?, bounds)?;
                back.give(slot, found);
            }
            start = end;
        }
        Some(())
    }

    fn open_entry(&self, view: NodeView<'_>) -> Option<i64> {
        open_entry(view, &mut { MOST_FOLLOWED })
    }

    fn opens(&self, view: NodeView<'_>, _: usize, left: &mut usize) -> Option<i64> {
        open_entry(view, left)
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

fn joined(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    if !inputs.iter().any(|&value| walk.sizes(value).is_some()) {
        return None;
    }
    let mut sizes = Vec::new();
    for (slot, &value) in inputs.iter().enumerate() {
        let at = (view.id, slot);
        let known = &view.graph.values[value];
        let may_replace = known.dtype.is_some_and(is_index) && known.observed.is_some();
        let alone = |size: Size| {
            if may_replace {
                Size::Seat(at, Box::new(size))
            } else {
                size
            }
        };
        let count = view.shape(value).ok()?.iter().product();
        match walk.sizes(value) {
            // Seen from here they are constants, which can be replaced one by one.
            Some(known) if known.contains(&Size::Count) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
            }
            Some([one @ (Size::Axis(..) | Size::Product(..) | Size::Other)]) => {
                sizes.push(alone(one.clone()));
            }
            Some(known) => sizes.extend_from_slice(known),
            None if is_integer(view, slot) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
            }
            None if count == 1 => sizes.push(alone(Size::Other)),
            None => sizes.extend(std::iter::repeat_n(Size::Other, count)),
        }
    }
    Some(sizes)
}

/// `left` nodes may be followed: joined twice again and again, few make as many ways as one likes.
fn open_entry(view: NodeView<'_>, left: &mut usize) -> Option<i64> {
    *left = left.checked_sub(1)?;
    let mut found = None;
    for &(reader, slot) in &view.graph.values[view.output(0)?].readers {
        let reader = view.graph.view(reader);
        let open = named_as(reader.node).opens(reader, slot, left)?;
        if *found.get_or_insert(open) != open {
            return None;
        }
    }
    found
}

/// The constants that a tensor of sizes is joined from.
pub(super) fn entries_given(graph: &Graph, value: ValueId, left: &mut usize) -> Option<Vec<i64>> {
    *left = left.checked_sub(1)?;
    let known = &graph.values[value];
    if let Some(constant) = &known.constant {
        return constant.to_i64().ok();
    }
    let Some(producer) = known.producer else {
        return Some(Vec::new());
    };
    let mut given = Vec::new();
    if graph.nodes[producer].op_type == CONCAT {
        for &input in graph.nodes[producer].inputs.iter().flatten() {
            given.extend(entries_given(graph, input, left)?);
        }
    }
    Some(given)
}
