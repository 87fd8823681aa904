//! One fit: the inputs that consumers share, and what each of them has to reach.

use std::collections::BTreeMap;

use faer::Mat;
use rayon::prelude::*;

use crate::calibrate::tap::{self, Draw, Placed, Tap};
use crate::calibrate::{Moments, StatisticsError};
use crate::graph::{Graph, ValueId};
use crate::groups::Kept;
use crate::onnx::Tensor;
use crate::ops::{self, constant::is_weight};
use crate::sequential::levels::Levels;
use crate::sequential::regression::{self, Affine, Aim, Cross};
use crate::sequential::{SequentialError, Setting};
use crate::surgery::{Fold, Onto, Repaired, SurgeryError};

/// The consumers that read one tensor in one way.
pub(super) struct Job<'a> {
    graph: &'a Graph,
    inputs: Placed,
    rows: usize,
    /// One per block of channels.
    moments: Vec<Moments>,
    targets: Vec<Target<'a>>,
}

/// One consumer.
struct Target<'a> {
    fold: Fold<'a>,
    /// Output channels that stay.
    stays: Vec<usize>,
    output: Placed,
    crosses: Vec<Cross>,
    sum: Option<Sum>,
}

/// The sum that a consumer's output goes into.
struct Sum {
    /// The summand that the output becomes.
    own: Placed,
    /// The other one, in the dense and in the pruned model.
    other: Placed,
    other_pruned: Placed,
    /// Per kept channel, how the output becomes the summand.
    affine: Vec<Affine>,
    /// Of what the other summand lost.
    crosses: Vec<Cross>,
}

/// All fits, level by level.
pub(super) fn jobs<'a>(
    setting: &Setting<'a>,
    kept: &Kept<'a>,
    levels: &Levels,
    samples: usize,
) -> Vec<Vec<Job<'a>>> {
    let mut names = 0;
    let mut all = Vec::new();
    for consumers in levels.consumers(setting.groups) {
        let mut sharing: BTreeMap<(Tap, usize), Vec<usize>> = BTreeMap::new();
        for index in consumers {
            let consumer = &setting.groups.consumers[index];
            let Some(tap) = Tap::of(consumer) else {
                continue;
            };
            let key = (tap, consumer.layout.blocks);
            sharing.entry(key).or_default().push(index);
        }
        let mut builder = Builder {
            setting,
            kept,
            levels,
            names: &mut names,
        };
        let jobs: Vec<Job<'_>> = sharing
            .into_iter()
            .filter_map(|((tap, blocks), users)| builder.job(tap, blocks, &users, samples))
            .collect();
        if !jobs.is_empty() {
            all.push(jobs);
        }
    }
    all
}

struct Builder<'b, 'a> {
    setting: &'b Setting<'a>,
    kept: &'b Kept<'a>,
    levels: &'b Levels,
    names: &'b mut usize,
}

impl<'a> Builder<'_, 'a> {
    fn job(&mut self, tap: Tap, blocks: usize, users: &[usize], samples: usize) -> Option<Job<'a>> {
        let graph = self.setting.graph;
        let channels = self.channels(tap.value, tap.axis)?;
        let taps = tap.taps();
        let inputs = self.place(tap)?.with_channels(channels);
        let per_block = channels / blocks.max(1) * taps;
        let targets: Vec<Target<'_>> = users
            .iter()
            .filter_map(|&user| self.target(user, &inputs, blocks, per_block))
            .collect();
        let usable = per_block > 0 && inputs.places > 0 && !targets.is_empty();
        let rows = inputs.rows(per_block, samples);
        let moments = |_| Moments::of_rows(per_block, rows * samples);
        usable.then(|| Job {
            graph,
            rows,
            inputs,
            moments: (0..blocks).map(moments).collect(),
            targets,
        })
    }

    fn target(
        &mut self,
        index: usize,
        inputs: &Placed,
        blocks: usize,
        per_block: usize,
    ) -> Option<Target<'a>> {
        let Setting { graph, groups, .. } = *self.setting;
        let consumer = &groups.consumers[index];
        let fold = Fold::new(graph, consumer, *self.kept)?;
        let output = self.place(Tap {
            value: consumer.output,
            axis: consumer.output_axis,
            window: None,
            covered: 1,
        })?;
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
        let crosses = || vec![Cross::new(stays.len() / blocks.max(1), per_block); blocks];
        let (crosses, spare) = (crosses(), crosses());
        let sum = self.sum(consumer.output, consumer.output_axis, consumer.input);
        let sum = sum.map(|[own, other, other_pruned]| Sum {
            own,
            other,
            other_pruned: other_pruned.with_channels(stays.len()),
            affine: vec![Affine::new(); stays.len()],
            crosses: spare,
        });
        Some(Target {
            fold,
            stays,
            output,
            crosses,
            sum,
        })
    }

    /// The sum that a value goes into, if its other summand has lost something by then: the value's
    /// own summand, and the other one twice.
    fn sum(&mut self, value: ValueId, axis: usize, input: ValueId) -> Option<[Placed; 3]> {
        let graph = self.setting.graph;
        let shape = |value: ValueId| graph.values[value].shape.as_ref();
        let mut own = value;
        loop {
            let [(reader, _)] = *graph.values[own].readers else {
                return None;
            };
            let node = &graph.nodes[reader];
            if let Some(other) = ops::other_summand(graph.view(reader), own) {
                let level = self.levels.of(other);
                let known = level > 0 && level <= self.levels.of(input);
                if !known || shape(other) != shape(value) || shape(own) != shape(value) {
                    return None;
                }
                let tap = |value| Tap {
                    value,
                    axis,
                    window: None,
                    covered: 1,
                };
                let mut place = |value| self.place(tap(value));
                return Some([place(own)?, place(other)?, place(other)?]);
            }
            // Whether what lies between is affine is seen in the data.
            let [Some(output)] = *node.outputs else {
                return None;
            };
            if shape(output) != shape(value) || graph.values[own].is_output {
                return None;
            }
            own = output;
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

    /// Channels that are left along an axis of a value.
    fn channels(&self, value: ValueId, axis: usize) -> Option<usize> {
        let shape = self.setting.graph.values[value].shape.as_ref()?;
        Some(self.kept.length(value, axis, *shape.get(axis)?))
    }
}

impl<'a> Job<'a> {
    /// Values of the dense model that it needs.
    pub fn dense(&self) -> Vec<ValueId> {
        self.dense_taps().map(|placed| placed.tap.value).collect()
    }

    /// Values of the pruned model that it needs.
    pub fn pruned(&self) -> Vec<ValueId> {
        self.pruned_taps().map(|placed| placed.tap.value).collect()
    }

    /// Taps of the dense model.
    pub fn dense_taps(&self) -> impl Iterator<Item = &Placed> {
        self.targets.iter().flat_map(|target| {
            let sum = target.sum.iter().flat_map(|sum| [&sum.own, &sum.other]);
            std::iter::once(&target.output).chain(sum)
        })
    }

    /// Taps of the pruned model, the inputs first.
    pub fn pruned_taps(&self) -> impl Iterator<Item = &Placed> {
        let sums = self.targets.iter().filter_map(|target| target.sum.as_ref());
        std::iter::once(&self.inputs).chain(sums.map(|sum| &sum.other_pruned))
    }

    /// The positions for one batch.
    pub fn draw(&self, seed: u64, level: usize, job: usize, batch: usize) -> Option<Draw> {
        let tap = (level as u64) << 32 | job as u64;
        let seed = tap::seed(seed, tap, batch as u64);
        self.inputs.draw(self.rows, seed)
    }

    /// What the dense model's taps are fed.
    pub fn dense_feeds(&self, draw: &Draw) -> Vec<(String, Tensor)> {
        let named = |placed: &Placed| (placed.positions.clone(), draw.places.clone());
        self.dense_taps().map(named).collect()
    }

    /// What the pruned model's taps are fed.
    pub fn pruned_feeds(&self, draw: &Draw) -> Vec<(String, Tensor)> {
        let mut taps = self.pruned_taps();
        let inputs = taps.next().map(|placed| (placed, &draw.indices));
        let rest = taps.map(|placed| (placed, &draw.places));
        let all = inputs.into_iter().chain(rest);
        all.map(|(placed, positions)| (placed.positions.clone(), positions.clone()))
            .collect()
    }

    /// Adds what the taps gathered of one batch.
    pub fn add(
        &mut self,
        draw: &Draw,
        dense: &[Tensor],
        pruned: &[Tensor],
    ) -> Result<(), StatisticsError> {
        let graph = self.graph;
        let none = vec![false; draw.places.len()];
        let (mut dense, mut pruned) = (dense.iter(), pruned.iter());
        let inputs = unpack(graph, &self.inputs, pruned.next(), &draw.padding)?;
        let samples = inputs.nrows() / none.len().max(1);
        let per_block = inputs.ncols() / self.moments.len().max(1);
        let centred: Vec<Mat<f64>> = self
            .moments
            .iter_mut()
            .enumerate()
            .map(|(block, moments)| {
                let part = inputs.subcols(block * per_block, per_block);
                moments.add(part.to_owned(), samples)
            })
            .collect();
        for target in &mut self.targets {
            let pick = |matrix: &Mat<f64>| {
                Mat::from_fn(matrix.nrows(), target.stays.len(), |i, j| {
                    matrix[(i, target.stays[j])]
                })
            };
            let output = unpack(graph, &target.output, dense.next(), &none)?;
            let output = pick(&output);
            add_blocks(&mut target.crosses, &output, &centred);
            let Some(sum) = &mut target.sum else { continue };
            let own = pick(&unpack(graph, &sum.own, dense.next(), &none)?);
            let other = pick(&unpack(graph, &sum.other, dense.next(), &none)?);
            let left = unpack(graph, &sum.other_pruned, pruned.next(), &none)?;
            for (channel, affine) in sum.affine.iter_mut().enumerate() {
                affine.add(output.col_as_slice(channel), own.col_as_slice(channel));
            }
            add_blocks(&mut sum.crosses, &(other - left), &centred);
        }
        Ok(())
    }

    /// Puts the fitted weights into `repaired`, which has those of the repair in one pass.
    pub fn solve(&self, repaired: &mut Repaired) -> Result<(), SurgeryError> {
        for target in &self.targets {
            let once = target.fold.present(repaired);
            let once = once.map_err(|error| target.fold.failed(error))?;
            let (mut matrices, mut shift) = (Vec::new(), Vec::new());
            for (block, (moments, once)) in self.moments.iter().zip(&once).enumerate() {
                let found = regression::solve(moments, &target.aim(block), once);
                let found = found.map_err(|error| SurgeryError::Repair {
                    node: target.fold.node().to_owned(),
                    error,
                })?;
                let Some((matrix, moved)) = found else {
                    return Ok(());
                };
                matrices.push(matrix);
                shift.extend(moved);
            }
            let folded = target.fold.tensors(&matrices, &shift, Onto::Zero);
            let folded = folded.map_err(|error| target.fold.failed(error))?;
            let put = target.fold.put(folded, repaired);
            put.map_err(|error| target.fold.failed(error))?;
        }
        Ok(())
    }
}

impl Target<'_> {
    fn aim(&self, block: usize) -> Aim<'_> {
        let outputs = self.stays.len() / self.crosses.len().max(1);
        let lost = self.sum.as_ref().map(|sum| {
            let affine = sum.affine.iter().skip(block * outputs).take(outputs);
            let weight = |affine: &Affine| affine.factor().map_or(0.0, |factor| 1.0 / factor);
            (&sum.crosses[block], affine.map(weight).collect())
        });
        Aim {
            outputs: &self.crosses[block],
            lost,
            gain: self.fold.consumer.gain,
        }
    }
}

fn add_blocks(crosses: &mut [Cross], targets: &Mat<f64>, inputs: &[Mat<f64>]) {
    let outputs = targets.ncols() / crosses.len().max(1);
    for (block, (cross, inputs)) in crosses.iter_mut().zip(inputs).enumerate() {
        let part = targets.subcols(block * outputs, outputs).to_owned();
        cross.add(part, inputs.as_ref());
    }
}

fn unpack(
    graph: &Graph,
    placed: &Placed,
    tensor: Option<&Tensor>,
    padding: &[bool],
) -> Result<Mat<f64>, StatisticsError> {
    let name = &graph.values[placed.tap.value].name;
    let missing = || StatisticsError::Shape {
        tensor: name.clone(),
        shape: Vec::new(),
    };
    placed.unpack(name, tensor.ok_or_else(missing)?, padding)
}

/// Adds one batch to all jobs: `found` has what the taps of the dense and of the pruned model
/// gathered, job after job.
pub(super) fn add_all(
    jobs: &mut [Job<'_>],
    draws: &[Draw],
    found: [Vec<Tensor>; 2],
) -> Result<(), SequentialError> {
    let [mut dense, mut pruned] = found.map(Vec::into_iter);
    let work: Vec<_> = jobs
        .iter_mut()
        .zip(draws)
        .map(|(job, draw)| {
            let counts = [job.dense_taps().count(), job.pruned_taps().count()];
            let dense: Vec<Tensor> = dense.by_ref().take(counts[0]).collect();
            let pruned: Vec<Tensor> = pruned.by_ref().take(counts[1]).collect();
            (job, draw, dense, pruned)
        })
        .collect();
    work.into_par_iter()
        .try_for_each(|(job, draw, dense, pruned)| job.add(draw, &dense, &pruned))?;
    Ok(())
}
