//! Channels inside an attention's heads, in a basis of each head's own.
//!
//! A channel inside the heads is one index of all heads, but no head's channels meet those of
//! another one. So each head may have another basis, as long as whatever meets in it has the same:
//! its queries and keys, or its values and the inputs of the projection that reads them. Which
//! positions of the weights these are shows by following them: nodes that move elements, add
//! constants or multiply stacks of matrices carry positions along, and anything else rules it out.

use std::collections::{BTreeMap, BTreeSet};

use crate::combine::linear::{data_readers, is_own, is_zero};
use crate::combine::places::Places;
use crate::combine::positions::Positions;
use crate::graph::{Graph, GroupId, NodeId, Table, ValueId};
use crate::groups::{Alike, Consumer, Group, Groups, Step, Taken};
use crate::ops;

/// Where the channels of one head lie.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Constants, the axis, and the first of as many positions as there are channels.
    pub parts: Vec<(ValueId, usize, usize)>,
    /// Consumers that read them, and which of the matrices of a stack does, or else where among its
    /// inputs they begin.
    pub readers: Vec<(usize, usize)>,
}

/// The groups whose heads may be turned, with these.
pub(super) fn find(
    graph: &Graph,
    groups: &Groups,
    places: &Table<GroupId, Places>,
) -> BTreeMap<GroupId, Vec<Head>> {
    let all = groups.groups.entries().zip(places);
    let found = all.filter_map(|((index, group), places)| {
        let is_free = group.frozen.is_empty() && group.channels.len() > 1;
        if !is_free || places.is_twice || group.consumers.is_empty() {
            return None;
        }
        let follower = Follower {
            graph,
            groups,
            group,
            places,
            positions: BTreeMap::new(),
            heads: Vec::new(),
            met: Vec::new(),
            followed: BTreeSet::new(),
        };
        Some((index, follower.heads()?))
    });
    found.collect()
}

/// Follows the channels of one group from the weights that make them to those that read them.
struct Follower<'a> {
    graph: &'a Graph,
    groups: &'a Groups,
    group: &'a Group,
    places: &'a Places,
    /// Per value, the node that makes it and the positions along what that makes.
    positions: BTreeMap<ValueId, (NodeId, Positions)>,
    /// By the node that makes it and its first position, one head each.
    heads: Vec<((NodeId, usize), Head)>,
    /// Pairs of heads that meet in a product.
    met: Vec<(usize, usize)>,
    /// The constants that were come across, by their uses.
    followed: BTreeSet<(NodeId, usize)>,
}

impl Follower<'_> {
    fn heads(mut self) -> Option<Vec<Head>> {
        let mut nodes = BTreeSet::new();
        for &id in self.places.values.keys() {
            let value = self.graph.values.get(id)?;
            if value.is_output || value.is_captured {
                return None;
            }
            nodes.insert(value.producer?);
            nodes.extend(data_readers(self.graph, value).map(|&(node, _)| node));
        }
        for node in nodes {
            self.follow(node)?;
        }
        let is_all = self.places.uses.keys().all(|at| self.followed.contains(at));
        is_all.then(|| self.met_as_one())
    }

    fn follow(&mut self, node: NodeId) -> Option<()> {
        let view = self.graph.view(node);
        let holds =
            |value: &Option<ValueId>| value.is_some_and(|v| self.places.values.contains_key(&v));
        let inputs = &view.node.inputs;
        let reads: Vec<usize> = (0..inputs.len())
            .filter(|&slot| holds(&inputs[slot]))
            .collect();
        let makes = view.node.outputs.iter().any(holds);
        match (ops::alike(view), reads.as_slice(), makes) {
            (Some(Alike::Weighs(_)), [], true) => self.made(node),
            (Some(Alike::Weighs(weight)), &[slot], false) => self.read(node, weight, slot),
            (Some(Alike::Multiplies), [_, _], false) => self.meet(node),
            (Some(Alike::Multiplies), [1], true) => {
                // Columns: along an axis of stacks each matrix has a factor of its own.
                let value = view.input(1)?;
                let axis = *self.places.values.get(&value)?;
                let rank = view.shape(value).ok()?.len();
                let (maker, positions) = self.of(node, 1).filter(|_| axis + 1 == rank)?;
                let made = positions.multiplied(view.output_shape().ok()?)?;
                self.carry(node, maker, made)
            }
            (_, &[slot], true) => self.moved(node, slot),
            _ => None,
        }
    }

    /// The positions of what a node reads in a slot.
    fn of(&self, node: NodeId, slot: usize) -> Option<(NodeId, Positions)> {
        let value = self.graph.view(node).input(slot)?;
        self.positions.get(&value).cloned()
    }

    fn carry(&mut self, node: NodeId, maker: NodeId, positions: Positions) -> Option<()> {
        let made = self.graph.view(node).output(0)?;
        self.positions.insert(made, (maker, positions));
        Some(())
    }

    /// What each output takes of an axis.
    fn take(&mut self, node: NodeId, taken: &[Taken]) -> Option<()> {
        let (maker, positions) = self.of(node, 0)?;
        let outputs = &self.graph.view(node).node.outputs;
        for (output, &taken) in outputs.iter().zip(taken) {
            let part = positions.taken(taken)?;
            self.positions.insert((*output)?, (maker, part));
        }
        Some(())
    }

    /// A weight makes the channels, with all that it adds to them.
    fn made(&mut self, node: NodeId) -> Option<()> {
        let view = self.graph.view(node);
        let output = view.output(0)?;
        let axis = *self.places.values.get(&output)?;
        let map = self.groups.values.get(output)?.get(axis)?.as_ref()?;
        let starts = self.starts(map)?;
        for &first in &starts {
            self.heads.push(((node, first), Head::default()));
        }
        let positions = Positions::made(view.output_shape().ok()?, axis);
        let constants = (0..view.node.inputs.len()).filter(|&slot| view.constant(slot).is_some());
        for slot in constants {
            let own: Vec<usize> = (0..map.len()).collect();
            self.constant((node, slot), node, &own)?;
        }
        self.carry(node, node, positions)
    }

    /// A weight reads them.
    fn read(&mut self, node: NodeId, weight: usize, slot: usize) -> Option<()> {
        let (maker, positions) = self.of(node, slot)?;
        let axis = *self
            .places
            .values
            .get(&self.graph.view(node).input(slot)?)?;
        let along = positions.all_along(axis)?;
        let reads = |&&index: &&usize| {
            let consumer = &self.groups.consumers[index];
            consumer.node == node && consumer.weight == weight && consumer.stack.is_none()
        };
        let consumer = *self.group.consumers.iter().find(reads)?;
        for (first, head) in self.constant((node, weight), maker, &along)? {
            self.heads.get_mut(head)?.1.readers.push((consumer, first));
        }
        Some(())
    }

    /// A node lays elements out anew, scales them all alike, or adds a constant.
    fn moved(&mut self, node: NodeId, slot: usize) -> Option<()> {
        let view = self.graph.view(node);
        if let Some(taken) = ops::of(view.node).taken(view) {
            return self.take(node, &taken);
        }
        let shape = view.output_shape().ok()?;
        let carried = ops::of(view.node).carried(view, shape)?;
        let (maker, positions) = self.of(node, slot).filter(|_| carried.slot == slot)?;
        let moved = match carried.step {
            Step::Reshaped => positions.reshaped(shape)?,
            Step::Transposed(perm) => positions.transposed(&perm)?,
            Step::Scaled { by, .. } if view.constant(by)?.len() == 1 => positions,
            Step::Moved { by, .. } => {
                // Constants lie along the last axes.
                let rank = view.constant(by)?.shape.len();
                let own = *self.places.uses.get(&(node, by))?;
                let axis = (shape.len() + own).checked_sub(rank)?;
                let along = positions.all_along(axis)?;
                self.constant((node, by), maker, &along)?;
                positions
            }
            _ => return None,
        };
        self.carry(node, maker, moved)
    }

    /// Both factors of a product sum over the channels.
    fn meet(&mut self, node: NodeId) -> Option<()> {
        let own = |&&index: &&usize| self.groups.consumers[index].node == node;
        let sides: Vec<usize> = self.group.consumers.iter().filter(own).copied().collect();
        let [left, right] = <[usize; 2]>::try_from(sides).ok()?;
        let [left, right] = [self.side(left)?, self.side(right)?];
        if left.len() != right.len() {
            return None;
        }
        self.met.extend(left.into_iter().zip(right));
        Some(())
    }

    /// Per matrix of one factor of a product, the head whose channels it has.
    fn side(&mut self, index: usize) -> Option<Vec<usize>> {
        let consumer: &Consumer = self.groups.consumers.get(index)?;
        let (maker, positions) = self.positions.get(&consumer.input)?.clone();
        let stack = consumer.stack.and_then(|stack| stack.input);
        let axes: Vec<usize> = stack.into_iter().chain([consumer.axis]).collect();
        let inner = positions.along(consumer.axis)?;
        let firsts = match stack {
            Some(stack) => positions.along(stack)?,
            None => vec![0],
        };
        let is_in_order = inner.iter().enumerate().all(|(at, &place)| at == place);
        let is_apt =
            is_in_order && positions.is_along(&axes) && inner.len() == self.group.channels.len();
        let mut found = Vec::new();
        for (place, first) in firsts.into_iter().enumerate().filter(|_| is_apt) {
            let head = self.head(maker, positions.first + first)?;
            self.heads.get_mut(head)?.1.readers.push((index, place));
            found.push(head);
        }
        (!found.is_empty()).then_some(found)
    }

    /// Notes where the heads' channels lie on a constant, whose positions are `along` what `maker`
    /// makes: where each begins, and which it is.
    fn constant(
        &mut self,
        at: (NodeId, usize),
        maker: NodeId,
        along: &[usize],
    ) -> Option<Vec<(usize, usize)>> {
        let value = self.graph.view(at.0).input(at.1)?;
        let axis = *self.places.uses.get(&at)?;
        let map = self.groups.uses.get(&at)?.get(axis)?.as_ref()?;
        let is_zero = is_zero(self.graph, value);
        if along.len() != map.len() || !(is_zero || is_own(self.graph, value)) {
            return None;
        }
        let mut found = Vec::new();
        for first in self.starts(map)? {
            let place = *along.get(first)?;
            let own = along.get(first..first + self.group.channels.len())?;
            if !own.iter().copied().eq(place..place + own.len()) {
                return None;
            }
            let head = self.head(maker, place)?;
            if !is_zero {
                self.heads.get_mut(head)?.1.parts.push((value, axis, first));
            }
            found.push((first, head));
        }
        self.followed.insert(at);
        Some(found)
    }

    fn head(&self, maker: NodeId, first: usize) -> Option<usize> {
        self.heads
            .iter()
            .position(|(key, _)| *key == (maker, first))
    }

    /// Where the group's channels begin, one head after the other; `None` where they come in
    /// another order.
    fn starts(&self, map: &[usize]) -> Option<Vec<usize>> {
        let channels = self.group.channels.as_slice();
        let mut starts = Vec::new();
        let mut at = 0;
        while let Some(channel) = map.get(at) {
            if map.get(at..).is_some_and(|rest| rest.starts_with(channels)) {
                starts.push(at);
                at += channels.len();
            } else if channels.contains(channel) {
                return None;
            } else {
                at += 1;
            }
        }
        Some(starts)
    }

    /// The heads, those that meet as one.
    fn met_as_one(self) -> Vec<Head> {
        let mut first_of: Vec<usize> = (0..self.heads.len()).collect();
        for (left, right) in self.met {
            let (from, to) = (
                first_of[left].max(first_of[right]),
                first_of[left].min(first_of[right]),
            );
            first_of
                .iter_mut()
                .filter(|first| **first == from)
                .for_each(|first| *first = to);
        }
        let mut heads: BTreeMap<usize, Head> = BTreeMap::new();
        for (first, (_, head)) in first_of.into_iter().zip(self.heads) {
            let whole = heads.entry(first).or_default();
            whole.parts.extend(head.parts);
            whole.readers.extend(head.readers);
        }
        heads.into_values().collect()
    }
}
