//! The statistics alone: what calibration data show at the input of every layer whose channels may
//! leave. `cargo run --example statistics -- MODEL.onnx DATA.npz`

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use onnx_mipp::data::{self, ReaderOptions};
use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx;
use onnx_mipp::ops;
use onnx_mipp::runtime::{Runtime, RuntimeOptions, restart_without_telemetry};
use onnx_mipp::shapes::probe;
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};

/// Samples of one run.
const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    restart_without_telemetry()?;
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(model), Some(data)) = (arguments.next(), arguments.next()) else {
        return Err("usage: statistics MODEL.onnx DATA.npz".into());
    };
    print!("{}", describe(model, data)?);
    Ok(())
}

/// A line for each layer: its inputs (channels times the positions of its window), their mean
/// variance, and how far the covariance is to be trusted.
pub fn describe(model: PathBuf, data: PathBuf) -> Result<String, Box<dyn Error>> {
    let model = onnx::load(&model)?.inlined().in_order();
    let mut graph = ops::graph(&model)?;
    let runtime = Runtime::start(&RuntimeOptions::default())?;
    let inputs = runtime.session(&model)?.inputs();
    let data = data::open(&[data], &inputs, &ReaderOptions::default())?;

    // Shapes are observed in one small run; a batch of two cannot be mistaken for an axis of one.
    let all: Vec<usize> = (0..data.len()).collect();
    let few = all.get(..2).ok_or("give at least two samples")?;
    let mut first = data.batches(few, few.len())?;
    let batch = first.next().ok_or("the data hold no sample")??;
    probe(&model, &mut graph, &runtime, &batch)?;
    let groups = Groups::find(&graph, Scope::default(), &ops::RULES);

    // One pass over all samples, of which sums stay and nothing else.
    let batches = data.batches(&all, BATCH)?;
    let options = GatherOptions {
        samples: data.len(),
        seed: 0,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let found = Statistics::gather(&model, &graph, &groups, &runtime, batches, &options)?;

    let mut text = format!("{} samples\n", found.samples);
    for (index, consumer) in groups.consumers.iter().enumerate() {
        // Layers that read no channel that may leave are not observed.
        let Some(observed) = found.of(index) else {
            continue;
        };
        let name = &graph.nodes[consumer.node].name;
        for block in &observed.blocks {
            let (inputs, variance) = (block.mean.len(), block.mean_variance());
            let shrinkage = block.shrinkage;
            writeln!(
                text,
                "{name}: {inputs} inputs, mean variance {variance:.4}, shrinkage {shrinkage:.4}"
            )?;
        }
    }
    Ok(text)
}
