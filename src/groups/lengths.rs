//! The walk's view of lengths of axes as data: tensors of sizes, and counts computed from them.
//!
//! The length of a tracked axis is the same in every run, so what nodes compute from such lengths
//! and constants (half the channels, the root of their number) is a constant, too. Where a node
//! reads such a *count*, surgery puts a constant in its place, and entries of it that say how long
//! a tracked axis becomes follow that axis like those of any constant.

use std::collections::BTreeSet;

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::walk::{Reason, Walk};
use crate::groups::{Axes, AxisMap, Operator, Use};

/// What an entry of a tensor of sizes stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// The entry at an index of a constant in an input slot of a node.
    Constant(Use, usize),
    /// The length of an axis of a value, read while the model runs.
    Axis(ValueId, usize),
    /// The constant in an input slot times something.
    Product(Use, Box<Size>),
    /// Something that an input slot reads alone, so that a constant can take its place.
    Seat(Use, Box<Size>),
    /// A number that follows from channel counts and constants: the same in every run of the model
    /// as it is, whatever the shapes of its inputs.
    Count,
    /// Anything else.
    Other,
}

/// Lists of sizes are as long as tensors have axes, and products as deep as exporters nest them.
/// What is longer or deeper is not followed: lists that each node makes longer by one take the
/// square of their number.
const MOST_SIZES: usize = 64;
const MOST_FACTORS: usize = 8;
/// The axes that one number counts.
const MOST_COUNTED: usize = 64;

impl Size {
    fn depth(&self) -> usize {
        match self {
            Size::Product(_, inner) | Size::Seat(_, inner) => inner.depth() + 1,
            Size::Constant(..) | Size::Axis(..) | Size::Count | Size::Other => 0,
        }
    }
}

fn is_endless(sizes: &[Size]) -> bool {
    sizes.len() > MOST_SIZES || sizes.iter().any(|size| size.depth() > MOST_FACTORS)
}

impl Walk<'_> {
    /// What the entries of a tensor of sizes stand for, where that is known.
    #[must_use]
    pub fn sizes(&self, value: ValueId) -> Option<&[Size]> {
        self.sizes.get(&value).map(Vec::as_slice)
    }

    /// Says that output axes get their lengths from the tensor of sizes in an input slot, so that
    /// its entries follow the atoms; `is_special` tells by index and entry which ones follow by
    /// themselves (0 and -1 in a Reshape). Lengths of axes that are not tracked must not change.
    ///
    /// # Errors
    /// An entry of a tracked axis comes from something that cannot be followed.
    pub fn follow_sizes(
        &mut self,
        at: Use,
        axes: &Axes,
        is_special: impl Fn(usize, i64) -> bool,
    ) -> Result<(), Freeze> {
        for (index, map) in axes.iter().enumerate() {
            let size = self.size(at, index)?;
            let Some(map) = map else {
                self.keep_size(at, &size);
                continue;
            };
            match size {
                Size::Constant(origin, entry)
                    if self
                        .entry(origin, entry)
                        .is_some_and(|int| is_special(index, int)) => {}
                size => self.follow_size(&size, map)?,
            }
        }
        Ok(())
    }

    /// One entry that is the length of a tracked axis.
    fn follow_size(&mut self, size: &Size, map: &AxisMap) -> Result<(), Freeze> {
        match size {
            Size::Constant(origin, entry) => self.count_in(*origin, *entry, map),
            Size::Axis(source, axis) => match self.axis(*source, *axis) {
                Some(other) if other.len() == map.len() => self.tie_count(&other, map),
                _ => Err(Freeze::new("its target shape depends on another tensor")),
            },
            Size::Product(at, _) => {
                let part = self.entry(*at, 0).and_then(|int| usize::try_from(int).ok());
                match part.filter(|&part| is_periodic(map, part)) {
                    Some(part) => self.count_in(*at, 0, &map.iter().take(part).copied().collect()),
                    None => Err(Freeze::new(
                        "its target shape is computed in a way not followed",
                    )),
                }
            }
            Size::Seat(seat, inner) => {
                let source = match **inner {
                    Size::Axis(source, axis) => self.axis(source, axis),
                    _ => None,
                };
                if source
                    .as_ref()
                    .is_some_and(|other| self.is_alike(other, map))
                {
                    return Ok(());
                }
                if matches!(**inner, Size::Product(..)) && self.follow_size(inner, map).is_ok() {
                    return Ok(());
                }
                let grows = source.as_ref().is_none_or(|other| self.may_grow(other));
                if self.may_grow(map) && grows {
                    return self.follow_size(inner, map);
                }
                self.count_in(*seat, 0, map)?;
                // The number is as wrong where channels of the other axis alone leave.
                self.counts.entry(*seat).or_default().extend(source);
                Ok(())
            }
            Size::Count | Size::Other => Err(Freeze::new(
                "its target shape is computed in a way not followed",
            )),
        }
    }

    /// The entry of what an input slot reads is the number of channels of `map` that stay.
    fn count_in(&mut self, at: Use, index: usize, map: &AxisMap) -> Result<(), Freeze> {
        let known = self.entries.entry((at, index)).or_insert(map.clone());
        let known = known.clone();
        if self.is_alike(&known, map) {
            return Ok(());
        }
        // Tensors of their own that share a target, such as the layers of an exporter that stores
        // equal shapes once, each keep their length if the entry may leave it open.
        let of_node = ((at.0, 0), 0)..=((at.0, usize::MAX), usize::MAX);
        let mut opened = self.open.range(of_node);
        let is_alone = opened.all(|((other, _), _)| *other == at);
        match self.operator(at.0).open_entry(self.graph.view(at.0)) {
            Some(open) if is_alone => {
                let (_, maps) = self.open.entry((at, index)).or_insert((open, vec![known]));
                maps.push(map.clone());
                Ok(())
            }
            _ => self.tie(&known, map),
        }
    }

    /// Whether every sample's channels may lie along the axis, so that it grows with the batch.
    fn may_grow(&self, map: &AxisMap) -> bool {
        self.samples > 1
            && map.len().is_multiple_of(self.samples)
            && is_periodic(map, map.len() / self.samples)
    }

    /// Two axes must keep equal lengths: they do where they are alike; otherwise their channels are
    /// united.
    fn tie_count(&mut self, left: &AxisMap, right: &AxisMap) -> Result<(), Freeze> {
        if self.is_alike(left, right) {
            return Ok(());
        }
        self.tie(left, right)
    }

    /// Whether two axes hold the same channels in any order.
    fn is_alike(&self, left: &AxisMap, right: &AxisMap) -> bool {
        let sorted = |map: &AxisMap| {
            let mut roots: Vec<_> = map.iter().map(|&atom| self.united.find(atom)).collect();
            roots.sort_unstable();
            roots
        };
        left.len() == right.len() && sorted(left) == sorted(right)
    }

    /// The integer at an index of the tensor of sizes in an input slot, where it is constant.
    #[must_use]
    pub fn constant_size(&self, at: Use, index: usize) -> Option<i64> {
        match self.size(at, index).ok()? {
            Size::Constant(origin, entry) => self.entry(origin, entry),
            _ => None,
        }
    }

    /// What an entry of the tensor of sizes in an input slot stands for.
    fn size(&self, at: Use, index: usize) -> Result<Size, Freeze> {
        let view = self.graph.view(at.0);
        if view.constant(at.1).is_some() {
            return Ok(Size::Constant(at, index));
        }
        let sizes = self.sizes(view.need(at.1)?);
        let size = sizes.and_then(|sizes| sizes.get(index)).cloned();
        Ok(match size {
            // The node reads a constant in its place (see `follow_counts`).
            Some(Size::Count) => Size::Constant(at, index),
            size => size.unwrap_or(Size::Other),
        })
    }

    /// The node makes an axis of this length that is not tracked.
    fn keep_size(&mut self, at: Use, size: &Size) {
        let is_own = matches!(size, Size::Constant(origin, _) if *origin == at);
        if !is_own {
            let reason = Reason {
                node: Some(at.0),
                text: "it gives a tensor that is not pruned the same length".to_owned(),
            };
            self.hold_size(size, &reason);
        }
    }

    /// The integer at an index of a constant or count that a node reads.
    fn entry(&self, at: Use, index: usize) -> Option<i64> {
        self.graph
            .view(at.0)
            .constant_or_count(at.1)?
            .to_i64()
            .ok()?
            .get(index)
            .copied()
    }

    /// Passes on what the node does with lengths of axes.
    pub(super) fn follow_counts(&mut self, view: NodeView<'_>, operator: &dyn Operator) {
        let inputs = view.node.inputs.iter().enumerate();
        let read: Vec<(usize, ValueId)> = inputs
            .filter_map(|(slot, value)| Some((slot, (*value)?)))
            .filter(|(_, value)| self.sizes.contains_key(value))
            .collect();
        let mut sizes = operator.sizes(view, self);
        if sizes.as_ref().is_some_and(|sizes| is_endless(sizes)) {
            read.iter()
                .for_each(|&(_, value)| self.freeze_sizes(view, value));
            sizes = None;
        }
        let is_moved = sizes.as_ref().is_some_and(|s| s.contains(&Size::Count));
        for &(slot, value) in read.iter().filter(|_| !is_moved) {
            let is_computed = self
                .sizes(value)
                .is_some_and(|sizes| sizes.contains(&Size::Count));
            let is_data = sizes.is_none() && !operator.reads_sizes();
            if (is_computed || is_data) && self.is_counted(value) {
                let counted = self.counts_of(value);
                self.counts.insert((view.id, slot), counted);
            } else if is_data {
                self.freeze_sizes(view, value);
            }
        }
        if let (Some(sizes), Some(output)) = (sizes, view.output(0)) {
            if sizes.contains(&Size::Count) {
                let mut counted: Vec<AxisMap> = Vec::new();
                let mut seen = BTreeSet::new();
                for map in read.iter().flat_map(|&(_, value)| self.counts_of(value)) {
                    if seen.insert(map.clone()) {
                        counted.push(map);
                    }
                }
                if counted.len() > MOST_COUNTED {
                    let reason = Reason::of(view.id, "it computes with the lengths of many axes");
                    counted.iter().for_each(|map| self.hold_map(map, &reason));
                    counted.clear();
                }
                self.counted.insert(output, counted);
            }
            self.sizes.insert(output, sizes);
        }
    }

    /// Whether all entries of a tensor of sizes are the same in every run.
    #[must_use]
    pub fn is_counted(&self, value: ValueId) -> bool {
        self.graph.values[value].observed.is_some()
            && self
                .sizes(value)
                .is_some_and(|sizes| sizes.iter().all(|size| self.is_fixed(size)))
    }

    fn is_fixed(&self, size: &Size) -> bool {
        match size {
            Size::Axis(source, axis) => {
                let map = self.axis(*source, *axis);
                map.is_some_and(|map| !self.may_grow(&map))
            }
            Size::Constant(..) | Size::Count => true,
            Size::Product(_, inner) | Size::Seat(_, inner) => self.is_fixed(inner),
            Size::Other => false,
        }
    }

    /// Integers of a list that is an attribute in older opsets and an input in newer ones, where
    /// they are the same in every run.
    ///
    /// # Errors
    /// They are computed from something else.
    pub fn ints(
        &self,
        view: NodeView<'_>,
        attribute: &str,
        slot: usize,
    ) -> Result<Option<Vec<i64>>, Freeze> {
        match (view.input(slot), view.constant_or_count(slot)) {
            (Some(value), Some(tensor)) if self.is_counted(value) => match tensor.to_i64() {
                Ok(ints) => Ok(Some(ints)),
                Err(error) => Err(Freeze::new(error.to_string())),
            },
            _ => view.ints(attribute, slot),
        }
    }

    /// The atoms that a tensor of sizes counts.
    fn counts_of(&self, value: ValueId) -> Vec<AxisMap> {
        let sizes = self.sizes(value).unwrap_or_default().iter();
        let axes = sizes.filter_map(|size| self.axis_counted(size));
        let counted = self.counted.get(&value).cloned().unwrap_or_default();
        axes.chain(counted).collect()
    }

    /// A node that is not known to use sizes as sizes must see the lengths that it always saw.
    fn freeze_sizes(&mut self, view: NodeView<'_>, value: ValueId) {
        let reason = Reason {
            node: Some(view.id),
            text: "it computes with the channel count".to_owned(),
        };
        for size in self.sizes.get(&value).cloned().unwrap_or_default() {
            self.hold_size(&size, &reason);
        }
        for map in self.counted.get(&value).cloned().unwrap_or_default() {
            self.hold_map(&map, &reason);
        }
    }

    fn axis_counted(&self, size: &Size) -> Option<AxisMap> {
        match size {
            Size::Axis(source, axis) => self.axis(*source, *axis),
            Size::Product(_, inner) | Size::Seat(_, inner) => self.axis_counted(inner),
            _ => None,
        }
    }

    pub(super) fn hold_size(&mut self, size: &Size, reason: &Reason) {
        match size {
            Size::Axis(source, axis) => {
                if let Some(map) = self.axis(*source, *axis) {
                    self.hold_map(&map, reason);
                }
            }
            Size::Constant(at, index) => self.pinned.push(((*at, *index), reason.clone())),
            Size::Product(at, inner) | Size::Seat(at, inner) => {
                self.pinned.push(((*at, 0), reason.clone()));
                self.hold_size(inner, reason);
            }
            Size::Count | Size::Other => {}
        }
    }
}

/// Whether the map is the same `part` atoms over and over.
fn is_periodic(map: &AxisMap, part: usize) -> bool {
    part > 0
        && map.len().is_multiple_of(part)
        && map.iter().zip(map.iter().skip(part)).all(|(a, b)| a == b)
}
