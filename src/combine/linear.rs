//! Which groups nothing but linear layers touches, and on which constants their channels lie.

use std::collections::{BTreeMap, BTreeSet};

use crate::combine::places::Places;
use crate::graph::{Graph, GroupId, NodeId, Table, Value, ValueId};
use crate::groups::{Alike, Group, Groups};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops;

/// A group whose channels may be turned.
#[derive(Debug, Default)]
pub(super) struct Linear {
    /// The constants that its channels lie on, with the axis.
    pub constants: Vec<(ValueId, usize)>,
    /// Constants to take instead before anything is turned: nodes that scale channels leave that to
    /// the weight before them.
    pub prepared: BTreeMap<ValueId, Tensor>,
}

/// The groups that may be turned.
pub(super) fn find(
    graph: &Graph,
    groups: &Groups,
    places: &Table<GroupId, Places>,
) -> BTreeMap<GroupId, Linear> {
    let candidates = groups.groups.entries().zip(places);
    let is_whole = |places: &Places| !places.is_mixed && !places.is_twice;
    let candidates = candidates
        .filter(|((_, group), places)| is_whole(places) && is_candidate(graph, groups, group));
    candidates
        .filter_map(|((index, _), places)| {
            let found = Finder {
                graph,
                places,
                found: Linear::default(),
            };
            Some((index, found.all()?.ok()?))
        })
        .collect()
}

fn is_candidate(graph: &Graph, groups: &Groups, group: &Group) -> bool {
    let reads_computed = |&index: &usize| {
        let consumer = groups.consumers.get(index);
        consumer
            .is_none_or(|c| c.partner.is_some() || graph.view(c.node).constant(c.weight).is_none())
    };
    group.frozen.is_empty()
        && group.channels.len() > 1
        && !group.consumers.is_empty()
        && !group.consumers.iter().any(reads_computed)
}

/// Looks at every node that one group touches.
struct Finder<'a> {
    graph: &'a Graph,
    places: &'a Places,
    found: Linear,
}

impl Finder<'_> {
    /// All of the group's constants; `None` where one of its nodes is in the way.
    fn all(mut self) -> Option<Result<Linear, TensorError>> {
        let mut nodes = BTreeSet::new();
        for &id in self.places.values.keys() {
            let value = self.graph.values.get(id)?;
            if value.is_output || value.is_captured {
                return None;
            }
            nodes.insert(value.producer?);
            nodes.extend(data_readers(self.graph, value).map(|&(node, _)| node));
        }
        if self
            .places
            .uses
            .keys()
            .any(|(node, _)| !nodes.contains(node))
        {
            return None;
        }
        let mut scaling = Vec::new();
        for node in nodes {
            let is_alike = match ops::alike(self.graph.view(node))? {
                Alike::Weighs(slot) => self.weighs(node, slot),
                Alike::Adds => self.adds(node),
                Alike::Scales => {
                    scaling.push(node);
                    Some(())
                }
                Alike::Multiplies => None,
            };
            is_alike?;
        }
        for node in scaling {
            if let Err(error) = self.scales(node)? {
                return Some(Err(error));
            }
        }
        Some(Ok(self.found))
    }

    /// The computed inputs of a node that hold the group's channels, and whether its output does.
    fn reads_and_makes(&self, node: NodeId) -> (Vec<usize>, bool) {
        let holds =
            |value: &Option<ValueId>| value.is_some_and(|v| self.places.values.contains_key(&v));
        let node = &self.graph.nodes[node];
        let reads = (0..node.inputs.len()).filter(|&slot| holds(&node.inputs[slot]));
        (reads.collect(), node.outputs.iter().any(holds))
    }

    /// A weight reads the channels or makes them, with all that it adds to them.
    fn weighs(&mut self, node: NodeId, weight: usize) -> Option<()> {
        let (reads, makes) = self.reads_and_makes(node);
        let inputs = &self.graph.nodes[node].inputs;
        let constants: Vec<usize> = match (reads.as_slice(), makes) {
            ([_], false) => vec![weight],
            ([], true) => (0..inputs.len())
                .filter(|&slot| self.graph.view(node).constant(slot).is_some())
                .collect(),
            _ => return None,
        };
        let of_node = (node, 0)..(node.next(), 0);
        if self.places.uses.range(of_node).count() != constants.len() {
            return None;
        }
        constants
            .into_iter()
            .try_for_each(|slot| self.constant(node, slot))
    }

    /// All that is added holds the channels.
    fn adds(&mut self, node: NodeId) -> Option<()> {
        let (reads, makes) = self.reads_and_makes(node);
        let filled = self.graph.nodes[node].inputs.iter().enumerate();
        let filled: Vec<usize> = filled
            .filter(|(_, v)| v.is_some())
            .map(|(slot, _)| slot)
            .collect();
        if !makes {
            return None;
        }
        let mut rest = filled.into_iter().filter(|slot| !reads.contains(slot));
        rest.try_for_each(|slot| self.constant(node, slot))
    }

    /// The scale goes into the weight before it, which nothing else reads.
    fn scales(&mut self, node: NodeId) -> Option<Result<(), TensorError>> {
        let view = self.graph.view(node);
        let (reads, makes) = self.reads_and_makes(node);
        let source = self.graph.values.get(view.input(0)?)?;
        let maker = source.producer?;
        let Some(Alike::Weighs(_)) = ops::alike(self.graph.view(maker)) else {
            return None;
        };
        if reads != [0] || !makes || data_readers(self.graph, source).count() != 1 {
            return None;
        }
        let unscaled = match ops::of(view.node).unscaled(view)? {
            Ok(unscaled) => unscaled,
            Err(error) => return Some(Err(error)),
        };
        let of_maker = (maker, 0)..(maker.next(), 0);
        for (&(_, slot), &axis) in self.places.uses.range(of_maker) {
            let value = self.graph.view(maker).input(slot)?;
            if is_zero(self.graph, value) {
                continue;
            }
            let tensor = self.graph.values[value].constant.as_ref()?;
            match super::scaling::along(tensor, axis, &unscaled.scale) {
                Ok(scaled) => self.found.prepared.insert(value, scaled),
                Err(error) => return Some(Err(error)),
            };
        }
        for (slot, tensor) in unscaled.constants {
            let value = view.input(slot)?;
            if !is_own(self.graph, value) || self.places.uses.get(&(node, slot)) != Some(&0) {
                return None;
            }
            self.found.prepared.insert(value, tensor);
            if slot == unscaled.added {
                self.found.constants.push((value, 0));
            }
        }
        Some(Ok(()))
    }

    /// A constant that the channels lie on. Zeros stay zeros, wherever they are stored.
    fn constant(&mut self, node: NodeId, slot: usize) -> Option<()> {
        let value = self.graph.view(node).input(slot)?;
        let axis = *self.places.uses.get(&(node, slot))?;
        if is_zero(self.graph, value) {
            return Some(());
        }
        let is_own = is_own(self.graph, value);
        is_own.then(|| self.found.constants.push((value, axis)))
    }
}

/// Whether a constant is all zeros, which stay zeros in any basis.
pub(super) fn is_zero(graph: &Graph, value: ValueId) -> bool {
    let constant = graph.values[value].constant.as_ref();
    let values = constant.and_then(|tensor| tensor.to_f64().ok());
    values.is_some_and(|values| values.iter().all(|&value| value == 0.0))
}

/// Who reads more of a value than its type and lengths.
pub(super) fn data_readers<'v>(
    graph: &'v Graph,
    value: &'v Value,
) -> impl Iterator<Item = &'v (NodeId, usize)> {
    let reads = |&&(node, slot): &&(NodeId, usize)| {
        let operator = ops::of(&graph.nodes[node]);
        operator.reads_data(slot) && !operator.starts_sizes()
    };
    value.readers.iter().filter(reads)
}

/// Whether the constant is stored as it is, in floats, and one node alone reads its data.
pub(super) fn is_own(graph: &Graph, value: ValueId) -> bool {
    let value = &graph.values[value];
    let is_float = matches!(value.dtype, Some(DataType::Float | DataType::Double));
    let is_stored = value.producer.is_none() && value.constant.is_some();
    let readers = value.readers.iter();
    let readers = readers.filter(|(node, _)| !ops::of(&graph.nodes[*node]).starts_sizes());
    is_float && is_stored && readers.count() == 1 && !value.is_output && !value.is_captured
}
