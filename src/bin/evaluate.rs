//! Prints the top-1 accuracy of classifiers:
//! `cargo run --release --features demo --bin evaluate MODEL.onnx ... --data eval.npz`
//!
//! The data hold one array named like the model's input and one named "labels", with a class
//! number for each sample. The first output holds one score per class.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use onnx_mipp::data::{self, ReaderOptions};
use onnx_mipp::onnx::{self, DataType};
use onnx_mipp::runtime::{InputSpec, Runtime, RuntimeOptions};

const USAGE: &str = "usage: evaluate MODEL.onnx ... --data DATA.npz";
/// Samples per run, where the model leaves it open.
const BATCH: usize = 100;

fn main() -> ExitCode {
    if let Err(error) = onnx_mipp::runtime::restart_without_telemetry() {
        eprintln!("evaluate: warning: cannot switch ONNX Runtime's telemetry off: {error}");
    }
    match run(std::env::args_os().skip(1).map(PathBuf::from).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evaluate: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut models: Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    let option = models.iter().position(|argument| argument == "--data");
    let data = option.and_then(|at| models.drain(at..).nth(1));
    let data = data.filter(|_| !models.is_empty()).ok_or(USAGE)?;
    let runtime = Runtime::start(&RuntimeOptions::default())?;
    for model in models {
        let (right, samples) = accuracy(&runtime, &model, &data)?;
        println!(
            "top-1 {:.3}  ({right} of {samples})  {}",
            right as f64 / samples as f64,
            model.display()
        );
    }
    Ok(())
}

/// Samples whose label has the highest score, and all samples.
pub fn accuracy(
    runtime: &Runtime,
    model: &Path,
    data: &Path,
) -> Result<(usize, usize), Box<dyn Error>> {
    let mut session = runtime.session(&onnx::load(model)?)?;
    let inputs = session.inputs();
    let [input] = inputs.as_slice() else {
        let found = inputs.len();
        return Err(format!("{} has {found} inputs, expected one", model.display()).into());
    };
    let output: Vec<String> = session.outputs().into_iter().take(1).collect();
    let paths = [data.to_owned()];
    let samples = data::open(&paths, &inputs, &ReaderOptions::default())?;
    let labels = labels(&paths, samples.len())?;
    let all: Vec<usize> = (0..samples.len()).collect();
    let batch = input.shape.first().copied().flatten().unwrap_or(BATCH);
    let mut right = 0;
    for (batch, labels) in samples.batches(&all, batch)?.zip(labels.chunks(batch)) {
        for scores in session.run(&batch?, &output)? {
            let scores = scores.to_f64()?;
            let rows = scores.outer_iter().zip(labels);
            right += rows
                .filter(|(row, label)| best(row.iter().copied()) == usize::try_from(**label).ok())
                .count();
        }
    }
    Ok((right, all.len()))
}

fn labels(paths: &[PathBuf], samples: usize) -> Result<Vec<i64>, Box<dyn Error>> {
    let spec = InputSpec {
        name: "labels".to_owned(),
        dtype: DataType::Int64,
        shape: vec![None],
    };
    let labels = data::open(paths, &[spec], &ReaderOptions::default())?;
    if labels.len() != samples {
        return Err(format!("{} labels for {samples} samples", labels.len()).into());
    }
    let all: Vec<usize> = (0..samples).collect();
    let mut read = Vec::new();
    for batch in labels.batches(&all, samples)? {
        for (_, tensor) in batch? {
            read.extend(tensor.to_i64()?);
        }
    }
    Ok(read)
}

/// The place of the highest score.
fn best(scores: impl Iterator<Item = f64>) -> Option<usize> {
    let places = scores.enumerate();
    places
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(at, _)| at)
}
