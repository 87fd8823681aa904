//! The statistics alone: what calibration data show at the input of every layer whose channels may
//! leave. `cargo run --example statistics -- MODEL.onnx DATA.npz`

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use onnx_mipp::stages::{Opening, open, restart_without_telemetry, statistics};
use onnx_mipp::{Calibration, Estimator, Model, Silent};

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
    let opening = Opening::of(Calibration::files([data]));
    let subject = open(Model::load(model)?, &opening, &Silent)?;

    // One pass over all samples, of which sums stay and nothing else.
    let found = statistics(&subject, Estimator::Gaussian)?;

    let mut text = format!("{} samples\n", found.samples);
    for (index, consumer) in subject.groups.consumers.iter().enumerate() {
        // Layers that read no channel that may leave are not observed.
        let Some(observed) = found.of(index) else {
            continue;
        };
        let name = &subject.graph.nodes[consumer.node].name;
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
