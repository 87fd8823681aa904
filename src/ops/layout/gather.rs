//! Gather: positions that indices pick, or rows of a table that numbers look up.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{
    AxisMap, Backward, Carried, Edit, Kept, Operator, Size, Step, Taken, Told, Walk,
};
use crate::onnx::Tensor;
use crate::ops::backward::{int, padded, reshaped, shape};
use crate::ops::constant::is_weight;
use crate::ops::layout::{PARTS, to_int};
use crate::ops::storage::{is_stored, shape_of};
use crate::ops::{Entry, inputs};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(&["Gather"], &Gather, PARTS)];

struct Gather;

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

    fn taken(&self, view: NodeView<'_>) -> Option<Vec<Taken>> {
        let (axis, positions) = Gather::positions(view).ok()?;
        let (first, count) = (*positions.first()?, positions.len());
        let is_row = positions.iter().copied().eq(first..first + count);
        let taken = Taken {
            axis,
            first,
            count,
            is_dropped: shape(view, 1)?.is_empty(),
        };
        is_row.then(|| vec![taken])
    }

    /// Of positions in a row.
    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let read = shape(view, 0)?;
        let (axis, positions) = Gather::positions(view).ok()?;
        let (first, count) = (*positions.first()?, positions.len());
        if !positions.iter().copied().eq(first..first + count) {
            return None;
        }
        let mut part = read.to_vec();
        *part.get_mut(axis)? = count;
        let (mut before, mut after) = (vec![0; read.len()], vec![0; read.len()]);
        *before.get_mut(axis)? = int(first);
        *after.get_mut(axis)? = int(read.get(axis)?.checked_sub(first + count)?);
        let found = reshaped(back, back.output()?, &part)?;
        let found = padded(back, view.graph.opset, &found, [&before, &after])?;
        back.give(0, found);
        Some(())
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

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        let sizes = walk.sizes(view.input(0)?)?;
        let indices = view.constant_ints(1).ok()??;
        let taken = |&index| sizes.get(normalize_axis(index, sizes.len()).ok()?).cloned();
        indices.iter().map(taken).collect()
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        looked_up(view, made)
    }

    fn told(&self, view: NodeView<'_>, slot: usize) -> Told {
        match slot {
            1 => inputs::by_table(view.constant(0), view.node.int("axis", 0)),
            _ => Told::Nothing,
        }
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

/// A Gather of single numbers from a table that is a list.
fn looked_up(view: NodeView<'_>, output: &[usize]) -> Option<Carried> {
    let (table, places) = (view.input(0)?, view.input(1)?);
    let is_list = shape_of(view, table)?.len() == 1;
    let fits = shape_of(view, places)? == output;
    (is_list && fits && is_stored(view, table))
        .then(|| Carried::in_place(1, output, Step::LookedUp))
}
