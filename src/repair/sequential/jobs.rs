//! Which fits there are, and what each has to observe.

use std::collections::BTreeMap;

use crate::graph::ValueId;
use crate::groups::{Consumer, Kept};
use crate::ops::{self, constant::is_weight};
use crate::repair::Refit;
use crate::repair::sequential::RepairRequest;
use crate::repair::sequential::job::{Job, Sum, Target};
use crate::repair::sequential::levels::Levels;
use crate::repair::sequential::onward::Onward;
use crate::repair::sequential::rectified::{self, Before, KeptRows, Rectifier, Share, Targets};
use crate::repair::sequential::regression::{Affine, CrossMoments};
use crate::repair::sequential::ridge;
use crate::repair::sequential::ties;
use crate::statistics::Moments;
use crate::taps::{Placed, Tap};

/// Rows for each input of a fit, and at least. The fit is pulled to that of the repair in one pass,
/// which has seen more (docs/design/decisions/035-rows-and-rounds.md).
const ROWS_PER_INPUT: usize = 8;
const LEAST_ROWS: usize = 8192;
/// Rows of each sample, where these are no more than so many in all: in deep layers a sample has
/// few positions, and each is worth reading (docs/design/decisions/036-rows-of-each-sample.md).
const ROWS_PER_SAMPLE: usize = 64;
const MOST_OF_SAMPLES: usize = 32_768;

/// Rows of a sample that has that many positions, for a fit of so many inputs.
fn rows(inputs: usize, samples: usize, positions: usize) -> usize {
    let of_samples = ROWS_PER_SAMPLE.saturating_mul(samples);
    let wanted = ROWS_PER_INPUT
        .saturating_mul(inputs)
        .max(LEAST_ROWS)
        .max(of_samples.min(MOST_OF_SAMPLES));
    wanted.div_ceil(samples.max(1)).clamp(1, positions.max(1))
}

/// All fits, level by level.
pub(super) fn jobs<'a>(
    setting: &RepairRequest<'a>,
    kept: &Kept<'a>,
    levels: &Levels,
    samples: usize,
) -> Vec<Vec<Job<'a>>> {
    let mut names = 0;
    let mut all = Vec::new();
    for consumers in levels.consumers(setting.groups) {
        let mut sharing: BTreeMap<(Tap, usize, Option<usize>), Vec<usize>> = BTreeMap::new();
        for index in consumers {
            let consumer = &setting.groups.consumers[index];
            let Some(tap) = Tap::of(consumer) else {
                continue;
            };
            // One that shares its weight has a job of its own, whatever else reads the same.
            let tied = ties::of(setting.groups, index).map(|_| index);
            let key = (tap, consumer.layout.blocks, tied);
            sharing.entry(key).or_default().push(index);
        }
        let mut builder = Builder {
            setting,
            kept,
            levels,
            names: &mut names,
        };
        let mut jobs: Vec<Job<'_>> = sharing
            .into_iter()
            .filter_map(|((tap, blocks, _), users)| builder.job(tap, blocks, &users, samples))
            .collect();
        ties::unite(&mut jobs, setting.groups, samples);
        if !jobs.is_empty() {
            all.push(jobs);
        }
    }
    all
}

struct Builder<'b, 'a> {
    setting: &'b RepairRequest<'a>,
    kept: &'b Kept<'a>,
    levels: &'b Levels,
    names: &'b mut usize,
}

impl<'a> Builder<'_, 'a> {
    fn job(&mut self, tap: Tap, blocks: usize, users: &[usize], samples: usize) -> Option<Job<'a>> {
        let graph = self.setting.graph;
        let kernel = tap.kernel_positions();
        let inputs = self.place(tap)?.narrowed(self.kept)?;
        let channels = inputs.channels;
        let per_block = channels / blocks.max(1) * kernel;
        let rows = rows(per_block, samples, inputs.places);
        let inputs = inputs.whole_for(graph, rows);
        let targets: Vec<Target<'_>> = users
            .iter()
            .filter_map(|&user| self.target(user, &inputs, (rows, samples), (blocks, per_block)))
            .collect();
        let usable = per_block > 0 && inputs.places > 0 && !targets.is_empty();
        let moments = |_| Moments::of_rows(per_block, rows * samples);
        usable.then(|| Job {
            graph,
            rows,
            inputs,
            moments: (0..blocks).map(moments).collect(),
            held: if ridge::can_hold(samples) {
                (0..blocks).map(|_| Moments::new(per_block)).collect()
            } else {
                Vec::new()
            },
            seen: 0,
            targets,
            tie: users
                .first()
                .and_then(|&user| ties::of(self.setting.groups, user)),
            share: Share::new(rows * samples, channels * kernel),
            kept: (0..blocks).map(|_| KeptRows::default()).collect(),
        })
    }

    fn target(
        &mut self,
        index: usize,
        inputs: &Placed,
        (rows, samples): (usize, usize),
        (blocks, per_block): (usize, usize),
    ) -> Option<Target<'a>> {
        let RepairRequest { graph, groups, .. } = *self.setting;
        let consumer = &groups.consumers[index];
        let fold = Refit::new(graph, consumer, *self.kept)?;
        let output = self.place(Tap {
            value: consumer.output,
            axis: consumer.output_axis,
            window: None,
            covered: 1,
            stack: None,
        })?;
        let output = output.before_pointwise(graph).whole_for(graph, rows);
        let stays: Vec<usize> = match groups.made_by(consumer) {
            Some(map) => self.kept.positions(map),
            None => (0..output.channels).collect(),
        };
        let leading = |value: ValueId, axis: usize, last: bool| {
            let shape = graph.values[value].shape.as_ref()?;
            let axes = if last { 1 } else { axis.max(1) };
            Some(shape.iter().take(axes).product::<usize>())
        };
        let aligned = output.places == inputs.places
            && leading(consumer.output, consumer.output_axis, output.channels_last)
                == leading(consumer.input, consumer.axis, inputs.channels_last);
        if !aligned || stays.is_empty() || !stays.len().is_multiple_of(blocks.max(1)) {
            return None;
        }
        let crosses = || vec![CrossMoments::new(stays.len() / blocks.max(1), per_block); blocks];
        let held = || {
            if ridge::can_hold(samples) {
                crosses()
            } else {
                Vec::new()
            }
        };
        let ((own, own_held), (spare, spare_held)) = ((crosses(), held()), (crosses(), held()));
        let sum = self.sum(consumer.output, consumer.output_axis, consumer.input, rows);
        let behind = sum.as_ref().map(|(_, value)| *value);
        let sum = sum.map(|([own, other, other_pruned], _)| Sum {
            own: (own.tap != output.tap).then_some(own),
            other,
            other_pruned,
            affine: vec![Affine::new(); stays.len()],
            crosses: spare,
            held: spare_held,
        });
        let rectifier = self.rectifier(consumer, stays.len(), behind, rows);
        Some(Target {
            fold,
            stays,
            output,
            crosses: own,
            held: own_held,
            sum,
            rectifier,
            kept: Targets::default(),
        })
    }

    /// The rectifier behind a consumer of which so many outputs stay; `sum` is the sum that its
    /// output goes into, where what it is added to has lost something.
    fn rectifier(
        &mut self,
        consumer: &Consumer,
        stays: usize,
        sum: Option<ValueId>,
        rows: usize,
    ) -> Option<Rectifier> {
        let graph = self.setting.graph;
        let behind = rectified::behind(self.onward(consumer.output_axis), consumer.output)?;
        // The sum of something that is not known yet says nothing about this summand.
        if behind.through_sum && sum.is_none() {
            return None;
        }
        let direct = behind.value == consumer.output;
        let before = if direct {
            Before::Output
        } else if sum == Some(behind.value) {
            Before::Sum
        } else {
            let placed = self.place(Tap {
                value: behind.value,
                axis: consumer.output_axis,
                window: None,
                covered: 1,
                stack: None,
            })?;
            Before::Other(Box::new(placed.whole_for(graph, rows)))
        };
        Some(Rectifier {
            passes: behind.passes,
            before,
            affine: (!direct && !behind.through_sum).then(|| vec![Affine::new(); stays]),
        })
    }

    /// The sum that a value goes into, if its other summand has lost something by then: the value's
    /// own summand, the other one twice, and what they add up to.
    fn sum(
        &mut self,
        value: ValueId,
        axis: usize,
        input: ValueId,
        rows: usize,
    ) -> Option<([Placed; 3], ValueId)> {
        let graph = self.setting.graph;
        let onward = self.onward(axis);
        let mut own = value;
        loop {
            let reader = onward.reader(own)?;
            let view = graph.view(reader);
            let Some(other) = ops::of(view.node).other_summand(view, own) else {
                // Whether what lies between is affine is seen in the data.
                own = onward.next(own)?;
                continue;
            };
            let level = self.levels.of(other);
            let known = level > 0 && level <= self.levels.of(input);
            let total = onward.next(own)?;
            if !known || !onward.is_same(own, other) {
                return None;
            }
            let tap = |value| Tap {
                value,
                axis,
                window: None,
                covered: 1,
                stack: None,
            };
            let mut place = |value| Some(self.place(tap(value))?.whole_for(graph, rows));
            let [dense, pruned] = [place(other)?, place(other)?.narrowed(self.kept)?];
            let own = self.place(tap(own))?.before_pointwise(graph);
            return Some(([own.whole_for(graph, rows), dense, pruned], total));
        }
    }

    /// The way on of channels along that axis.
    fn onward(&self, axis: usize) -> Onward<'a> {
        Onward {
            graph: self.setting.graph,
            groups: self.setting.groups,
            axis,
        }
    }

    fn place(&mut self, tap: Tap) -> Option<Placed> {
        let dtype = self.setting.graph.values[tap.value].dtype;
        if !dtype.is_some_and(is_weight) {
            return None;
        }
        *self.names += 1;
        Placed::new(self.setting.graph, tap, *self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn few_positions_are_all_read_and_many_samples_give_few_rows() {
        // 350 images: all of 7 x 7 positions, and 64 of more.
        assert_eq!(rows(960, 350, 49), 49);
        assert_eq!(rows(96, 350, 3136), 64);
        // Many inputs take more of each.
        assert_eq!(rows(9216, 350, 3136), 211);
        // Few samples give what the least number asks for.
        assert_eq!(rows(96, 64, 3136), 128);
        assert_eq!(rows(96, 2048, 3136), 16);
        assert_eq!(rows(96, 100_000, 49), 1);
        assert_eq!(rows(usize::MAX, 0, 0), 1);
    }
}
