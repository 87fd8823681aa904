//! Tuning: the weights of a smaller model moved along gradients, so that what it makes inside and
//! at its outputs comes nearer to what the original makes of the same samples. No labels are read.
//!
//! The gradients come from a model too: what makes them is added to the smaller one by the rules
//! of its operators ([`crate::groups::Operator::backward`]), and ONNX Runtime runs it. Where a rule
//! is missing, gradients end; each layer has targets of its own, so those before still learn.
//!
//! With `x` the values of the smaller and `t` what stays of those of the original one, the error is
//! the mean over all targets of the mean of `(x - t)^2` over the variance of `t`, and as much again
//! of the outputs.

mod adam;
mod differentiate;
mod network;
mod samples;
mod targets;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::allowance::{Allowance, OverLimit};
use crate::data::{Batch, DataError};
use crate::graph::{Graph, GraphError};
use crate::groups::{Groups, Kept};
use crate::onnx::{Model, Tensor, TensorError};
use crate::ops;
use crate::runtime::{InputSpec, Runtime, RuntimeError};
use crate::shapes;
use crate::subgraph::SubgraphError;

use network::{Network, network};
use samples::Units;
use targets::{Target, targets};

/// How often each sample is seen.
const PASSES: usize = 24;
/// Samples behind a step, at least.
const SAMPLES_PER_STEP: usize = 16;
/// The largest step, as a part of a tensor's root mean square: the first that does no harm.
const RATES: [f32; 3] = [1e-2, 3e-3, 1e-3];
/// Steps after which that is seen, and by how much the error may have grown.
const TRIED: usize = 20;
const WORSE: f32 = 1.2;
const LOOKED_AT: usize = 4;
/// Steps until the largest.
const WARM_UP: usize = 10;
/// Batches that show the variance of targets.
const FIRST_BATCHES: usize = 4;

/// Why a model could not be tuned.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The samples cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The samples cannot be kept.
    #[error(transparent)]
    Subgraph(#[from] SubgraphError),
    /// A model cannot be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The smaller model cannot be read.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// It takes more memory than is allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// A tuned weight cannot be written.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What tuning reads.
#[derive(Clone, Copy)]
pub struct TuneRequest<'a> {
    /// The original model, in the basis of the smaller one's channels.
    pub model: &'a Model,
    /// Its graph.
    pub graph: &'a Graph,
    /// Its groups.
    pub groups: &'a Groups,
    /// One entry per channel.
    pub stays: &'a [bool],
    /// Where models run.
    pub runtime: &'a Runtime,
    /// Bytes of samples that are held in memory.
    pub memory: u64,
    /// What the whole run may take.
    pub allowance: Allowance,
    /// Units of samples in one run of a model.
    pub units: usize,
    /// The samples of a unit.
    pub unit: usize,
    /// Chooses the order of the samples and their mixtures.
    pub seed: u64,
}

/// The smaller model with its weights tuned; `None` where none of them can be. `progress` is called
/// with the number of steps first, then after each.
///
/// # Errors
/// See [`TuneError`].
pub fn tune(
    request: TuneRequest<'_>,
    pruned: &Model,
    units: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &dyn Fn(Progress),
) -> Result<Option<Model>, TuneError> {
    let mut units = Units::read(units, request.memory)?;
    let per_run = request.units.clamp(1, units.len().max(1));
    let first: Vec<usize> = (0..per_run).collect();
    let first = units.batch(&first, None)?;
    let Some((graph, targets)) = prepared(request, pruned, &first)? else {
        return Ok(None);
    };
    let mut tuning = Tuning::open(request, targets)?;
    tuning.look(&mut units, per_run)?;
    let Some(network) = network(pruned, &graph, &tuning.targets, request.runtime)? else {
        return Ok(None);
    };
    let learned = tuning.learn(network, &mut units, per_run, progress)?;
    learned.map(|network| written(pruned, &network)).transpose()
}

/// What tuning tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It takes that many steps.
    Steps(usize),
    /// One more is done.
    Done,
}

/// The smaller model's graph and the targets with the shapes of one batch.
fn prepared(
    request: TuneRequest<'_>,
    pruned: &Model,
    batch: &Batch,
) -> Result<Option<(Graph, Vec<Target>)>, TuneError> {
    let shaped = |model: &Model| -> Result<Graph, TuneError> {
        let mut graph = ops::graph(model)?;
        let specs: Vec<InputSpec> = batch.iter().map(InputSpec::of).collect();
        let (runtime, allowance) = (request.runtime, request.allowance);
        if !shapes::infer(model, &mut graph, runtime, &specs, allowance)? {
            shapes::probe(model, &mut graph, runtime, batch)?;
        }
        Ok(graph)
    };
    let (dense, graph) = (shaped(request.model)?, shaped(pruned)?);
    if dense.values.len() != request.graph.values.len() {
        return Ok(None);
    }
    let kept = Kept::new(request.groups, request.stays);
    let targets = targets(&dense, request.groups, &kept);
    Ok((!targets.is_empty()).then_some((graph, targets)))
}

/// The part of the largest rate that a step has: it rises first, and falls to 0 as a cosine does.
fn course(step: usize, steps: usize) -> f32 {
    let done = step as f32 / steps.max(1) as f32;
    let falling = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
    falling * ((step + 1) as f32 / WARM_UP as f32).min(1.0)
}

/// Draws batches.
struct Draw<'a> {
    units: &'a mut Units,
    per_run: usize,
    per_step: usize,
    order: Vec<usize>,
}

impl Draw<'_> {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Result<Batch, TuneError> {
        if self.order.len() < self.per_run {
            self.order = self.units.shuffled(rng);
        }
        let wanted = self.order.split_off(self.order.len() - self.per_run);
        Ok(self.units.batch(&wanted, Some(rng))?)
    }
}

struct Tuning {
    targets: Vec<Target>,
    dense: crate::runtime::Session,
    rng: ChaCha8Rng,
    unit: usize,
}

impl Tuning {
    fn open(request: TuneRequest<'_>, targets: Vec<Target>) -> Result<Self, TuneError> {
        let model = targets::making(request.model, &targets);
        Ok(Tuning {
            targets,
            dense: request.runtime.session(&model)?,
            rng: ChaCha8Rng::seed_from_u64(request.seed),
            unit: request.unit.max(1),
        })
    }

    /// Looks at the variance of the targets.
    fn look(&mut self, units: &mut Units, per_run: usize) -> Result<(), TuneError> {
        let order = units.shuffled(&mut self.rng);
        let names: Vec<String> = self.targets.iter().map(Target::made).collect();
        for wanted in order.chunks_exact(per_run).take(FIRST_BATCHES) {
            let batch = units.batch(wanted, None)?;
            let made = self.dense.run(&batch, &names)?;
            for (target, made) in self.targets.iter_mut().zip(&made) {
                target.add(made);
            }
        }
        Ok(())
    }

    /// Takes all steps; `None` where the error or a gradient is no number.
    fn learn(
        &mut self,
        mut network: Network,
        units: &mut Units,
        per_run: usize,
        progress: &dyn Fn(Progress),
    ) -> Result<Option<Network>, TuneError> {
        let passes = std::env::var("MIPP_PASSES").ok().and_then(|v| v.parse().ok()).unwrap_or(PASSES);
        let runs = units.len() / per_run;
        let per_step = SAMPLES_PER_STEP.div_ceil(per_run * self.unit).min(runs.max(1));
        let steps = passes * runs / per_step;
        let mut draw = Draw { units, per_run, per_step, order: Vec::new() };
        progress(Progress::Steps(steps));
        let before = self.error(&mut network, &mut draw)?;
        let start: Vec<adam::Learner> = network.learners.clone();
        for rate in RATES {
            network.learners.clone_from(&start);
            let mut first = Vec::new();
            for step in 0..steps {
                let Some(error) = self.step(&mut network, &mut draw, rate * course(step, steps), step)? else {
                    return Ok(None);
                };
                if std::env::var("MIPP_LOSS").is_ok() && step % 10 == 0 { eprintln!("rate {rate} step {step} {error:.4}"); }
                first.push(error);
                if step + 1 == TRIED && rate > RATES[RATES.len() - 1] {
                    let after = self.error(&mut network, &mut draw)?;
                    if std::env::var("MIPP_LOSS").is_ok() { eprintln!("rate {rate}: {before:.4} {after:.4}"); }
                    if after > before * WORSE { break; }
                }
                progress(Progress::Done);
            }
            if first.len() == steps { break; }
        }
        Ok(Some(network))
    }

    /// The error on some samples that are not mixed, the same each time.
    fn error(&mut self, network: &mut Network, draw: &mut Draw<'_>) -> Result<f32, TuneError> {
        let mut sum = 0.0;
        for run in 0..LOOKED_AT {
            let of_run = |place: usize| (run * draw.per_run + place) * 7919 % draw.units.len();
            let wanted: Vec<usize> = (0..draw.per_run).map(of_run).collect();
            let batch = draw.units.batch(&wanted, None)?;
            let found = self.gradients(network, batch)?;
            let error = found.first().map(Tensor::to_f32).transpose()?;
            sum += error.map_or(0.0, |error| error.iter().sum::<f32>());
        }
        Ok(sum / LOOKED_AT as f32)
    }

    /// One step; the mean error of its runs before it.
    fn step(&mut self, network: &mut Network, draw: &mut Draw<'_>, rate: f32, step: usize) -> Result<Option<f32>, TuneError> {
        let empty = |learner: &adam::Learner| vec![0.0; learner.values.len()];
        let mut sums: Vec<Vec<f32>> = network.learners.iter().map(empty).collect();
        let mut loss = 0.0;
        for _ in 0..draw.per_step {
            let batch = draw.next(&mut self.rng)?;
            let gradients = self.gradients(network, batch)?;
            let Some((error, gradients)) = gradients.split_first() else { return Ok(None) };
            loss += error.to_f32()?.iter().sum::<f32>() / draw.per_step as f32;
            if !adam::add(&mut sums, gradients) {
                return Ok(None);
            }
        }
        let number = i32::try_from(step + 1).unwrap_or(i32::MAX);
        adam::step(&mut network.learners, &sums, rate, number);
        Ok(Some(loss))
    }

    /// The error on a batch, and the gradients of what learns.
    fn gradients(&mut self, network: &mut Network, batch: Batch) -> Result<Vec<Tensor>, TuneError> {
        let names: Vec<String> = network
            .targets
            .iter()
            .map(|&place| self.targets[place].made())
            .collect();
        let made = self.dense.run_held(&batch, &names)?;
        let mut feeds = batch;
        feeds.extend(names.into_iter().zip(made));
        for learner in &network.learners {
            let tensor = Tensor::from_f32(&learner.shape, learner.values.clone())?;
            feeds.push((learner.name.clone(), tensor));
        }
        Ok(network.session.run_held(&feeds, &network.outputs)?)
    }
}

/// The model with what was learned.
fn written(pruned: &Model, network: &Network) -> Result<Model, TuneError> {
    let mut model = pruned.clone();
    if let Some(main) = model.proto.graph.as_mut() {
        for learner in &network.learners {
            let tensor = Tensor::from_f32(&learner.shape, learner.values.clone())?;
            let mut stored = main.initializer.iter_mut();
            if let Some(stored) = stored.find(|stored| stored.name() == learner.name) {
                tensor.store(stored);
            }
        }
    }
    Ok(model)
}
