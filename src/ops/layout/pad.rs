//! Pad: channels keep their place, or get more beside them.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Backward, Edit, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{int, shape, sliced};
use crate::ops::layout::RESIZED;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(&["Pad"], &Pad, RESIZED)];

struct Pad;

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

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let read = shape(view, 0)?;
        let pads = Pad::pads(view, read.len()).ok()?;
        let cuts = pads
            .iter()
            .any(|&(_, before, after)| before < 0 || after < 0);
        if cuts || view.node.text("mode", "constant") != "constant" {
            return None;
        }
        let (mut axes, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, before, _) in pads {
            axes.push(int(axis));
            starts.push(before);
            ends.push(before.checked_add(int(*read.get(axis)?))?);
        }
        let found = sliced(
            back,
            view.graph.opset,
            back.output()?,
            [&starts, &ends, &axes],
        )?;
        back.give(0, found);
        Some(())
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
