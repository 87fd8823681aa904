//! Split, Slice and Gather: parts of a tensor, sub-maps of its atoms.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Edit, Kept, Operator, Walk};
use crate::onnx::Tensor;
use crate::ops::constant::is_weight;

pub(super) struct Split;

impl Split {
    fn axis(view: NodeView<'_>) -> Result<usize, Freeze> {
        let rank = view.shape(view.need(0)?)?.len();
        normalize_axis(view.node.int("axis", 0), rank)
    }
}

impl Operator for Split {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let along = Split::axis(view)?;
        let whole = walk.axis(input, along);
        let (mut start, mut parts) = (0, Vec::new());
        for output in view.node.outputs.iter().flatten() {
            let length = view.shape(*output)?.get(along).copied().unwrap_or(0);
            let part: Option<AxisMap> = whole
                .as_ref()
                .map(|map| map.iter().skip(start).take(length).copied().collect());
            start += length;
            let mut axes = walk.axes(input);
            if let Some(slot) = axes.get_mut(along) {
                slot.clone_from(&part);
            }
            walk.set(*output, axes)?;
            parts.push(part);
        }
        if view.input(1).is_some() {
            walk.follow_sizes((view.id, 1), &parts, |_, _| false)?;
        }
        Ok(())
    }

    fn reads_sizes(&self) -> bool {
        true
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let along = Split::axis(view)?;
        let mut sizes = Vec::new();
        for output in view.node.outputs.iter().flatten() {
            let length = view.shape(*output)?.get(along).copied().unwrap_or(0);
            sizes.push(to_int(kept.length(*output, along, length))?);
        }
        let is_even = sizes.windows(2).all(|pair| pair.first() == pair.last());
        Ok(if view.node.has("split") {
            vec![Edit::Ints("split", sizes)]
        } else if view.input(1).is_some() || is_even {
            Vec::new()
        } else if view.graph.opset < 13 {
            vec![Edit::Ints("split", sizes)]
        } else {
            let tensor = int_tensor(&sizes)?;
            vec![Edit::Drop("num_outputs"), Edit::Input(1, tensor)]
        })
    }
}

pub(super) struct Slice;

/// One axis that a Slice cuts: positions `start..end` of it.
struct Range {
    index: usize,
    axis: usize,
    start: usize,
    end: usize,
}

impl Slice {
    /// The ranges along tracked axes.
    fn ranges(
        view: NodeView<'_>,
        bounds: impl Fn(&str, usize) -> Result<Option<Vec<i64>>, Freeze>,
        is_tracked: impl Fn(usize) -> bool,
    ) -> Result<Vec<Range>, Freeze> {
        let shape = view.shape(view.need(0)?)?;
        let rank = shape.len();
        let axes = match view.ints("axes", 3)? {
            Some(axes) => axes,
            None => (0..to_int(Slice::count(view)?)?).collect(),
        };
        let mut ranges = Vec::new();
        for (index, &axis) in axes.iter().enumerate() {
            let axis = normalize_axis(axis, rank)?;
            if !is_tracked(axis) {
                continue;
            }
            let at = |list: Option<&Vec<i64>>, default: i64| match list {
                Some(list) => list.get(index).copied().unwrap_or(default),
                None => default,
            };
            if at(view.constant_ints(4)?.as_ref(), 1) != 1 {
                return Err(Freeze::new("it takes the channels in steps or backwards"));
            }
            let (starts, ends) = (bounds("starts", 1)?, bounds("ends", 2)?);
            let length = to_int(shape.get(axis).copied().unwrap_or(0))?;
            let clamp = |int: i64| {
                let from_start = if int < 0 {
                    int.saturating_add(length)
                } else {
                    int
                };
                usize::try_from(from_start.clamp(0, length)).unwrap_or(0)
            };
            let start = clamp(at(starts.as_ref(), 0));
            let end = clamp(at(ends.as_ref(), length)).max(start);
            ranges.push(Range {
                index,
                axis,
                start,
                end,
            });
        }
        Ok(ranges)
    }

    fn count(view: NodeView<'_>) -> Result<usize, Freeze> {
        match view.node.ints("starts") {
            Some(starts) => Ok(starts.len()),
            None => Ok(view.shape(view.need(1)?)?.first().copied().unwrap_or(0)),
        }
    }
}

impl Operator for Slice {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let mut axes = walk.axes(input);
        if axes.iter().all(Option::is_none) {
            return Ok(());
        }
        let bounds = |name: &str, slot| walk.ints(view, name, slot);
        for range in Slice::ranges(view, bounds, |axis| walk.axis(input, axis).is_some())? {
            if let Some(slot) = axes.get_mut(range.axis) {
                let part = slot
                    .as_ref()
                    .and_then(|map| map.get(range.start..range.end));
                *slot = part.map(AxisMap::from);
            }
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let input = view.need(0)?;
        let bounds = |name: &str, slot| known_ints(view, name, slot);
        let ranges = Slice::ranges(view, bounds, |axis| kept.map(input, axis).is_some())?;
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let missing = || Freeze::new("its starts or ends are not known");
        let mut starts = bounds("starts", 1)?.ok_or_else(missing)?;
        let mut ends = bounds("ends", 2)?.ok_or_else(missing)?;
        for range in ranges {
            let Some(map) = kept.map(input, range.axis) else {
                continue;
            };
            let count = |to: usize| {
                to_int(
                    map.iter()
                        .take(to)
                        .filter(|&&channel| kept.has(channel))
                        .count(),
                )
            };
            if let Some(start) = starts.get_mut(range.index) {
                *start = count(range.start)?;
            }
            if let Some(end) = ends.get_mut(range.index) {
                *end = count(range.end)?;
            }
        }
        if view.node.has("starts") {
            return Ok(vec![Edit::Ints("starts", starts), Edit::Ints("ends", ends)]);
        }
        // All four inputs have one integer type.
        let mut edits = vec![
            Edit::Input(1, int_tensor(&starts)?),
            Edit::Input(2, int_tensor(&ends)?),
        ];
        for slot in [3, 4] {
            if let Some(ints) = view.constant_ints(slot)? {
                edits.push(Edit::Input(slot, int_tensor(&ints)?));
            }
        }
        Ok(edits)
    }
}

pub(super) struct Gather;

impl Gather {
    /// The axis and the positions that a Gather with constant indices takes there.
    fn positions(view: NodeView<'_>) -> Result<(usize, Vec<usize>), Freeze> {
        let shape = view.shape(view.need(0)?)?;
        let axis = normalize_axis(view.node.int("axis", 0), shape.len())?;
        let length = shape.get(axis).copied().unwrap_or(0);
        let indices = view
            .constant_ints(1)?
            .ok_or_else(|| Freeze::new("it has no indices"))?;
        let positions = indices
            .into_iter()
            .map(|index| normalize_axis(index, length));
        Ok((axis, positions.collect::<Result<_, _>>()?))
    }
}

impl Operator for Gather {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if view.constant(0).is_some_and(|table| is_weight(table.dtype)) {
            return embed(view, walk);
        }
        if !walk.is_tracked(input) {
            return Ok(());
        }
        let indices = view.need(1)?;
        let rank = view.shape(indices)?.len();
        let along = normalize_axis(view.node.int("axis", 0), view.shape(input)?.len())?;
        let mut axes = walk.axes(input);
        let taken = axes.get_mut(along).and_then(Option::take);
        let mut inserted = vec![None; rank];
        if let Some(map) = taken {
            let (_, positions) = Gather::positions(view)?;
            let part: AxisMap = positions
                .iter()
                .filter_map(|&p| map.get(p).copied())
                .collect();
            match inserted.as_mut_slice() {
                [slot] => *slot = Some(part),
                [] => walk.freeze(&part, view.id, "it reads the channel by its number"),
                _ => return Err(Freeze::new("its indices have more than one axis")),
            }
        }
        axes.splice(along..=along, inserted);
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let input = view.need(0)?;
        let along = normalize_axis(view.node.int("axis", 0), view.shape(input)?.len())?;
        let Some(map) = kept.map(input, along) else {
            return Ok(Vec::new());
        };
        let (_, positions) = Gather::positions(view)?;
        let mut indices = Vec::new();
        for position in positions {
            let stays = map.get(position).is_some_and(|&channel| kept.has(channel));
            if stays {
                let before = map
                    .iter()
                    .take(position)
                    .filter(|&&channel| kept.has(channel));
                indices.push(to_int(before.count())?);
            }
        }
        let is_scalar = view.shape(view.need(1)?)?.is_empty();
        let shape = if is_scalar {
            vec![]
        } else {
            vec![indices.len()]
        };
        let tensor = Tensor::from_i64(&shape, &indices).map_err(|e| Freeze::new(e.to_string()))?;
        Ok(vec![Edit::Input(1, tensor)])
    }
}

/// A table of constants that is read by numbers: its rows' entries are channels.
fn embed(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
    let shape = view.shape(view.need(0)?)?;
    let along = normalize_axis(view.node.int("axis", 0), shape.len())?;
    let ([_, length], 0, Some(output)) = (shape, along, view.output(0)) else {
        return Ok(());
    };
    let map = walk.fresh(view.id, *length);
    walk.cut((view.id, 0), 1, &map)?;
    walk.weigh((view.id, 0));
    let mut axes = vec![None; view.output_shape()?.len()];
    if let Some(last) = axes.last_mut() {
        *last = Some(map);
    }
    walk.set(output, axes)
}

/// The integers of a list that the walk found to be the same in every run.
fn known_ints(view: NodeView<'_>, name: &str, slot: usize) -> Result<Option<Vec<i64>>, Freeze> {
    match (view.node.ints(name), view.constant_or_count(slot)) {
        (None, Some(tensor)) => {
            let ints = tensor.to_i64();
            ints.map(Some)
                .map_err(|error| Freeze::new(error.to_string()))
        }
        _ => view.ints(name, slot),
    }
}

fn to_int(length: usize) -> Result<i64, Freeze> {
    i64::try_from(length).map_err(|_| Freeze::new("an axis is too long"))
}

fn int_tensor(ints: &[i64]) -> Result<Tensor, Freeze> {
    Tensor::from_i64(&[ints.len()], ints).map_err(|error| Freeze::new(error.to_string()))
}
