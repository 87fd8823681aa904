//! Reshape, Flatten, Squeeze and Unsqueeze: the same elements under other axes.

use crate::graph::{Freeze, NodeView};
use crate::groups::{
    Atom, Axes, AxisMap, Backward, Carried, Operator, Size, SplitId, Step, Told, Walk,
};
use crate::ops::backward::{reshaped, shape};
use crate::ops::layout::concat::entries_given;
use crate::ops::layout::expand::are_copies;
use crate::ops::storage::{in_place, shape_of};
use crate::ops::{Entry, sizes};

const CHANNELS: &str = "\
    channels follow the elements. Where an axis of channels is split (shuffle, attention heads), \
    whole indexes of one of the new axes leave together: heads where a product of two activations \
    stacks matrices along them (what is inside them with `--heads inside`), else an axis that nothing \
    further on freezes and that leaves the most channels apart; the target shape is rewritten. \
    Where heads are merged with what is inside them and the two come from different weights (one \
    head of values for all), heads leave and the inside stays";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["Reshape"],
        &Reshape {
            has_target: true,
            moves_sizes: true,
        },
        CHANNELS,
    ),
    Entry::standard(
        &["Flatten"],
        &Reshape {
            has_target: false,
            moves_sizes: false,
        },
        CHANNELS,
    ),
    Entry::standard(
        &["Squeeze", "Unsqueeze"],
        &Reshape {
            has_target: false,
            moves_sizes: true,
        },
        CHANNELS,
    ),
];

/// The slot of the shape that a Reshape makes.
const TARGET: usize = 1;

struct Reshape {
    has_target: bool,
    /// Whether it moves lengths of axes from one node to another.
    moves_sizes: bool,
}

impl Operator for Reshape {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (before, after) = (view.shape(input)?, view.output_shape()?);
        let mut made = vec![None; after.len()];
        if !walk.is_tracked(input) {
            return self.follow_target(view, walk, &[], &made);
        }
        if self.has_target && view.input(TARGET).is_none() {
            return Err(Freeze::new(
                "its shape is an attribute, as in opsets before 5",
            ));
        }
        let axes = walk.axes(input);
        for segment in segments(before, after) {
            carry(view, walk, &segment, &axes, (before, after), &mut made)?;
        }
        self.follow_target(view, walk, &axes, &made)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, made)
    }

    fn reads_sizes(&self) -> bool {
        true
    }

    fn computes_sizes(&self) -> bool {
        self.moves_sizes
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::passed(view, walk).filter(|_| self.moves_sizes)
    }

    fn opens(&self, view: NodeView<'_>, slot: usize, left: &mut usize) -> Option<i64> {
        if !self.has_target || slot != TARGET {
            return None;
        }
        let target = view.constant_or_count(TARGET)?.to_i64().ok()?;
        let given = entries_given(view.graph, view.input(TARGET)?, left)?;
        (!target.contains(&-1) && !given.contains(&-1)).then_some(-1)
    }

    fn target(&self) -> Option<usize> {
        self.has_target.then_some(TARGET)
    }

    fn stated_length(&self, view: NodeView<'_>, axis: usize) -> Option<(usize, usize)> {
        let target = view.constant(self.target()?)?.to_i64().ok()?;
        (*target.get(axis)? > 0).then_some((TARGET, axis))
    }

    fn keeps_elements(&self) -> bool {
        true
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        let input = shape_of(view, view.input(0)?)?;
        Some(Carried {
            slot: 0,
            axes: in_place(input, made),
            step: Step::Reshaped,
        })
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let found = reshaped(back, back.output()?, shape(view, 0)?)?;
        back.give(0, found);
        Some(())
    }

    fn told(&self, _: NodeView<'_>, slot: usize) -> Told {
        Told::unchanged(slot)
    }
}

impl Reshape {
    /// Reshape's target, whose entry 0 stands for the input's axis of that index and whose -1
    /// stands for what is left.
    fn follow_target(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
        axes: &[Option<AxisMap>],
        made: &Axes,
    ) -> Result<(), Freeze> {
        if !self.has_target || view.input(TARGET).is_none() {
            return Ok(());
        }
        let copied = |index: usize| axes.get(index).cloned().flatten();
        for (index, map) in made.iter().enumerate() {
            let is_zero = walk.constant_size((view.id, TARGET), index) == Some(0);
            if let (true, None, Some(source)) = (is_zero, map, copied(index)) {
                let text = "it gives a tensor that is not pruned the same length";
                walk.freeze(&source, view.id, text);
            }
        }
        walk.follow_sizes((view.id, TARGET), made, |index, entry| match entry {
            0 => copied(index) == made.get(index).cloned().flatten(),
            entry => entry == -1,
        })
    }
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
    (before, after): (&[usize], &[usize]),
    made: &mut Axes,
) -> Result<(), Freeze> {
    let old = before.get(segment.before.clone()).unwrap_or_default();
    let new = after.get(segment.after.clone()).unwrap_or_default();
    let maps = axes.get(segment.before.clone()).unwrap_or_default();
    let maps = &maps.to_vec();
    let at = (view.id, segment.before.start);
    let Some((axis, map)) = carried(view, walk, at, maps) else {
        return Ok(());
    };
    let merges = maps.iter().flatten().count() > 1;
    if old.iter().product::<usize>() != new.iter().product::<usize>() {
        return Err(Freeze::new(
            "its output has another number of elements than its input",
        ));
    }
    let flat = match (merges, axis) {
        (false, Some(axis)) => spread(map, old, axis).into(),
        (true, Some(axis)) => {
            for other in maps.iter().flatten().filter(|other| *other != map) {
                walk.freeze(other, view.id, MERGES);
            }
            spread(map, old, axis).into()
        }
        _ if !walk.is_exploring() => return Err(Freeze::new(MERGES)),
        _ => match walk.explore(view.id, old.iter().product()) {
            Some(flat) => flat,
            None => return Ok(()),
        },
    };
    let part = |lengths: &[usize]| lengths.iter().skip(1).product::<usize>().max(1);
    // Where rows of the output hold parts of several samples, their place depends on the batch.
    if segment.before.start == 0
        && axis != Some(0)
        && before.first().is_some_and(|&n| n > 1)
        && !part(old).is_multiple_of(part(new))
    {
        return Err(Freeze::new("it merges the channels with the batch"));
    }
    let carried = walk.split((view.id, segment.after.start), &flat, new)?;
    if carried.is_empty() {
        walk.freeze(map, view.id, "it drops the axis of the channel");
    }
    for (slot, map) in made.iter_mut().skip(segment.after.start).zip(carried) {
        *slot = map;
    }
    Ok(())
}

/// The first axis with channels, and its place where these go on: it is the only one, the others
/// hold copies that an Expand made, or it has heads and the others what is inside them.
fn carried<'m>(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    at: SplitId,
    maps: &'m Axes,
) -> Option<(Option<usize>, &'m AxisMap)> {
    let tracked = maps.iter().enumerate();
    let tracked: Vec<(usize, &AxisMap)> = tracked
        .filter_map(|(axis, map)| Some((axis, map.as_ref()?)))
        .collect();
    let &(_, first) = tracked.first()?;
    let are_own = |(_, map): &&(usize, &AxisMap)| !are_copies(view.graph, walk, map);
    let own: Vec<_> = tracked.iter().filter(are_own).collect();
    match (own.as_slice(), tracked.as_slice()) {
        (&[&(axis, map)], _) | (&[], &[(axis, map)]) => Some((Some(axis), map)),
        _ => {
            let chosen = walk.merge(at, maps);
            let place = chosen.and_then(|axis| Some((axis, maps.get(axis)?.as_ref()?)));
            Some(place.map_or((None, first), |(axis, map)| (Some(axis), map)))
        }
    }
}

const MERGES: &str = "it merges two axes of channels";

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
