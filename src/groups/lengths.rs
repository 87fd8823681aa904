//! Lengths of axes as data: what the entries of a tensor of sizes stand for, and how they follow
//! the channels that leave.

use crate::graph::{NodeView, ValueId};
use crate::groups::walk::{Axes, AxisMap, Reason, Use, Walk};
use crate::ops::{self, Freeze};

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
    /// Anything else.
    Other,
}

impl<'a> Walk<'a> {
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
                Some(other) if other.len() == map.len() => self.tie(&other, map),
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
                    .is_some_and(|other| self.is_same(other, map))
                {
                    return Ok(());
                }
                if matches!(**inner, Size::Product(..)) && self.follow_size(inner, map).is_ok() {
                    return Ok(());
                }
                if self.may_grow(map) && source.is_none_or(|other| self.may_grow(&other)) {
                    return self.follow_size(inner, map);
                }
                self.count_in(*seat, 0, map)
            }
            Size::Other => Err(Freeze::new(
                "its target shape is computed in a way not followed",
            )),
        }
    }

    /// The entry of what an input slot reads is the number of channels of `map` that stay.
    fn count_in(&mut self, at: Use, index: usize, map: &AxisMap) -> Result<(), Freeze> {
        let known = self.entries.entry((at, index)).or_insert(map.clone());
        let known = known.clone();
        if self.is_same(&known, map) {
            return Ok(());
        }
        // Tensors of their own that share a target, such as the layers of an exporter that stores
        // equal shapes once, each keep their length if the entry may leave it open.
        let is_alone = self
            .open
            .keys()
            .all(|(other, _)| other.0 != at.0 || *other == at);
        match ops::sizes::open_entry(self.graph, at.0) {
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

    fn is_same(&self, left: &AxisMap, right: &AxisMap) -> bool {
        let root = |&atom: &u32| self.united.find(atom);
        left.len() == right.len() && left.iter().map(root).eq(right.iter().map(root))
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
        Ok(size.unwrap_or(Size::Other))
    }

    /// The node makes an axis of this length that is not tracked.
    fn keep_size(&mut self, at: Use, size: &Size) {
        let is_own = matches!(size, Size::Constant(origin, _) if *origin == at);
        if !is_own {
            let text = "it gives a tensor that is not pruned the same length";
            self.hold_size(size, &Reason::of(at.0, text));
        }
    }

    /// The integer at an index of a constant that a node reads.
    fn entry(&self, at: Use, index: usize) -> Option<i64> {
        let view = self.graph.view(at.0);
        let ints = view.constant(at.1)?.to_i64().ok()?;
        ints.get(index).copied()
    }

    /// A node that is not known to use sizes as sizes must see the lengths that it always saw:
    /// they are written down for it where weights alone decide them, and stay otherwise.
    pub(super) fn settle_sizes(&mut self, view: NodeView<'_>, text: &str) {
        for (slot, value) in view.node.inputs.iter().enumerate() {
            let Some(sizes) = value.and_then(|value| self.sizes.get(&value)).cloned() else {
                continue;
            };
            if sizes.iter().all(|size| self.is_settled(size)) {
                self.settled.insert((view.id, slot), sizes);
                continue;
            }
            for size in &sizes {
                self.hold_size(size, &Reason::of(view.id, text));
            }
        }
    }

    /// Whether nothing but weights decides the entry.
    fn is_settled(&self, size: &Size) -> bool {
        match size {
            Size::Constant(..) => true,
            Size::Axis(value, axis) => {
                let map = self.axis(*value, *axis);
                map.is_some_and(|map| !self.may_grow(&map))
            }
            Size::Product(_, inner) | Size::Seat(_, inner) => self.is_settled(inner),
            Size::Other => false,
        }
    }

    /// The channels that an entry counts.
    pub(super) fn counted(&self, size: &Size) -> Vec<u32> {
        match size {
            Size::Axis(value, axis) => self.axis(*value, *axis).map_or(Vec::new(), |m| m.to_vec()),
            Size::Constant(at, index) => {
                let known = self.entries.get(&(*at, *index));
                known.map_or(Vec::new(), |map| map.to_vec())
            }
            Size::Product(at, inner) | Size::Seat(at, inner) => {
                let mut counted = self.counted(inner);
                counted.extend(self.counted(&Size::Constant(*at, 0)));
                counted
            }
            Size::Other => Vec::new(),
        }
    }

    pub(super) fn hold_size(&mut self, size: &Size, reason: &Reason) {
        match size {
            Size::Axis(source, axis) => {
                if let Some(map) = self.axis(*source, *axis) {
                    self.hold(&map, reason.clone());
                }
            }
            Size::Constant(at, index) => self.pinned.push(((*at, *index), reason.clone())),
            Size::Product(at, inner) | Size::Seat(at, inner) => {
                self.pinned.push(((*at, 0), reason.clone()));
                self.hold_size(inner, reason);
            }
            Size::Other => {}
        }
    }
}

/// Whether the map is the same `part` atoms over and over.
fn is_periodic(map: &AxisMap, part: usize) -> bool {
    part > 0
        && map.len().is_multiple_of(part)
        && map.iter().zip(map.iter().skip(part)).all(|(a, b)| a == b)
}
