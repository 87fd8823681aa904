//! One pass of the calibration data through the tapped model: samples, accumulate, drop.

use rayon::prelude::*;

use crate::calibrate::moments::{Covariance, Moments};
use crate::calibrate::tap::{self, Draw, Placed};
use crate::calibrate::{Batch, CalibrateError};
use crate::graph::Graph;
use crate::groups::Groups;
use crate::onnx::{Model, Tensor};
use crate::runtime::{Runtime, RuntimeError};

/// Why statistics could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// No sample was read.
    #[error("the calibration data hold no sample: give at least one, better hundreds")]
    NoSamples,
    /// Values that are not numbers inside the model.
    #[error(
        "the model computes {value} at '{tensor}' on the calibration data: check that they are \
         preprocessed as the model expects"
    )]
    NotFinite {
        /// The tensor inside the model.
        tensor: String,
        /// The value.
        value: f64,
    },
    /// A tensor whose shape changed between two runs.
    #[error(
        "samples of '{tensor}' have shape {shape:?}, which does not fit the shape seen first: give \
         calibration samples of one shape"
    )]
    Shape {
        /// The tensor inside the model.
        tensor: String,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] CalibrateError),
    /// The model could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Taps with more inputs than this are observed per channel, without their unfolding.
const MOST_INPUTS: usize = 8192;

/// Second moments of what every consumer reads.
pub struct Statistics {
    covariances: Vec<Observed>,
    of_consumer: Vec<Option<usize>>,
    /// Samples that were read.
    pub samples: usize,
}

/// What is known of one tap: a covariance per block of the consumers that share it.
pub struct Observed {
    /// Inputs per channel: 1 where the unfolding was left out.
    pub taps: usize,
    /// One covariance per block of channels.
    pub blocks: Vec<Covariance>,
}

struct Gatherer {
    tensor: String,
    placed: Placed,
    blocks: usize,
    rows: usize,
    moments: Vec<Moments>,
}

impl Statistics {
    /// Runs `batches` through `model`, tapped where channels that may leave are read. `samples` is how many
    /// samples will come; `seed` chooses the positions.
    ///
    /// # Errors
    /// Data that cannot be read, or a failing run.
    pub fn gather(
        model: &Model,
        graph: &Graph,
        groups: &Groups,
        runtime: &Runtime,
        batches: impl Iterator<Item = Result<Batch, CalibrateError>>,
        options: &GatherOptions<'_>,
    ) -> Result<Self, StatisticsError> {
        let (mut gatherers, of_consumer) = gatherers(graph, groups, options.samples);
        let mut seen = 0;
        if gatherers.is_empty() {
            return Ok(Statistics {
                covariances: Vec::new(),
                of_consumer,
                samples: 0,
            });
        }
        let placed: Vec<Placed> = gatherers.iter().map(|g| g.placed.clone()).collect();
        let outputs: Vec<String> = placed.iter().map(|p| p.output.clone()).collect();
        let mut session = runtime.session(&tap::tapped(model, graph, &placed))?;
        for (number, batch) in batches.enumerate() {
            let batch = batch?;
            let samples = batch
                .first()
                .and_then(|(_, tensor)| tensor.shape.first())
                .copied();
            let samples = samples.unwrap_or(1);
            let mut feeds = batch;
            let mut draws = Vec::new();
            for (index, gatherer) in gatherers.iter().enumerate() {
                let seed = tap::seed(options.seed, index as u64, number as u64);
                let draw = gatherer.placed.draw(gatherer.rows, seed);
                let draw = draw.ok_or_else(|| StatisticsError::Shape {
                    tensor: gatherer.tensor.clone(),
                    shape: Vec::new(),
                })?;
                feeds.push((gatherer.placed.positions.clone(), draw.indices.clone()));
                draws.push(draw);
            }
            let found = session.run(&feeds, &outputs)?;
            let work: Vec<_> = gatherers.iter_mut().zip(draws).zip(found).collect();
            work.into_par_iter()
                .try_for_each(|((gatherer, draw), tensor)| gatherer.add(&draw, &tensor, samples))?;
            seen += samples;
            (options.progress)(samples);
        }
        let covariances: Option<Vec<Observed>> =
            gatherers.into_par_iter().map(Gatherer::finish).collect();
        let covariances = covariances.ok_or(StatisticsError::NoSamples)?;
        Ok(Statistics {
            covariances,
            of_consumer,
            samples: seen,
        })
    }

    /// What was observed at a consumer's input; `None` where it could not be tapped.
    #[must_use]
    pub fn of(&self, consumer: usize) -> Option<&Observed> {
        self.covariances
            .get(self.of_consumer.get(consumer).copied().flatten()?)
    }
}

/// How [`Statistics::gather`] samples.
pub struct GatherOptions<'a> {
    /// Number of samples that will come.
    pub samples: usize,
    /// Chooses the positions.
    pub seed: u64,
    /// Called with the number of samples of every batch that is done.
    pub progress: &'a dyn Fn(usize),
}

fn gatherers(
    graph: &Graph,
    groups: &Groups,
    samples: usize,
) -> (Vec<Gatherer>, Vec<Option<usize>>) {
    let consumers = &groups.consumers;
    let mut of_consumer = vec![None; consumers.len()];
    let mut gatherers = Vec::new();
    for (mut placed, users) in tap::place(graph, consumers, &groups.judges()) {
        // Consumers that share a tap differ in blocks only if their weights do; then the finest
        // common observation is the whole.
        let blocks = users
            .iter()
            .map(|&user| consumers[user].layout.blocks)
            .collect::<Vec<_>>();
        let blocks = match blocks.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
            _ => 1,
        };
        let per_block = placed.channels / blocks.max(1);
        if per_block * placed.tap.taps() > MOST_INPUTS && placed.tap.window.is_some() {
            placed = placed.without_window(graph);
        }
        let inputs = per_block * placed.tap.taps();
        if per_block == 0 || inputs > MOST_INPUTS || placed.places == 0 {
            continue;
        }
        let rows = placed.rows(inputs, samples);
        for user in users {
            of_consumer[user] = Some(gatherers.len());
        }
        let moments = (0..blocks)
            .map(|_| Moments::of_rows(inputs, rows * samples))
            .collect();
        let tensor = graph.values[placed.tap.value].name.clone();
        gatherers.push(Gatherer {
            tensor,
            placed,
            blocks,
            rows,
            moments,
        });
    }
    (gatherers, of_consumer)
}

impl Gatherer {
    /// Adds one gathered tensor: `[n, channels, rows * taps]` or `[n, rows, channels]`.
    fn add(&mut self, draw: &Draw, tensor: &Tensor, samples: usize) -> Result<(), StatisticsError> {
        let data = self.placed.unpack(&self.tensor, tensor, &draw.padding)?;
        let first = tensor.shape.first().copied().unwrap_or_default();
        let units = if first % samples.max(1) == 0 {
            samples
        } else {
            first
        };
        let width = data.ncols() / self.blocks;
        for (block, moments) in self.moments.iter_mut().enumerate() {
            moments.add(data.subcols(block * width, width).to_owned(), units);
        }
        Ok(())
    }

    fn finish(self) -> Option<Observed> {
        let taps = self.placed.tap.taps() * self.placed.tap.covered;
        let blocks: Option<Vec<_>> = self.moments.iter().map(Moments::covariance).collect();
        Some(Observed {
            taps,
            blocks: blocks?,
        })
    }
}
