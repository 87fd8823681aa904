//! The walk's view of lengths of axes as data: tensors of sizes, and counts computed from them.
//!
//! The length of a tracked axis is the same in every run, so what nodes compute from such lengths
//! and constants (half the channels, the root of their number) is a constant, too. Where a node reads
//! such a *count*, surgery puts a constant in its place, and entries of it that say how long a
//! tracked axis becomes follow that axis like those of any constant.

use crate::graph::{NodeView, ValueId};
use crate::groups::walk::{Axes, AxisMap, Reason, Size, Use, Walk};
use crate::ops::{self, Freeze, Operator};

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
                Size::Constant(origin, entry) => {
                    let known = self
                        .entries
                        .entry((origin, entry))
                        .or_insert(map.clone())
                        .clone();
                    self.tie_count(&known, map)?;
                }
                Size::Axis(source, axis) => match self.axis(source, axis) {
                    Some(other) if other.len() == map.len() => self.tie_count(&other, map)?,
                    _ => return Err(Freeze::new("its target shape depends on another tensor")),
                },
                Size::Count | Size::Other => {
                    return Err(Freeze::new(
                        "its target shape is computed in a way not followed",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Two axes must keep equal lengths: they do where they hold the same channels in any order;
    /// otherwise their channels are united.
    fn tie_count(&mut self, left: &AxisMap, right: &AxisMap) -> Result<(), Freeze> {
        let sorted = |map: &AxisMap| {
            let mut roots: Vec<_> = map.iter().map(|&atom| self.united.find(atom)).collect();
            roots.sort_unstable();
            roots
        };
        if sorted(left) == sorted(right) {
            return Ok(());
        }
        self.tie(left, right)
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
        let sizes = ops::sizes::flow(view, self);
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
                let counted = read.iter().flat_map(|&(_, value)| self.counts_of(value));
                let counted = counted.collect();
                self.counted.insert(output, counted);
            }
            self.sizes.insert(output, sizes);
        }
    }

    /// Whether all entries of a tensor of sizes are the same in every run.
    #[must_use]
    pub fn is_counted(&self, value: ValueId) -> bool {
        let is_fixed = |size: &Size| match *size {
            Size::Axis(source, axis) => self.axis(source, axis).is_some(),
            Size::Constant(..) | Size::Count => true,
            Size::Other => false,
        };
        self.graph.values[value].observed.is_some()
            && self
                .sizes(value)
                .is_some_and(|sizes| sizes.iter().all(is_fixed))
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
        let axes = sizes.filter_map(|size| match *size {
            Size::Axis(source, axis) => self.axis(source, axis),
            _ => None,
        });
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
}
