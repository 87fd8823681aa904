//! In which order consumers are fitted: a consumer's level is the number of fitted consumers in a
//! row that its input has behind it.

use crate::calibrate::Statistics;
use crate::calibrate::tap::Tap;
use crate::graph::{Graph, ValueId};
use crate::groups::{Groups, Kept};

/// Levels of values and consumers.
pub(super) struct Levels {
    /// Per value, how many levels must be solved before the pruned model can compute it; 0 where
    /// pruning does not change it.
    values: Vec<usize>,
    /// Per consumer, whether it is fitted.
    fitted: Vec<bool>,
}

impl Levels {
    /// Walks the graph.
    pub fn find(graph: &Graph, groups: &Groups, statistics: &Statistics, kept: &Kept<'_>) -> Self {
        let mut levels = Levels {
            values: vec![0; graph.values.len()],
            fitted: vec![false; groups.consumers.len()],
        };
        let mut consumers_of = vec![Vec::new(); graph.nodes.len()];
        for (index, consumer) in groups.consumers.iter().enumerate() {
            consumers_of[consumer.node].push(index);
        }
        for &id in &graph.order {
            let node = &graph.nodes[id];
            let read = node.inputs.iter().flatten().chain(&node.captured);
            let mut level = read.map(|&value| levels.values[value]).max().unwrap_or(0);
            let loses = |&index: &usize| {
                let map = groups.read_by(&groups.consumers[index]);
                map.is_some_and(|map| kept.count(map) < map.len())
            };
            match *consumers_of[id] {
                [index] if level > 0 && can_be_fitted(groups, index, statistics) => {
                    levels.fitted[index] = true;
                    level += 1;
                }
                // Its inputs are the dense model's: the repair in one pass is its fit.
                ref all if all.iter().any(loses) => level = level.max(1),
                _ => {}
            }
            for &output in node.outputs.iter().flatten() {
                levels.values[output] = level;
            }
        }
        levels
    }

    /// The level of a value.
    pub fn of(&self, value: ValueId) -> usize {
        self.values[value]
    }

    /// Per level from 1 on, the consumers to fit.
    pub fn consumers(&self, groups: &Groups) -> Vec<Vec<usize>> {
        let mut all: Vec<Vec<usize>> = Vec::new();
        for (index, consumer) in groups.consumers.iter().enumerate() {
            if !self.fitted[index] {
                continue;
            }
            let place = self.of(consumer.input).saturating_sub(1);
            if all.len() <= place {
                all.resize(place + 1, Vec::new());
            }
            all[place].push(index);
        }
        all
    }
}

/// Whether a position of the consumer's output is a linear map of an unfolded position of its input
/// that was observed.
fn can_be_fitted(groups: &Groups, index: usize, statistics: &Statistics) -> bool {
    let consumer = &groups.consumers[index];
    let unfolded = statistics.of(index).is_some_and(|observed| {
        Tap::of(consumer).is_some_and(|tap| tap.covered == 1 && tap.taps() == observed.taps)
            && observed.blocks.len() == consumer.layout.blocks
    });
    let is_plain = consumer.stack.is_none() && consumer.tells_taps_apart();
    unfolded && is_plain && consumer.layout.out_axes.len() == 1
}
