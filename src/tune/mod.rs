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
mod course;
mod differentiate;
mod network;
mod samples;
mod targets;

use crate::allowance::{Allowance, OverLimit};
use crate::data::{Batch, DataError};
use crate::graph::{Graph, GraphError};
use crate::groups::{Groups, Kept};
use crate::onnx::{Model, Tensor, TensorError};
use crate::ops;
use crate::runtime::{InputSpec, Runtime, RuntimeError};
use crate::shapes;
use crate::subgraph::SubgraphError;

use course::Course;
pub use network::{Drawn, Learning, learning};
use network::{Network, network};
use samples::Units;
use targets::targets;

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
    pub per_run: usize,
    /// The samples of a unit.
    pub unit: usize,
    /// How often each sample is seen.
    pub passes: usize,
    /// Chooses the order of the samples and their mixtures.
    pub seed: u64,
}

/// A model that was tuned.
pub struct Tuned {
    /// The model.
    pub model: Model,
    /// Names of the nodes where gradients end.
    pub ends: Vec<String>,
}

/// What tuning tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It takes that many steps.
    Steps(usize),
    /// One more is done.
    Done,
}

/// The smaller model with its weights tuned; `None` where none of them can be. `units` are the
/// samples, each unit of them alone.
///
/// # Errors
/// See [`TuneError`].
pub fn tune(
    request: TuneRequest<'_>,
    pruned: &Model,
    units: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &dyn Fn(Progress),
) -> Result<Option<Tuned>, TuneError> {
    let mut units = Units::read(units, request.memory)?;
    let per_run = request.per_run.clamp(1, units.len().max(1));
    let first: Vec<usize> = (0..per_run).collect();
    let first = units.batch(&first, None)?;
    let dense = observed(&request, request.model, &first)?;
    let graph = observed(&request, pruned, &first)?;
    let kept = Kept::new(request.groups, request.stays);
    let targets = targets(&dense, request.groups, &kept);
    if targets.is_empty() {
        return Ok(None);
    }
    let mut course = Course::open(&request, targets, units, per_run)?;
    course.look()?;
    let Some(network) = network(pruned, &graph, course.targets(), request.runtime)? else {
        return Ok(None);
    };
    let Some(network) = course.follow(network, progress)? else {
        return Ok(None);
    };
    let ends = network.ends.iter();
    Ok(Some(Tuned {
        ends: ends.map(|&node| graph.nodes[node].name.clone()).collect(),
        model: written(pruned, &network)?,
    }))
}

/// A model's graph with the shapes of one batch.
fn observed(request: &TuneRequest<'_>, model: &Model, batch: &Batch) -> Result<Graph, TuneError> {
    let mut graph = ops::graph(model)?;
    let specs: Vec<InputSpec> = batch.iter().map(InputSpec::of).collect();
    let (runtime, allowance) = (request.runtime, request.allowance);
    if !shapes::infer(model, &mut graph, runtime, &specs, allowance)? {
        shapes::probe(model, &mut graph, runtime, batch)?;
    }
    Ok(graph)
}

/// The model with what was learned.
fn written(pruned: &Model, network: &Network) -> Result<Model, TuneError> {
    let mut model = pruned.clone();
    let main = model.proto.graph.as_mut();
    for stored in main.into_iter().flat_map(|main| &mut main.initializer) {
        let mut learners = network.learners.iter();
        if let Some(learner) = learners.find(|learner| learner.name == stored.name()) {
            let tensor = Tensor::from_f32(&learner.shape, learner.values.clone())?;
            tensor.store(stored);
        }
    }
    Ok(model)
}
