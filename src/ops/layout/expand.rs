//! Expand: channels keep their place, and what is repeated of a constant can be channels.

use crate::graph::{Freeze, Graph, NodeView};
use crate::groups::{AxisMap, Operator, Walk};
use crate::ops::Entry;
use crate::ops::constant::is_weight;
use crate::ops::layout::RESIZED;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(&[EXPAND], &Expand, RESIZED)];

const EXPAND: &str = "Expand";
/// The slot of the shape that it makes.
const TARGET: usize = 1;

struct Expand;

/// The last axis of a constant that is repeated, such as a token, can leave like channels.
fn constant_channels(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    shape: &[usize],
) -> Result<Vec<Option<AxisMap>>, Freeze> {
    let mut axes = vec![None; shape.len()];
    let is_weight = view
        .constant(0)
        .is_some_and(|tensor| is_weight(tensor.dtype));
    if let (Some((&length, rest)), true) = (shape.split_last(), is_weight)
        && length > 1
    {
        let map = walk.fresh(view.id, length);
        walk.cut((view.id, 0), rest.len(), &map)?;
        axes[rest.len()] = Some(map);
    }
    Ok(axes)
}

/// Whether all along the axis is the same, repeated by an Expand.
pub(in crate::ops) fn are_copies(graph: &Graph, walk: &Walk<'_>, map: &AxisMap) -> bool {
    let maker = map.first().map(|&atom| graph.view(walk.origin(atom)));
    // What it repeats of a constant is channels.
    maker.is_some_and(|maker| {
        let is_expand = maker.node.domain.is_empty() && maker.node.op_type == EXPAND;
        is_expand && maker.constant(0).is_none()
    })
}

/// Copies of one head of keys or values, for each head of an attention: they leave with the heads
/// that read them. Heads lie between the samples and the two axes of a matrix.
fn copies(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    (own, shape): (&[usize], &[usize]),
    target: usize,
    axes: &[Option<AxisMap>],
) -> Vec<Option<AxisMap>> {
    let mut made = vec![None; shape.len()];
    let stacks = 1..shape.len().saturating_sub(2);
    let mut tracked = axes.iter().enumerate().filter(|(_, map)| map.is_some());
    let is_apt =
        tracked.clone().next().is_some() && tracked.all(|(axis, _)| !stacks.contains(&axis));
    for axis in stacks.filter(|_| is_apt) {
        let length = shape.get(axis).copied().unwrap_or(1);
        let place = (axis + own.len()).checked_sub(shape.len());
        let before = place.and_then(|place| own.get(place)).copied().unwrap_or(1);
        let entry = (axis + target).checked_sub(shape.len());
        let size = entry.and_then(|entry| walk.constant_size((view.id, TARGET), entry));
        if before == 1 && length > 1 && size.is_some() {
            made[axis] = Some(walk.fresh(view.id, length));
        }
    }
    made
}

impl Operator for Expand {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (own, shape) = (view.shape(input)?, view.output_shape()?);
        let new = shape.len().saturating_sub(own.len());
        let mut axes = vec![None; shape.len()];
        let mut maps = walk.axes(input);
        if view.graph.values[input].constant.is_some() {
            maps = constant_channels(view, walk, own)?;
        }
        for (axis, map) in maps.into_iter().enumerate() {
            if own.get(axis) == shape.get(axis + new) {
                axes[axis + new] = map;
            } else if let Some(map) = map {
                walk.freeze(&map, view.id, "it repeats the channel");
            }
        }
        let target = view
            .shape(view.need(TARGET)?)?
            .first()
            .copied()
            .unwrap_or(0);
        let copied = copies(view, walk, (own, shape), target, &axes);
        for (slot, copied) in axes.iter_mut().zip(copied) {
            *slot = slot.take().or(copied);
        }
        let first = shape.len().saturating_sub(target);
        // The target may be shorter than the data: it is aligned to the right.
        let listed = axes.get(first..).unwrap_or_default().to_vec();
        walk.follow_sizes((view.id, TARGET), &listed, |_, entry| entry == 1)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }

    fn target(&self) -> Option<usize> {
        Some(TARGET)
    }

    fn opens(&self, _: NodeView<'_>, slot: usize, _: &mut usize) -> Option<i64> {
        (slot == TARGET).then_some(1)
    }
}
