//! Slice: positions from one to another.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Backward, Edit, Kept, Operator, Size, Taken, Walk};
use crate::ops::Entry;
use crate::ops::backward::{int, padded, shape};
use crate::ops::layout::{PARTS, int_tensor, to_int};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(&["Slice"], &Slice, PARTS)];

struct Slice;

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

    fn taken(&self, view: NodeView<'_>) -> Option<Vec<Taken>> {
        let whole = shape(view, 0)?;
        let bounds = |name: &str, slot| known_ints(view, name, slot);
        let mut ranges = Slice::ranges(view, bounds, |_| true).ok()?;
        ranges.retain(|range| whole.get(range.axis) != Some(&(range.end - range.start)));
        let &[
            Range {
                axis, start, end, ..
            },
        ] = ranges.as_slice()
        else {
            return None;
        };
        let taken = Taken {
            axis,
            first: start,
            count: end - start,
            is_dropped: false,
        };
        Some(vec![taken])
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let bounds = |name: &str, slot| known_ints(view, name, slot);
        let whole = shape(view, 0)?;
        let (mut before, mut after) = (vec![0; whole.len()], vec![0; whole.len()]);
        for range in Slice::ranges(view, bounds, |_| true).ok()? {
            *before.get_mut(range.axis)? = int(range.start);
            *after.get_mut(range.axis)? = int(whole.get(range.axis)?.checked_sub(range.end)?);
        }
        let found = padded(back, view.graph.opset, back.output()?, [&before, &after])?;
        back.give(0, found);
        Some(())
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

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sliced(view, walk.sizes(view.input(0)?)?)
    }
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
