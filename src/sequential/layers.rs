//! The layers that can be fitted, as they are when channels have left.

use std::collections::BTreeMap;

use crate::calibrate::Statistics;
use crate::calibrate::tap::Tap;
use crate::graph::NodeId;
use crate::groups::{Consumer, Groups, Kept};

/// The consumers that can be fitted, and the layers that keep channels apart.
pub(super) fn layers(groups: &Groups, statistics: &Statistics, kept: &Kept<'_>) -> Vec<Consumer> {
    let mut of_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    for consumer in &groups.consumers {
        *of_node.entry(consumer.node).or_default() += 1;
    }
    // Weights of one node move one bias.
    let is_alone = |consumer: &Consumer| of_node.get(&consumer.node) == Some(&1);
    let consumers = groups.consumers.iter().enumerate();
    let consumers = consumers.filter(|(index, consumer)| {
        is_alone(consumer) && is_observed(consumer, *index, statistics)
    });
    let consumers = consumers.map(|(_, consumer)| consumer.clone());
    let apart = groups.apart.iter().filter_map(|layer| left(layer, kept));
    let all = consumers.chain(apart);
    all.filter(|layer| layer.layout.out_axes.len() == 1 && layer.covered == Some(1))
        .collect()
}

/// Whether the repair in one pass, which a fit starts from, knew the unfolded positions.
fn is_observed(consumer: &Consumer, index: usize, statistics: &Statistics) -> bool {
    statistics.of(index).is_some_and(|observed| {
        Tap::of(consumer).is_some_and(|tap| tap.taps() == observed.taps)
            && observed.blocks.len() == consumer.layout.blocks
    })
}

/// A layer that keeps channels apart with the blocks that are left of it, if any.
fn left(layer: &Consumer, kept: &Kept<'_>) -> Option<Consumer> {
    let map = kept.map(layer.input, layer.axis)?;
    let per_block = map.len().checked_div(layer.layout.blocks)?;
    let mut left = layer.clone();
    left.layout.blocks = kept.count(map).checked_div(per_block)?;
    (left.layout.blocks > 0).then_some(left)
}
