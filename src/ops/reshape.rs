//! Reshape, Flatten, Squeeze, Unsqueeze and Transpose: the same elements under other axes.

use crate::graph::NodeView;
use crate::groups::{Atom, Axes, AxisMap, Walk};
use crate::ops::{Freeze, Operator};

pub(super) struct Reshape;

impl Operator for Reshape {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (before, after) = (view.shape(input)?, view.output_shape()?);
        let mut made = vec![None; after.len()];
        if !walk.is_tracked(input) {
            return follow_target(view, walk, &[], &made);
        }
        if view.node.op_type == "Reshape" && view.input(1).is_none() {
            return Err(Freeze::new(
                "its shape is an attribute, as in opsets before 5",
            ));
        }
        let axes = walk.axes(input);
        for segment in segments(before, after) {
            carry(view, walk, &segment, &axes, before, after, &mut made)?;
        }
        follow_target(view, walk, &axes, &made)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, made)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}

/// Reshape's target, whose entry 0 stands for the input's axis of that index and whose -1 stands
/// for what is left.
fn follow_target(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axes: &[Option<AxisMap>],
    made: &Axes,
) -> Result<(), Freeze> {
    if view.node.op_type != "Reshape" || view.input(1).is_none() {
        return Ok(());
    }
    let copied = |index: usize| axes.get(index).cloned().flatten();
    for (index, map) in made.iter().enumerate() {
        let is_zero = walk.constant_size((view.id, 1), index) == Some(0);
        if let (true, None, Some(source)) = (is_zero, map, copied(index)) {
            let text = "it gives a tensor that is not pruned the same length";
            walk.freeze(&source, view.id, text);
        }
    }
    walk.follow_sizes((view.id, 1), made, |index, entry| match entry {
        0 => copied(index) == made.get(index).cloned().flatten(),
        entry => entry == -1,
    })
}

/// Runs of input and output axes that hold the same elements.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    before: std::ops::Range<usize>,
    after: std::ops::Range<usize>,
}

/// Cuts two shapes of one row-major tensor wherever their axes end at the same element.
fn segments(before: &[usize], after: &[usize]) -> Vec<Segment> {
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    while i < before.len() || j < after.len() {
        let (first_i, first_j) = (i, j);
        let (mut left, mut right) = (1u128, 1u128);
        let step = |index: &mut usize, shape: &[usize], product: &mut u128| {
            if let Some(&length) = shape.get(*index) {
                *product = product.saturating_mul(length as u128);
                *index += 1;
            }
        };
        step(&mut i, before, &mut left);
        step(&mut j, after, &mut right);
        while left != right && (i < before.len() || j < after.len()) {
            if left < right && i < before.len() || j == after.len() {
                step(&mut i, before, &mut left);
            } else {
                step(&mut j, after, &mut right);
            }
        }
        found.push(Segment {
            before: first_i..i,
            after: first_j..j,
        });
    }
    found
}

/// Carries the atoms of one segment over.
fn carry(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    segment: &Segment,
    axes: &Axes,
    before: &[usize],
    after: &[usize],
    made: &mut Axes,
) -> Result<(), Freeze> {
    let tracked: Vec<usize> = segment
        .before
        .clone()
        .filter(|&axis| axes.get(axis).is_some_and(Option::is_some))
        .collect();
    let (axis, map) = match tracked.as_slice() {
        [] => return Ok(()),
        [axis] => match axes.get(*axis).cloned().flatten() {
            Some(map) => (*axis, map),
            None => return Ok(()),
        },
        _ => return Err(Freeze::new("it merges two axes of channels")),
    };
    let old = before.get(segment.before.clone()).unwrap_or_default();
    let new = after.get(segment.after.clone()).unwrap_or_default();
    if segment.before.start == 0 && axis != 0 && before.first().is_some_and(|&n| n > 1) {
        return Err(Freeze::new("it merges the channels with the batch"));
    }
    let flat: AxisMap = spread(&map, old, axis - segment.before.start).into();
    if old.iter().product::<usize>() != new.iter().product::<usize>() {
        return Err(Freeze::new(
            "its output has another number of elements than its input",
        ));
    }
    let Some(target) = target_axis(walk, &flat, new) else {
        walk.freeze(&map, view.id, "it drops the axis of the channel");
        return Ok(());
    };
    let along = tie_along(walk, &flat, new, target)?;
    if let Some(slot) = made.get_mut(segment.after.start + target) {
        *slot = Some(along);
    }
    Ok(())
}

/// The atom of every element of a segment whose axis `tracked` has the atoms of `map`.
fn spread(map: &AxisMap, lengths: &[usize], tracked: usize) -> Vec<Atom> {
    let inner: usize = lengths
        .get(tracked + 1..)
        .unwrap_or_default()
        .iter()
        .product();
    let outer: usize = lengths.get(..tracked).unwrap_or_default().iter().product();
    let once: Vec<Atom> = map
        .iter()
        .flat_map(|&atom| std::iter::repeat_n(atom, inner))
        .collect();
    once.iter()
        .copied()
        .cycle()
        .take(once.len() * outer)
        .collect()
}

/// The output axis that carries the atoms: one along which nothing new is tied, else the one that
/// leaves the most channels apart.
///
/// A channel axis that is split in two (a shuffle's groups, an attention's heads) keeps a
/// rectangle only if whole indexes of one of the two leave; the longer one leaves more choice.
fn target_axis(walk: &Walk<'_>, flat: &AxisMap, lengths: &[usize]) -> Option<usize> {
    let with_first = |axis: usize| -> Vec<(Atom, Atom)> {
        let first = first_along(flat, lengths, axis);
        let firsts = index_along(lengths, axis, flat.len()).map(|i| first.get(i).copied());
        let pairs = firsts.zip(flat.iter());
        pairs.filter_map(|(a, &b)| Some((a?, b))).collect()
    };
    let free = (0..lengths.len()).find(|&axis| with_first(axis).iter().all(|(a, b)| a == b));
    free.or_else(|| {
        let left = |axis: usize| walk.classes_with(flat, with_first(axis).into_iter());
        (0..lengths.len()).max_by_key(|&axis| (left(axis), std::cmp::Reverse(axis)))
    })
}

/// Index along `axis` of each of `count` elements in row-major order.
fn index_along(lengths: &[usize], axis: usize, count: usize) -> impl Iterator<Item = usize> {
    let inner: usize = lengths.get(axis + 1..).unwrap_or_default().iter().product();
    let length = lengths.get(axis).copied().unwrap_or(1).max(1);
    (0..count).map(move |flat| flat / inner.max(1) % length)
}

/// The first atom at each index along `axis`.
fn first_along(flat: &[Atom], lengths: &[usize], axis: usize) -> Vec<Atom> {
    let inner: usize = lengths.get(axis + 1..).unwrap_or_default().iter().product();
    let length = lengths.get(axis).copied().unwrap_or(1);
    (0..length)
        .filter_map(|index| flat.get(index * inner).copied())
        .collect()
}

fn tie_along(
    walk: &mut Walk<'_>,
    flat: &AxisMap,
    lengths: &[usize],
    axis: usize,
) -> Result<AxisMap, Freeze> {
    let first = first_along(flat, lengths, axis);
    let spread: Option<Vec<Atom>> = index_along(lengths, axis, flat.len())
        .map(|index| first.get(index).copied())
        .collect();
    let spread: AxisMap = spread
        .ok_or_else(|| Freeze::new("its axes do not fit"))?
        .into();
    walk.tie(flat, &spread)?;
    Ok(first.into())
}

pub(super) struct Transpose;

impl Operator for Transpose {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let perm: Vec<usize> = match view.node.ints("perm") {
            Some(perm) => perm
                .iter()
                .filter_map(|&axis| usize::try_from(axis).ok())
                .collect(),
            None => (0..rank).rev().collect(),
        };
        let axes = perm.iter().map(|&axis| walk.axis(input, axis)).collect();
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_end_where_both_shapes_end() {
        let ranges = |found: Vec<Segment>| -> Vec<_> {
            found.into_iter().map(|s| (s.before, s.after)).collect()
        };
        assert_eq!(
            ranges(segments(&[2, 8, 3, 3], &[2, 72])),
            [(0..1, 0..1), (1..4, 1..2)]
        );
        assert_eq!(
            ranges(segments(&[2, 6, 4], &[2, 3, 2, 4])),
            [(0..1, 0..1), (1..2, 1..3), (2..3, 3..4)]
        );
        assert_eq!(
            ranges(segments(&[1, 8, 1, 1], &[1, 8])),
            [(0..1, 0..1), (1..2, 1..2), (2..3, 2..2), (3..4, 2..2)]
        );
    }
}
