//! Weights that several nodes share, as the towers of a siamese net or a head on several levels do:
//! what is stored once is cut once, so that their channels are the same ones.
//!
//! Only weights tie. Vectors such as biases and scales are often one constant because an exporter
//! found them equal (zeros, ones), which says nothing of the layers; the same holds for weights
//! whose slices along an axis are all equal, such as zeros or a blur.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::graph::{Graph, ValueId};
use crate::groups::storage::Stored;
use crate::groups::walk::{Reason, Walk};
use crate::groups::{AxisMap, Bias, Consumer, Groups, Rules, Use};
use crate::onnx::Tensor;

/// With what a consumer shares its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// With nothing.
    Alone,
    /// With other consumers, which read and make the same channels with the same part of it.
    Together {
        /// All of them, ascending, this one among them.
        consumers: Arc<[usize]>,
        /// Whether their biases are one as well, or none has any.
        one_bias: bool,
    },
    /// With what reads it in another way, such as a table that is looked up: it cannot be fitted.
    Fixed,
}

impl Walk<'_> {
    /// Unites the channels along the axes of weights that several nodes share.
    pub(super) fn tie_weights(&mut self) {
        let shared = shared(self.graph, self.rules, self.weights.iter().copied());
        for (root, uses) in shared {
            let Some(tensor) = &self.graph.values[root].constant else {
                continue;
            };
            for axis in 0..tensor.shape.len() {
                if !slices_are_equal(tensor, axis) {
                    self.tie_axis(root, axis, &uses);
                }
            }
        }
    }

    /// Unites the channels along one axis of a stored weight.
    fn tie_axis(&mut self, root: ValueId, axis: usize, uses: &[(Use, Stored)]) {
        let map = |(at, stored): &(Use, Stored)| -> Option<AxisMap> {
            let own = stored.axis_of(axis)?;
            self.uses.get(at)?.get(own)?.clone()
        };
        let maps: Vec<(Use, Option<AxisMap>)> =
            uses.iter().map(|use_| (use_.0, map(use_))).collect();
        let mut tracked = maps.iter().filter_map(|(_, map)| map.as_ref());
        let Some(first) = tracked.next().cloned() else {
            return;
        };
        for map in tracked {
            // Lengths are those of one axis.
            let _ = self.tie(&first, map);
        }
        let name = &self.graph.values[root].name;
        let text = format!("it reads the shared weight '{name}', of which it needs all");
        for (at, _) in maps.iter().filter(|(_, map)| map.is_none()) {
            self.hold(&first, Reason::of(at.0, &text));
        }
    }
}

/// The stored constants that more than one of these uses read.
fn shared(
    graph: &Graph,
    rules: &dyn Rules,
    weights: impl Iterator<Item = Use>,
) -> BTreeMap<ValueId, Vec<(Use, Stored)>> {
    let mut uses: BTreeMap<ValueId, Vec<(Use, Stored)>> = BTreeMap::new();
    for at in weights {
        let value = graph.view(at.0).input(at.1);
        if let Some(value) = value.filter(|&value| graph.values[value].constant.is_some()) {
            let stored = Stored::of(graph, value, rules);
            uses.entry(stored.root).or_default().push((at, stored));
        }
    }
    uses.retain(|_, uses| uses.len() > 1);
    uses
}

/// Whether all slices of a tensor along an axis are the same: then it is of no matter which of them
/// stay.
fn slices_are_equal(tensor: &Tensor, axis: usize) -> bool {
    let (Some(&length), Some(size)) = (tensor.shape.get(axis), tensor.dtype.size()) else {
        return false;
    };
    let after: usize = tensor.shape.iter().skip(axis + 1).product();
    let slice = size.saturating_mul(after).max(1);
    let mut outer = tensor
        .bytes
        .chunks_exact(slice.saturating_mul(length).max(1));
    outer.all(|part| {
        let mut slices = part.chunks_exact(slice);
        let first = slices.next();
        slices.all(|slice| Some(slice) == first)
    })
}

/// With what each consumer shares its weight; `weights` are all uses of weights.
pub(super) fn sharing(
    graph: &Graph,
    groups: &Groups,
    rules: &dyn Rules,
    weights: impl Iterator<Item = Use>,
) -> Vec<Sharing> {
    let mut all = vec![Sharing::Alone; groups.consumers.len()];
    let mut at_use: BTreeMap<Use, Vec<usize>> = BTreeMap::new();
    for (index, consumer) in groups.consumers.iter().enumerate() {
        let at = (consumer.node, consumer.weight);
        if consumer.partner.is_none() {
            at_use.entry(at).or_default().push(index);
        }
    }
    for (root, uses) in shared(graph, rules, weights) {
        let is_tied = |axis: usize| {
            let constant = graph.values[root].constant.as_ref();
            constant.is_some_and(|tensor| !slices_are_equal(tensor, axis))
        };
        let rank = graph.values[root].shape.as_ref().map_or(0, Vec::len);
        if !(0..rank).any(is_tied) {
            continue;
        }
        let readers = |(at, stored)| {
            let indexes = at_use.get(at).into_iter().flatten();
            indexes.map(move |&index| (index, stored))
        };
        let all_uses = uses.iter().map(|(at, stored)| (at, stored));
        let mut readers: Vec<(usize, &Stored)> = all_uses.flat_map(readers).collect();
        readers.sort_by_key(|(index, _)| *index);
        let consumers: Arc<[usize]> = readers.iter().map(|(index, _)| *index).collect();
        let layout = |&(index, stored): &(usize, &Stored)| rooted(&groups.consumers[index], stored);
        let layouts: Vec<_> = readers.iter().map(layout).collect();
        let is_alike = layouts.windows(2).all(|pair| pair[0] == pair[1]);
        let is_whole = readers.len() == uses.len() && layouts.iter().all(Option::is_some);
        let biases = consumers
            .iter()
            .map(|&index| bias(graph, &groups.consumers[index]));
        let biases: Vec<_> = biases.collect();
        let one_bias = biases.windows(2).all(|pair| pair[0] == pair[1]);
        for &index in consumers.iter() {
            all[index] = if is_alike && is_whole {
                Sharing::Together {
                    consumers: consumers.clone(),
                    one_bias,
                }
            } else {
                Sharing::Fixed
            };
        }
    }
    all
}

/// The layout of a consumer's weight in terms of the axes of what is stored: those of the outputs,
/// the inputs, the taps and the blocks, and how many blocks there are.
fn rooted(consumer: &Consumer, stored: &Stored) -> Option<(Vec<usize>, usize)> {
    let layout = &consumer.layout;
    let axes = layout.out_axes.iter().chain([&layout.in_axis]);
    let axes = axes.chain(&layout.kernel_axes).chain([&layout.block_axis]);
    let axes = axes.map(|&axis| stored.axes.get(axis).copied().flatten());
    Some((axes.collect::<Option<_>>()?, layout.blocks))
}

/// What tells a consumer's bias from others: its constant, where there is one, and how it moves.
fn bias<'a>(graph: &Graph, consumer: &'a Consumer) -> (Option<ValueId>, &'a Bias) {
    let slot = match consumer.bias {
        Bias::Slot { slot, .. } | Bias::Rows { slot, .. } => Some(slot),
        Bias::Added | Bias::None => None,
    };
    let value = slot.and_then(|slot| graph.view(consumer.node).input(slot));
    (value, &consumer.bias)
}
