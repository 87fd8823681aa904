//! Pad, Resize and Expand: the shape changes, channels keep their place.

use crate::graph::{Freeze, Graph, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Edit, Kept, Operator, Walk};
use crate::ops::constant::is_weight;

pub(super) struct Pad;

impl Pad {
    /// Padding before and after each axis.
    fn pads(view: NodeView<'_>, rank: usize) -> Result<Vec<(usize, i64, i64)>, Freeze> {
        let pads = view
            .ints("pads", 1)?
            .ok_or_else(|| Freeze::new("it has no pads"))?;
        let axes: Vec<usize> = match view.constant_ints(3)? {
            Some(axes) => axes
                .into_iter()
                .map(|axis| normalize_axis(axis, rank))
                .collect::<Result<_, _>>()?,
            None => (0..rank).collect(),
        };
        let count = axes.len();
        let pair = |(index, axis): (usize, usize)| {
            Some((axis, *pads.get(index)?, *pads.get(index + count)?))
        };
        let listed: Option<Vec<_>> = axes.into_iter().enumerate().map(pair).collect();
        listed.ok_or_else(|| Freeze::new("its pads do not fit its axes"))
    }
}

impl Operator for Pad {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if !walk.is_tracked(input) {
            return Ok(());
        }
        let mut axes = walk.axes(input);
        let pads = Pad::pads(view, axes.len())?;
        let count = pads.len();
        for (index, (axis, before, after)) in pads.into_iter().enumerate() {
            let Some(Some(map)) = axes.get(axis).cloned() else {
                continue;
            };
            if before == 0 && after == 0 {
                continue;
            }
            let (Ok(before), Ok(after)) = (usize::try_from(before), usize::try_from(after)) else {
                return Err(Freeze::new("it cuts channels off"));
            };
            if view.node.text("mode", "constant") != "constant" {
                return Err(Freeze::new("it repeats channels"));
            }
            // A size from the file; that of the output was weighed before.
            let all = before
                .checked_add(map.len())
                .and_then(|l| l.checked_add(after));
            if view.output_shape()?.get(axis).copied() != all {
                return Err(Freeze::new("its pads do not fit its output"));
            }
            let (first, last) = (walk.fresh(view.id, before), walk.fresh(view.id, after));
            let joined: AxisMap = first
                .iter()
                .chain(map.iter())
                .chain(last.iter())
                .copied()
                .collect();
            if view.input(1).is_some() {
                let mut entries = vec![None; 2 * count];
                entries[index] = Some(first);
                entries[index + count] = Some(last);
                walk.follow_sizes((view.id, 1), &entries, |_, _| false)?;
            }
            axes[axis] = Some(joined);
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let (Some(pads), Some(output)) = (view.node.ints("pads"), view.output(0)) else {
            return Ok(Vec::new());
        };
        let mut pads = pads.to_vec();
        let rank = pads.len() / 2;
        for axis in 0..rank {
            let Some(map) = kept.map(output, axis) else {
                continue;
            };
            let count =
                |channels: &[usize]| channels.iter().filter(|&&c| kept.has(c)).count() as i64;
            let before = usize::try_from(pads[axis]).unwrap_or(0).min(map.len());
            let after = usize::try_from(pads[axis + rank])
                .unwrap_or(0)
                .min(map.len());
            pads[axis] = count(&map[..before]);
            pads[axis + rank] = count(&map[map.len() - after..]);
        }
        Ok(vec![Edit::Ints("pads", pads)])
    }
}

pub(super) struct Resize;

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
        if view.node.op_type == "Resize" {
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

pub(super) struct Expand;

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
pub(super) fn are_copies(graph: &Graph, walk: &Walk<'_>, map: &AxisMap) -> bool {
    let maker = map.first().map(|&atom| graph.view(walk.origin(atom)));
    // What it repeats of a constant is channels.
    maker.is_some_and(|maker| {
        let is_expand = maker.node.domain.is_empty() && maker.node.op_type == "Expand";
        is_expand && maker.constant(0).is_none()
    })
}

/// Copies of one head of keys or values, for each head of an attention: they leave with the heads that read
/// them. Heads lie between the samples and the two axes of a matrix.
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
        let size = entry.and_then(|entry| walk.constant_size((view.id, 1), entry));
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
        let target = view.shape(view.need(1)?)?.first().copied().unwrap_or(0);
        let copied = copies(view, walk, (own, shape), target, &axes);
        for (slot, copied) in axes.iter_mut().zip(copied) {
            *slot = slot.take().or(copied);
        }
        let first = shape.len().saturating_sub(target);
        // The target may be shorter than the data: it is aligned to the right.
        let listed = axes.get(first..).unwrap_or_default().to_vec();
        walk.follow_sizes((view.id, 1), &listed, |_, entry| entry == 1)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}

/// Operators that take samples at places that another input gives: channels on axis 1 pass.
pub(super) struct Sample;

impl Operator for Sample {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let mut channels = None;
        for (slot, value) in view.node.inputs.iter().enumerate() {
            for axis in 0..value.map_or(Ok(0), |v| view.shape(v).map(<[usize]>::len))? {
                match *value {
                    Some(value) if (slot, axis) == (0, 1) => channels = walk.axis(value, axis),
                    Some(value) => {
                        let text = "it takes samples along the tracked axis";
                        walk.freeze_axis(value, axis, view.id, text);
                    }
                    None => {}
                }
            }
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let mut axes = vec![None; view.output_shape()?.len()];
        if let Some(slot) = axes.get_mut(1) {
            *slot = channels;
        }
        walk.set(output, axes)
    }
}

pub(super) struct Tile;

impl Operator for Tile {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (before, after) = (view.shape(input)?, view.output_shape()?);
        let mut axes = walk.axes(input);
        for (axis, slot) in axes.iter_mut().enumerate() {
            let Some(map) = slot else { continue };
            let length = after.get(axis).copied().unwrap_or(0);
            if before.get(axis) != Some(&length) && view.constant(1).is_none() {
                return Err(Freeze::new(
                    "how often it repeats the channels is not constant",
                ));
            }
            let repeated: AxisMap = map.iter().copied().cycle().take(length).collect();
            *slot = Some(repeated);
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}
