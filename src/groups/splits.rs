//! Axes of channels that a node cuts in several: which of the new axes carries the channels on.
//!
//! What is left must be a rectangle, so whole indexes of one of the new axes leave together (a
//! column of a shuffle, an attention's head). Which axis serves best shows only further down the
//! graph. So the graph is walked twice: first with every new axis tracked on its own, to see where
//! it leads, then with the choice made.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Freeze, NodeId};
use crate::groups::{Atom, Axes, AxisMap, Heads, Walk};

/// A split: the node and the first of the output axes that share the channels.
pub type SplitId = (NodeId, usize);

/// What a product of two activations does along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It works on each index alone: an attention's heads.
    Stack,
    /// The axis is one of the matrices': the inner axis of a head.
    Matrix,
}

/// What is known of the splits of a graph.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// Whether this walk looks where the new axes lead.
    pub exploring: bool,
    /// Whether it met anything that only the next walk decides: its atoms stand for no channels
    /// then.
    pub is_open: bool,
    /// The choices of the walk before.
    pub chosen: Choices,
    pub seen: Vec<(SplitId, Axes)>,
    /// Axes of channels that become one: the node, the first of them, and all.
    pub merged: Vec<(SplitId, Axes)>,
    pub roles: Vec<(AxisMap, Role)>,
}

/// What a walk that explored found best.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// Per split, the places of axes that serve equally well.
    pub splits: BTreeMap<SplitId, Vec<usize>>,
    /// Per node and first of the axes that become one, the place of the one that goes on.
    pub merges: BTreeMap<SplitId, usize>,
}

/// No more elements than this are looked at one by one where nothing is decided.
const MOST_EXPLORED: usize = 1 << 20;

impl Walk<'_> {
    /// Whether choices are still open: what this walk finds counts for nothing else.
    #[must_use]
    pub fn is_exploring(&self) -> bool {
        self.splits.exploring
    }

    /// Says what a product of two activations does along an axis.
    pub fn see(&mut self, map: &AxisMap, role: Role) {
        self.splits.roles.push((map.clone(), role));
    }

    /// Lays the atoms of consecutive elements along new axes of these lengths.
    ///
    /// # Errors
    /// The lengths do not fit the elements.
    pub fn split(&mut self, at: SplitId, flat: &[Atom], lengths: &[usize]) -> Result<Axes, Freeze> {
        let mut axes = vec![None; lengths.len()];
        if let Some(free) = free_axis(flat, lengths) {
            axes[free] = Some(first_along(flat, lengths, free).into());
            return Ok(axes);
        }
        if self.splits.exploring {
            self.splits.is_open = true;
            if flat.len() <= MOST_EXPLORED {
                for (axis, &length) in lengths.iter().enumerate() {
                    if length > 1 {
                        axes[axis] = Some(self.along(at.0, flat, lengths, axis));
                    }
                }
                self.splits.seen.push((at, axes.clone()));
            }
            return Ok(axes);
        }
        let chosen = self
            .splits
            .chosen
            .splits
            .get(&at)
            .cloned()
            .unwrap_or_default();
        let left = |axis: usize| self.classes_with(&flat.into(), with_first(flat, lengths, axis));
        // A chosen axis, unless it leaves one channel only; then that with the most channels.
        let best = (0..lengths.len()).max_by_key(|&axis| {
            let left = left(axis);
            let is_chosen = chosen.contains(&axis) && left > 1;
            (is_chosen, left, std::cmp::Reverse(axis))
        });
        let Some(axis) = best else {
            return Ok(axes);
        };
        let map = self.tie_along(flat, lengths, axis)?;
        if let Some(slot) = axes.get_mut(axis) {
            *slot = Some(map);
        }
        Ok(axes)
    }

    /// Which of several axes of channels that become one goes on: the only one with the wanted part
    /// in a product of activations, as heads beside what is inside them.
    #[must_use]
    pub fn merge(&mut self, at: SplitId, axes: &Axes) -> Option<usize> {
        if self.splits.exploring {
            self.splits.is_open = true;
            self.splits.merged.push((at, axes.clone()));
            return None;
        }
        self.splits.chosen.merges.get(&at).copied()
    }

    /// New atoms for elements that two axes of channels share, where nothing is decided yet.
    #[must_use]
    pub fn explore(&mut self, node: NodeId, length: usize) -> Option<AxisMap> {
        self.splits.is_open = true;
        (self.splits.exploring && length <= MOST_EXPLORED).then(|| self.fresh(node, length))
    }

    /// New atoms along one axis of these elements, the same where an index has the same elements
    /// again, as where the samples of a batch lie along the axis.
    fn along(&mut self, node: NodeId, flat: &[Atom], lengths: &[usize], axis: usize) -> AxisMap {
        let length = lengths.get(axis).copied().unwrap_or(0);
        let mut parts = vec![Vec::new(); length];
        for (index, &atom) in index_along(lengths, axis, flat.len()).zip(flat) {
            if let Some(part) = parts.get_mut(index) {
                part.push(atom);
            }
        }
        let made = self.fresh(node, length);
        let mut known = BTreeMap::new();
        let parts = parts.into_iter().zip(made.iter());
        parts
            .map(|(part, &atom)| *known.entry(part).or_insert(atom))
            .collect()
    }

    fn tie_along(
        &mut self,
        flat: &[Atom],
        lengths: &[usize],
        axis: usize,
    ) -> Result<AxisMap, Freeze> {
        let first = first_along(flat, lengths, axis);
        let spread: Option<Vec<Atom>> = index_along(lengths, axis, flat.len())
            .map(|index| first.get(index).copied())
            .collect();
        let spread = spread.ok_or_else(|| Freeze::new("its axes do not fit"))?;
        self.tie(&flat.into(), &spread.into())?;
        Ok(first.into())
    }

    /// The axes of each split that serve best: those with the wanted part in a product of
    /// activations, else those that nothing freezes.
    pub(super) fn choices(&self) -> Choices {
        let wanted = if self.scope.heads == Heads::Inside {
            Role::Matrix
        } else {
            Role::Stack
        };
        let root = |atom: &Atom| self.united.find(*atom);
        let with_role = self.splits.roles.iter().filter(|(_, role)| *role == wanted);
        let fitting: BTreeSet<Atom> = with_role
            .flat_map(|(map, _)| map.iter().map(root))
            .collect();
        let frozen: BTreeSet<Atom> = self.frozen.iter().map(|(atom, _)| root(atom)).collect();
        let has = |set: &BTreeSet<Atom>, map: &AxisMap| map.iter().any(|a| set.contains(&root(a)));
        let choose = |(id, axes): &(SplitId, Axes)| {
            let worth = |map: &AxisMap| (has(&fitting, map), !has(&frozen, map));
            let maps = axes.iter().enumerate();
            let maps = maps.filter_map(|(axis, map)| Some((axis, worth(map.as_ref()?))));
            let maps: Vec<(usize, (bool, bool))> = maps.collect();
            let best = maps.iter().map(|(_, worth)| *worth).max()?;
            let best = maps.iter().filter(|(_, worth)| *worth == best);
            Some((*id, best.map(|(axis, _)| *axis).collect()))
        };
        let keep = |(id, axes): &(SplitId, Axes)| {
            let maps = axes.iter().enumerate();
            let mut fit = maps.filter(|(_, map)| map.as_ref().is_some_and(|m| has(&fitting, m)));
            let (axis, _) = fit.next()?;
            fit.next().is_none().then_some((*id, axis))
        };
        Choices {
            splits: self.splits.seen.iter().filter_map(choose).collect(),
            merges: self.splits.merged.iter().filter_map(keep).collect(),
        }
    }
}

/// Every element with the first one of its index along `axis`.
fn with_first<'a>(
    flat: &'a [Atom],
    lengths: &'a [usize],
    axis: usize,
) -> impl Iterator<Item = (Atom, Atom)> + 'a {
    let first = first_along(flat, lengths, axis);
    let pairs = index_along(lengths, axis, flat.len()).zip(flat);
    pairs.filter_map(move |(index, &atom)| Some((*first.get(index)?, atom)))
}

/// The axis along which nothing new is tied, if there is one.
fn free_axis(flat: &[Atom], lengths: &[usize]) -> Option<usize> {
    (0..lengths.len()).find(|&axis| {
        let first = first_along(flat, lengths, axis);
        index_along(lengths, axis, flat.len())
            .zip(flat)
            .all(|(i, atom)| first.get(i) == Some(atom))
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
