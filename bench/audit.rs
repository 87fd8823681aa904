//! How far the Gaussian MI, which selection computes, is from the MI itself: on a few projections
//! of what layers read and make, against nearest neighbours, with the estimate by ranks between
//! them. Run with `cargo run --release --example audit -- MODEL.onnx --data DATA.npz`;
//! docs/method.md has the figures.

#[path = "audit/ksg.rs"]
mod ksg;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use faer::Mat;
use ndarray::ArrayD;
use onnx_mipp::data::{self, Batch};
use onnx_mipp::graph::Graph;
use onnx_mipp::groups::Consumer;
use onnx_mipp::linalg::log_determinant;
use onnx_mipp::onnx::{Model, proto};
use onnx_mipp::runtime::{Device, Runtime};
use onnx_mipp::stages::{Opening, Subject, open};
use onnx_mipp::statistics::normal_scores;
use onnx_mipp::{Calibration, Silent};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Neighbours of the estimate.
const NEIGHBOURS: usize = 4;

#[derive(Parser)]
struct Arguments {
    /// Models
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Calibration data
    #[arg(long)]
    data: PathBuf,
    /// Samples; each gives one position of each layer
    #[arg(long, default_value_t = 512)]
    samples: usize,
    /// Positions of each sample
    #[arg(long, default_value_t = 3)]
    positions: usize,
    /// Projections of each kind and layer
    #[arg(long, default_value_t = 20)]
    trials: usize,
}

type Failure = Box<dyn Error>;

/// Rows of what a layer reads and makes, a variable after the other.
struct Seen {
    inputs: Vec<Vec<f64>>,
    outputs: Vec<Vec<f64>>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    println!(
        "| model | layer | rows | projections | Gaussian | copula | neighbours | difference | spread |"
    );
    println!("|---|---|---:|---|---:|---:|---:|---:|---:|");
    for path in &arguments.models {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut opening = Opening::of(Calibration::files([&arguments.data]));
        opening.runtime.device = Device::Cpu;
        let Subject {
            model,
            graph,
            groups,
            runtime,
            ..
        } = open(Model::load(path)?, &opening, &Silent)?;
        let inputs = runtime.session(&model)?.inputs();
        let data = data::open(
            std::slice::from_ref(&arguments.data),
            &inputs,
            &data::ReaderOptions::default(),
        )?;
        let all: Vec<usize> = (0..data.len().min(arguments.samples)).collect();
        let batch = data.batches(&all, all.len())?.next().ok_or("no data")??;
        for consumer in &groups.consumers {
            if let Some(seen) = seen(&model, &graph, consumer, &runtime, &batch, &arguments)? {
                let layer = &graph.nodes[consumer.node].name;
                audit(&name, layer, &seen, arguments.trials);
            }
        }
    }
    Ok(())
}

/// What a plain layer reads and makes at a few random positions of each sample.
fn seen(
    model: &Model,
    graph: &Graph,
    consumer: &Consumer,
    runtime: &Runtime,
    batch: &Batch,
    arguments: &Arguments,
) -> Result<Option<Seen>, Failure> {
    if consumer.axis != 1 || consumer.output_axis != 1 || consumer.layout.blocks != 1 {
        return Ok(None);
    }
    let names = [consumer.input, consumer.output].map(|v| graph.values[v].name.clone());
    let mut model = model.clone();
    let main = model.proto.graph.as_mut().ok_or("no graph")?;
    let output = |name: &String| proto::ValueInfoProto {
        name: Some(name.clone()),
        ..Default::default()
    };
    main.output = names.iter().map(output).collect();
    let found = runtime.session(&model)?.run(batch, &names)?;
    let [read, made] = found.as_slice() else {
        return Ok(None);
    };
    let (read, made) = (flat(read.to_f64()?)?, flat(made.to_f64()?)?);
    let (samples, channels, _) = read.dim();
    let places = made.dim().2;
    let taps = consumer
        .window
        .as_ref()
        .map_or(1, |window| window.kernel_positions());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut seen = Seen {
        inputs: vec![Vec::new(); channels * taps],
        outputs: vec![Vec::new(); made.dim().1],
    };
    for sample in 0..samples {
        for _ in 0..arguments.positions.min(places) {
            let place = rng.next_u32() as usize % places;
            let reads = match &consumer.window {
                Some(window) => window.reads(place),
                None => vec![Some(place)],
            };
            for (input, values) in seen.inputs.iter_mut().enumerate() {
                let at = reads[input % taps];
                values.push(at.map_or(0.0, |at| read[(sample, input / taps, at)]));
            }
            for (output, values) in seen.outputs.iter_mut().enumerate() {
                values.push(made[(sample, output, place)]);
            }
        }
    }
    Ok(Some(seen))
}

/// Samples, channels, and all other axes as one.
fn flat(array: ArrayD<f64>) -> Result<ndarray::Array3<f64>, Failure> {
    let [samples, channels, rest @ ..] = array.shape() else {
        return Err("a layer without channels".into());
    };
    let shape = (*samples, *channels, rest.iter().product());
    let array = array.as_standard_layout().into_owned();
    Ok(array.into_shape_with_order(shape)?)
}

/// Prints what both estimates say of one layer, on random projections.
fn audit(model: &str, layer: &str, seen: &Seen, trials: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let rows = seen.outputs.first().map_or(0, Vec::len);
    for (kind, inputs, outputs) in [("2 inputs, 1 output", 2, 1), ("2 inputs, 2 outputs", 2, 2)] {
        let mut found = Vec::new();
        for _ in 0..trials {
            let y: Vec<Vec<f64>> = (0..outputs)
                .map(|_| projection(&seen.outputs, &mut rng))
                .collect();
            // Half of the inputs each, along what predicts the first output: of random directions
            // of many inputs two would say next to nothing about it.
            let x: Vec<Vec<f64>> = (0..inputs)
                .map(|part| predictor(&seen.inputs, &y[part.min(outputs - 1)], &mut rng))
                .collect();
            let copula = gaussian(&ranked(&x), &ranked(&y));
            if let Some((gaussian, copula)) = gaussian(&x, &y).zip(copula) {
                found.push([gaussian, copula, ksg::ksg(&x, &y, NEIGHBOURS)]);
            }
        }
        let count = found.len().max(1) as f64;
        let mean = |of: &dyn Fn(&[f64; 3]) -> f64| found.iter().map(of).sum::<f64>() / count;
        let apart = mean(&|[g, _, k]| k - g);
        let spread = mean(&|[g, _, k]| (k - g - apart).powi(2)).sqrt();
        println!(
            "| {model} | {layer} | {rows} | {kind} | {:.2} | {:.2} | {:.2} | {apart:+.2} | {spread:.2} |",
            mean(&|[g, _, _]| *g),
            mean(&|[_, c, _]| *c),
            mean(&|[_, _, k]| *k),
        );
    }
}

/// A random combination of the variables, of variance one.
fn projection(variables: &[Vec<f64>], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = variables.first().map_or(0, Vec::len);
    let mut sum = vec![0.0; count];
    for values in variables {
        let factor = (rng.next_u64() >> 32) as f64 / f64::from(u32::MAX) - 0.5;
        sum.iter_mut()
            .zip(values)
            .for_each(|(s, v)| *s += factor * v);
    }
    standard(sum, rng)
}

/// A random half of the variables, weighed by their covariances with `target`.
fn predictor(variables: &[Vec<f64>], target: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = target.len().max(1) as f64;
    let mut sum = vec![0.0; target.len()];
    for values in variables {
        if rng.next_u32().is_multiple_of(2) {
            let mean = values.iter().sum::<f64>() / count;
            let pairs = values.iter().zip(target);
            let factor = pairs.map(|(v, t)| (v - mean) * t).sum::<f64>() / count;
            sum.iter_mut()
                .zip(values)
                .for_each(|(s, v)| *s += factor * v);
        }
    }
    standard(sum, rng)
}

/// Mean 0 and variance 1, and as much noise as keeps equal values apart.
fn standard(mut values: Vec<f64>, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    let scale = variance.sqrt().max(f64::MIN_POSITIVE);
    for value in &mut values {
        let noise = f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        *value = (*value - mean) / scale + 1e-8 * noise;
    }
    values
}

/// Normal scores. Values that only the added noise keeps apart are equal.
fn ranked(variables: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let coarse =
        |values: &Vec<f64>| -> Vec<f64> { values.iter().map(|v| (v * 1e6).round()).collect() };
    variables
        .iter()
        .map(|values| normal_scores(&coarse(values)))
        .collect()
}

/// The MI of Gaussian variables with these correlations; `None` where one is a combination of
/// others.
fn gaussian(x: &[Vec<f64>], y: &[Vec<f64>]) -> Option<f64> {
    let all: Vec<&Vec<f64>> = x.iter().chain(y).collect();
    let count = all.first().map_or(1, |values| values.len()) as f64;
    let logdet = |picked: &[&Vec<f64>]| {
        let covariance = Mat::from_fn(picked.len(), picked.len(), |i, j| {
            let pairs = picked[i].iter().zip(picked[j]);
            pairs.map(|(a, b)| a * b).sum::<f64>() / count
        });
        log_determinant(covariance.as_ref()).ok()
    };
    let (of_x, of_y) = all.split_at(x.len());
    Some(0.5 * (logdet(of_x)? + logdet(of_y)? - logdet(&all)?))
}
