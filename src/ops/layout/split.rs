//! Split: sub-maps, one after the other.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Attribute, AxisMap, Backward, Edit, Kept, Operator, Taken, Walk};
use crate::ops::Entry;
use crate::ops::backward::{number, repeated};
use crate::ops::layout::{PARTS, int_tensor, to_int};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(&["Split"], &Split, PARTS)];

struct Split;

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

    fn taken(&self, view: NodeView<'_>) -> Option<Vec<Taken>> {
        let axis = Split::axis(view).ok()?;
        let mut first = 0;
        let part = |output: &Option<_>| {
            let count = *view.shape((*output)?).ok()?.get(axis)?;
            let taken = Taken {
                axis,
                first,
                count,
                is_dropped: false,
            };
            first += count;
            Some(taken)
        };
        view.node.outputs.iter().map(part).collect()
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let along = i64::try_from(Split::axis(view).ok()?).ok()?;
        let mut parts = Vec::new();
        for (output, gradient) in view.node.outputs.iter().zip(back.outputs) {
            parts.push(match gradient {
                Some(gradient) => gradient.clone(),
                None => {
                    let zero = number(back, 0.0);
                    repeated(back, &zero, view.shape((*output)?).ok()?)?
                }
            });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let found = back
            .graph
            .node("Concat", &parts, &[Attribute::Int("axis", along)]);
        back.give(0, found);
        Some(())
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
