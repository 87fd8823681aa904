//! In which order consumers are fitted: a consumer's level is the number of fitted consumers in a
//! row that its input has behind it. Consumers that share a weight are fitted together, where the
//! inputs of all of them are known.

use crate::graph::{Graph, Table, ValueId};
use crate::groups::{Groups, Kept};
use crate::repair::sequential::ties;
use crate::statistics::Statistics;
use crate::taps::Tap;

/// Levels of values and consumers.
#[derive(PartialEq, Eq)]
pub(super) struct Levels {
    /// Per value, how many levels must be solved before the pruned model can compute it; 0 where
    /// pruning does not change it.
    values: Table<ValueId, usize>,
    /// Per consumer, whether it is fitted.
    fitted: Vec<bool>,
    /// Per consumer that shares its weight, the level of the inputs of all that share it: there
    /// they are fitted.
    together: Vec<usize>,
}

impl Levels {
    /// Walks the graph, again as long as consumers that share a weight have to wait longer for each
    /// other.
    pub fn find(graph: &Graph, groups: &Groups, statistics: &Statistics, kept: &Kept<'_>) -> Self {
        let mut can_be = ties::fittable(graph, groups, &|index| {
            can_be_fitted(groups, index, statistics)
        });
        let none = vec![0; groups.consumers.len()];
        let mut levels = Levels::walk(graph, groups, kept, (&can_be, none.clone()));
        let mut walks = 0;
        loop {
            let together = ties::latest(groups, |value| levels.of(value));
            if together == levels.together {
                return levels;
            }
            walks += 1;
            // Each walk settles another weight, unless two of them wait for each other.
            let (waits, last) = if walks <= groups.consumers.len() {
                (together, false)
            } else {
                let changes = |(index, can): (usize, &bool)| {
                    *can && together[index] == levels.together[index]
                };
                can_be = can_be.iter().enumerate().map(changes).collect();
                (none.clone(), true)
            };
            levels = Levels::walk(graph, groups, kept, (&can_be, waits));
            walks = if last { 0 } else { walks };
        }
    }

    fn walk(
        graph: &Graph,
        groups: &Groups,
        kept: &Kept<'_>,
        (can_be, together): (&[bool], Vec<usize>),
    ) -> Self {
        let mut levels = Levels {
            values: vec![0; graph.values.len()].into(),
            fitted: vec![false; groups.consumers.len()],
            together,
        };
        let mut consumers_of = Table::from(vec![Vec::new(); graph.nodes.len()]);
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
                [index] if can_be[index] && level.max(levels.together[index]) > 0 => {
                    levels.fitted[index] = true;
                    level = level.max(levels.together[index]) + 1;
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
            let level = self.of(consumer.input).max(self.together[index]);
            let place = level.saturating_sub(1);
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
        Tap::of(consumer)
            .is_some_and(|tap| tap.covered == 1 && tap.kernel_positions() == observed.kernel)
            && observed.blocks.len() == consumer.layout.blocks
    });
    let is_plain = consumer.stack.is_none() && consumer.tells_kernel_apart();
    unfolded && is_plain && consumer.layout.out_axes.len() == 1
}
