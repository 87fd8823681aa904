//! One pass of the calibration data through the tapped model: samples, accumulate, drop.

use faer::Mat;
use rayon::prelude::*;

use crate::data::{Batch, DataError, Padding};
use crate::graph::Graph;
use crate::groups::Groups;
use crate::linalg::products;
use crate::onnx::{Model, Tensor};
use crate::runtime::Runtime;
use crate::statistics::copula::{self, SampledRows};
use crate::statistics::moments::{MergeError, Moments};
use crate::statistics::patches::Patches;
use crate::statistics::subsamples::SUBSAMPLES;
use crate::statistics::{
    Covariance, Estimator, GatherOptions, Observed, Statistics, StatisticsError,
};
use crate::taps::{self, Draw, Placed, TapError};

/// Taps with more inputs than this are observed per channel, without their unfolding.
const MOST_INPUTS: usize = 8192;
/// So many elements of a tap's rows wait until they are multiplied.
const MOST_WAITING: usize = 1 << 20;

/// Sums over the samples at every tapped input: what statistics are made of, and what adds up.
pub struct Sums {
    pub(super) taps: Vec<TapSums>,
    pub(super) of_consumer: Vec<Option<usize>>,
    /// Samples that were read.
    pub samples: usize,
}

/// The sums of one tap.
pub(super) struct TapSums {
    /// The tensor, its axis and the window, as text.
    pub place: String,
    /// Inputs per channel.
    pub kernel: usize,
    /// Inputs of each block of channels.
    pub inputs: usize,
    /// How many blocks there are.
    pub count: usize,
    /// The sums of each block.
    pub blocks: Vec<Moments>,
    /// Rows for ranks, where these were asked for; no part of what files hold.
    kept: Option<SampledRows>,
}

impl TapSums {
    /// Covariances of each block's channels by ranks; none where no rows were kept.
    fn ranked(&self) -> Vec<Covariance> {
        let channels = self.inputs / self.kernel.max(1);
        let found = self.kept.iter().flat_map(|rows| {
            (0..self.count).map(move |block| rows.covariance(block * channels, channels))
        });
        found.flatten().collect()
    }
}

struct Gatherer {
    tensor: String,
    placed: Placed,
    blocks: usize,
    inputs: usize,
    rows: usize,
    moments: Vec<Moments>,
    /// In place of them where that is less work.
    patches: Option<Patches>,
    /// SampledRows that wait for more to be multiplied with them, and of how many samples they are.
    waiting: (Vec<Mat<f32>>, usize),
    kept: Option<SampledRows>,
}

impl Sums {
    /// Runs `batches` through `model`, tapped where channels that may leave are read.
    /// `samples` is how many samples will come; `seed` chooses the positions.
    ///
    /// # Errors
    /// Data that cannot be read, or a failing run.
    pub fn gather(
        model: &Model,
        graph: &Graph,
        groups: &Groups,
        runtime: &Runtime,
        batches: impl Iterator<Item = Result<Batch, DataError>>,
        options: &GatherOptions<'_>,
        mergeable: bool,
    ) -> Result<Self, StatisticsError> {
        let (mut gatherers, of_consumer) = gatherers(graph, groups, options.samples);
        let unfolds = mergeable || options.estimator == Estimator::Copula;
        for gatherer in &mut gatherers {
            if !unfolds && let Some(patches) = gatherer.patches(options.samples) {
                gatherer.patches = Some(patches);
                gatherer.placed.is_whole = true;
                continue;
            }
            gatherer.hand_out(graph);
            let rows = gatherer.rows.saturating_mul(options.samples);
            let taps = gatherer.placed.tap.inputs_per_channel();
            let moments = Moments::of_rows(gatherer.inputs, rows).dealt(taps);
            let moments = if mergeable {
                moments.mergeable()
            } else {
                moments
            };
            gatherer.moments = vec![moments; gatherer.blocks];
        }
        if options.estimator == Estimator::Copula {
            keep_rows(&mut gatherers, options);
        }
        let mut seen = 0;
        if gatherers.is_empty() {
            return Ok(Sums::of(gatherers, of_consumer, 0));
        }
        let placed: Vec<Placed> = gatherers.iter().map(|g| g.placed.clone()).collect();
        let outputs: Vec<String> = placed.iter().map(|p| p.output.clone()).collect();
        let mut session = runtime.session(&taps::tapped(model, graph, &placed))?;
        for (number, batch) in batches.enumerate() {
            let batch = batch?;
            let samples = batch
                .first()
                .and_then(|(_, tensor)| tensor.shape.first())
                .copied();
            let samples = samples.unwrap_or(1);
            let padding = Padding::of(&batch);
            let mut feeds = batch;
            let mut draws = Vec::new();
            for (index, gatherer) in gatherers.iter().enumerate() {
                let seed = taps::seed(options.seed, index as u64, number as u64);
                let draw = gatherer.draw(seed, padding.as_ref());
                let draw = draw.ok_or_else(|| TapError::Shape {
                    tensor: gatherer.tensor.clone(),
                    shape: Vec::new(),
                })?;
                if !gatherer.placed.is_whole {
                    feeds.push((gatherer.placed.positions.clone(), draw.reads.tensor.clone()));
                }
                draws.push(draw);
            }
            let found = session.run_held(&feeds, &outputs)?;
            let work: Vec<_> = gatherers.iter_mut().zip(draws).zip(found).collect();
            work.into_par_iter()
                .try_for_each(|((gatherer, draw), tensor)| gatherer.add(&draw, &tensor, samples))?;
            seen += samples;
            (options.progress)(samples);
        }
        // Its memory is that of the largest batch.
        drop(session);
        Ok(Sums::of(gatherers, of_consumer, seen))
    }

    fn of(gatherers: Vec<Gatherer>, of_consumer: Vec<Option<usize>>, samples: usize) -> Self {
        Sums {
            taps: gatherers.into_par_iter().map(Gatherer::finish).collect(),
            of_consumer,
            samples,
        }
    }

    /// What the model's consumers would be observed with, before anything was.
    pub(super) fn none(graph: &Graph, groups: &Groups) -> Self {
        let (gatherers, of_consumer) = gatherers(graph, groups, 1);
        Sums::of(gatherers, of_consumer, 0)
    }

    /// Bytes that statistics of such a model take, whatever the samples: for each block of inputs
    /// the sums over the parts of the samples, and a covariance.
    #[must_use]
    pub fn bytes(graph: &Graph, groups: &Groups) -> u64 {
        let triangle = |size: u64| size * (size + 1) / 2;
        let numbers = |gatherer: &Gatherer| {
            let inputs = gatherer.inputs as u64;
            let taps = gatherer.placed.tap.inputs_per_channel().max(1) as u64;
            let part = triangle(inputs / taps) + inputs;
            let block = SUBSAMPLES as u64 * part + triangle(inputs);
            block.saturating_mul(gatherer.blocks as u64)
        };
        let (gatherers, _) = gatherers(graph, groups, 1);
        let all = gatherers.iter().map(numbers);
        let all = all.fold(0, u64::saturating_add);
        all.saturating_mul(size_of::<f64>() as u64)
    }

    /// Adds the sums of another run on the same model. The other's must be mergeable.
    ///
    /// # Errors
    /// The sums are those of different tensors, or the other's were merged already.
    pub fn merge(&mut self, other: Sums) -> Result<(), MergeError> {
        if self.taps.len() != other.taps.len() {
            return Err(MergeError);
        }
        for (tap, more) in self.taps.iter_mut().zip(other.taps) {
            if tap.place != more.place || tap.blocks.len() != more.blocks.len() {
                return Err(MergeError);
            }
            for (block, more) in tap.blocks.iter_mut().zip(more.blocks) {
                block.merge(more)?;
            }
        }
        self.samples += other.samples;
        Ok(())
    }

    /// Means and covariances.
    ///
    /// # Errors
    /// [`StatisticsError::NoSamples`] where nothing was seen.
    pub fn statistics(self) -> Result<Statistics, StatisticsError> {
        let observed = |tap: TapSums| {
            let ranked = tap.ranked();
            let blocks = tap.blocks.into_iter();
            let blocks = blocks.map(|block| Some((block.covariance()?, block.into_parts()?)));
            let (blocks, parts) = blocks.collect::<Option<Vec<_>>>()?.into_iter().unzip();
            Some(Observed {
                kernel: tap.kernel,
                blocks,
                parts,
                ranked,
            })
        };
        let covariances: Option<Vec<Observed>> = self.taps.into_par_iter().map(observed).collect();
        Ok(Statistics {
            covariances: covariances.ok_or(StatisticsError::NoSamples)?,
            of_consumer: self.of_consumer,
            samples: self.samples,
        })
    }
}

/// One below the other.
fn stacked(batches: &[Mat<f32>]) -> Mat<f32> {
    let rows = batches.iter().map(Mat::nrows).sum();
    let mut all = Mat::zeros(rows, batches.first().map_or(0, Mat::ncols));
    for column in 0..all.ncols() {
        let mut rest = all.col_as_slice_mut(column);
        for batch in batches {
            let (to, more) = rest.split_at_mut(batch.nrows());
            to.copy_from_slice(batch.col_as_slice(column));
            rest = more;
        }
    }
    all
}

/// Has rows kept, no more in all than memory allows.
fn keep_rows(gatherers: &mut [Gatherer], options: &GatherOptions<'_>) {
    let channels = |gatherer: &Gatherer| gatherer.inputs * gatherer.blocks / gatherer.kernel();
    let all: usize = gatherers.iter().map(channels).sum();
    let wanted = copula::rows_of_each(all);
    for (index, gatherer) in gatherers.iter_mut().enumerate() {
        let (channels, taps) = (channels(gatherer), gatherer.kernel());
        let seed = taps::seed(options.seed, index as u64, u64::MAX);
        gatherer.kept = Some(SampledRows::new(
            channels,
            taps,
            options.samples,
            wanted,
            seed,
        ));
    }
}

fn gatherers(
    graph: &Graph,
    groups: &Groups,
    samples: usize,
) -> (Vec<Gatherer>, Vec<Option<usize>>) {
    let consumers = &groups.consumers;
    let mut of_consumer = vec![None; consumers.len()];
    let mut gatherers = Vec::new();
    for (mut placed, users) in taps::place(graph, consumers, &groups.judges()) {
        // Consumers that share a tap differ in blocks only if their weights do; then the finest
        // common observation is the whole.
        let blocks = users
            .iter()
            .map(|&user| consumers[user].observed_blocks())
            .collect::<Vec<_>>();
        let blocks = match blocks.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
            _ => 1,
        };
        let per_block = placed.channels / blocks.max(1);
        if per_block * placed.tap.kernel_positions() > MOST_INPUTS && placed.tap.window.is_some() {
            placed = placed.without_window(graph);
        }
        let inputs = per_block * placed.tap.kernel_positions();
        if per_block == 0 || inputs > MOST_INPUTS || placed.places == 0 {
            continue;
        }
        let rows = placed.rows(inputs, samples);
        for user in users {
            of_consumer[user] = Some(gatherers.len());
        }
        let tensor = graph.values[placed.tap.value].name.clone();
        gatherers.push(Gatherer {
            tensor,
            placed,
            blocks,
            inputs,
            rows,
            moments: Vec::new(),
            patches: None,
            waiting: (Vec::new(), 0),
            kept: None,
        });
    }
    (gatherers, of_consumer)
}

impl Gatherer {
    /// Inputs per channel.
    fn kernel(&self) -> usize {
        (self.placed.tap.kernel_positions() * self.placed.tap.covered).max(1)
    }

    /// Sums for patches of one block of many inputs, where all of them are less work than the rows
    /// asked for.
    fn patches(&self, samples: usize) -> Option<Patches> {
        let is_apt = self.blocks == 1 && products::is_single(self.inputs);
        let tap = &self.placed.tap;
        let window = tap.window.as_ref().filter(|_| is_apt && tap.axis == 1)?;
        if Moments::wants_folds(self.inputs, self.placed.places.saturating_mul(samples)) {
            return None;
        }
        Patches::new(self.placed.channels, window, self.rows)
    }

    /// Decides whether the model hands out the tensor as a whole.
    fn hand_out(&mut self, graph: &Graph) {
        let placed = &self.placed;
        self.placed = if self.rows == placed.places && placed.tap.window.is_none() {
            Placed {
                is_whole: true,
                ..placed.clone()
            }
        } else {
            placed.clone().whole_for(graph, self.rows)
        };
    }

    fn draw(&self, seed: u64, padding: Option<&Padding>) -> Option<Draw> {
        match &self.patches {
            Some(patches) => self.placed.draw_elements(patches.elements()),
            None => self.placed.draw(self.rows, seed, padding),
        }
    }

    /// Adds one gathered tensor: `[n, channels, rows * taps]` or `[n, rows, channels]`.
    fn add(&mut self, draw: &Draw, tensor: &Tensor, samples: usize) -> Result<(), StatisticsError> {
        let first = tensor.shape.first().copied().unwrap_or_default();
        let units = if first % samples.max(1) == 0 {
            samples
        } else {
            first
        };
        let (name, entries) = (&self.tensor, (&draw.reads, draw.padding.as_slice()));
        if let Some(patches) = &mut self.patches {
            patches.add(&self.placed.values(name, tensor, draw.padding.len())?);
            return Ok(());
        }
        if self.moments.len() == 1 && self.kept.is_none() && products::is_single(self.inputs) {
            let rows = self.placed.unpack(name, tensor, entries)?;
            self.waiting.0.push(draw.counted(rows));
            self.waiting.1 += units;
            let rows: usize = self.waiting.0.iter().map(Mat::nrows).sum();
            if rows * self.inputs >= MOST_WAITING {
                self.add_waiting();
            }
            return Ok(());
        }
        let data = draw.counted(self.placed.unpack(name, tensor, entries)?);
        if let Some(kept) = &mut self.kept {
            kept.add(&data, units);
        }
        if let [moments] = self.moments.as_mut_slice() {
            moments.add(data, units);
            return Ok(());
        }
        let width = data.ncols() / self.blocks;
        for (block, moments) in self.moments.iter_mut().enumerate() {
            moments.add(data.subcols(block * width, width).to_owned(), units);
        }
        Ok(())
    }

    /// Adds the rows that wait: a product of many rows goes through the sums once, and not once for
    /// each batch.
    fn add_waiting(&mut self) {
        let (mut batches, samples) = std::mem::take(&mut self.waiting);
        let all = match batches.len() {
            0 => return,
            1 => batches.swap_remove(0),
            _ => stacked(&batches),
        };
        if let [moments] = self.moments.as_mut_slice() {
            moments.add_single(all, samples);
        }
    }

    fn finish(mut self) -> TapSums {
        self.add_waiting();
        let tap = &self.placed.tap;
        TapSums {
            place: match &tap.window {
                Some(window) => format!("{}[{}]/{} {window:?}", self.tensor, tap.axis, tap.covered),
                None => match tap.stack {
                    Some(stack) => format!("{}[{stack}][{}]", self.tensor, tap.axis),
                    None => format!("{}[{}]/{}", self.tensor, tap.axis, tap.covered),
                },
            },
            kernel: tap.inputs_per_channel(),
            inputs: self.inputs,
            count: self.blocks,
            blocks: match self.patches {
                Some(patches) => vec![patches.finish()],
                None => self.moments,
            },
            kept: self.kept,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::groups::Scope;
    use crate::onnx;
    use crate::ops;
    use crate::runtime::RuntimeOptions;
    use crate::shapes::probe;

    const BATCH: usize = 8;

    #[test]
    fn batches_that_wait_come_below_each_other() {
        let all = Mat::from_fn(5, 3, |i, j| (10 * i + j) as f32);
        let part = |first, count| all.as_ref().subrows(first, count).to_owned();
        assert_eq!(stacked(&[part(0, 2), part(2, 0), part(2, 3)]), all);
        assert_eq!(stacked(&[]).nrows(), 0);
    }

    /// What leaves the device is counted; what is inside comes from fetching all of it.
    #[test]
    fn samples_leave_the_device_and_activations_do_not() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/resnet_bn_torchscript.onnx"
        );
        let model = onnx::load(path.as_ref()).unwrap();
        let mut graph = ops::graph(&model).unwrap();
        let runtime = Runtime::start(&RuntimeOptions::default()).unwrap();
        let values: Vec<f32> = (0..BATCH * 28 * 28).map(|i| (i % 17) as f32).collect();
        let image = Tensor::from_f32(&[BATCH, 1, 28, 28], values).unwrap();
        let batch = vec![("input".to_owned(), image)];
        probe(&model, &mut graph, &runtime, &batch).unwrap();
        let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
        let leaving = |samples: usize| {
            let (gatherers, _) = gatherers(&graph, &groups, samples);
            let placed: Vec<Placed> = gatherers.iter().map(|g| g.placed.clone()).collect();
            let names: Vec<String> = placed.iter().map(|p| p.output.clone()).collect();
            let mut session = runtime
                .session(&taps::tapped(&model, &graph, &placed))
                .unwrap();
            assert_eq!(session.outputs(), names, "and nothing else");
            let draws = gatherers
                .iter()
                .map(|g| g.placed.draw(g.rows, 0, None).unwrap());
            let positions = placed.iter().map(|p| p.positions.clone());
            let mut feeds = batch.clone();
            feeds.extend(positions.zip(draws.map(|draw| draw.reads.tensor)));
            let found = session.run(&feeds, &names).unwrap();
            let bytes: usize = found.iter().map(|t| t.to_f32().unwrap().len() * 4).sum();
            let rows: usize = gatherers.iter().map(|g| g.rows * g.inputs * g.blocks).sum();
            assert_eq!(bytes, 4 * BATCH * rows);
            bytes / BATCH
        };
        let floats = graph.values.iter().filter(|value| value.constant.is_none());
        let inside: usize = floats
            .filter_map(|value| Some(value.shape.as_ref()?.iter().product::<usize>() / BATCH * 4))
            .sum();
        // Many samples need few positions of each.
        assert!(leaving(2048) * 10 < inside, "{} {inside}", leaving(2048));
        assert!(leaving(16384) * 3 < leaving(2048));
    }
}
