//! Whether a cut is right, on any model: the cut model without repair against the dense model whose
//! removed channels are multiplied by zero where they are read. `bench/zoo.py` runs it on the zoo:
//! `cargo run --release --example masked -- MODEL.onnx [--plan PLAN.json] [--shape x=1,3,224,224]`.
//! Prints one line of JSON.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use onnx_mipp::data::Batch;
use onnx_mipp::data::{self, ReaderOptions};
use onnx_mipp::graph::{Graph, NodeId};
use onnx_mipp::groups::{Groups, Heads, Kept, Scope};
use onnx_mipp::onnx::proto::NodeProto;
use onnx_mipp::onnx::{self, DataType, Model, Tensor};
use onnx_mipp::ops;
use onnx_mipp::runtime::{Device, Runtime, RuntimeOptions};
use onnx_mipp::select::{CostModel, Plan};
use onnx_mipp::shapes::probe;
use onnx_mipp::surgery::{self, Repaired};

#[derive(Parser)]
struct Arguments {
    /// The model
    model: PathBuf,
    /// Where to write the cut model
    #[arg(long)]
    out: Option<PathBuf>,
    /// Plan of the cut; by default an equal share of every group
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Where to write the plan
    #[arg(long)]
    plan_out: Option<PathBuf>,
    /// Share of the MACs that is left where no plan is given
    #[arg(long, default_value_t = 0.6)]
    macs: f64,
    /// Cut inside the heads of attentions
    #[arg(long)]
    head_dim: bool,
    /// Shape of an input whose sizes are open
    #[arg(long, value_parser = shape)]
    shape: Vec<(String, Vec<usize>)>,
}

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, sizes) = text.rsplit_once('=').ok_or("expected NAME=D,D,...")?;
    let sizes: Result<_, _> = sizes.split(',').map(str::parse).collect();
    Ok((name.to_owned(), sizes.map_err(|e| format!("{e}"))?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let runtime = Runtime::start(&RuntimeOptions {
        library: None,
        device: Device::Cpu,
        threads: None,
        ..RuntimeOptions::default()
    })?;
    let model = onnx::load(&arguments.model)?.inlined().in_order();
    let mut graph = ops::graph(&model)?;
    let [shown, other] = batches(&model, &graph, &runtime, &arguments)?;
    let began = Instant::now();
    probe(&model, &mut graph, &runtime, &shown)?;
    let probed = began.elapsed().as_secs_f64();
    let scope = Scope {
        heads: if arguments.head_dim {
            Heads::Inside
        } else {
            Heads::Whole
        },
        ..Scope::default()
    };
    let groups = Groups::find(&graph, scope, &ops::RULES);
    let grouped = began.elapsed().as_secs_f64() - probed;

    let macs = CostModel::macs(&graph, &groups);
    let whole = groups.widths();
    let stays = match &arguments.plan {
        Some(path) => planned(path, &groups)?,
        None => uniform(&groups, &macs, arguments.macs * macs.total(&whole)),
    };
    let plan = Plan::of(&groups, &stays);
    if let Some(path) = &arguments.plan_out {
        serde_json::to_writer(std::fs::File::create(path)?, &plan)?;
    }
    let left = plan.widths();
    let cut = surgery::prune(&model, &graph, &groups, &stays, &Repaired::default())?;
    if let Some(path) = &arguments.out {
        onnx::save(&cut, path)?;
    }
    let masked = masked(&model, &graph, &groups, &Kept::new(&groups, &stays))?;
    let run = |model: &Model, batch: &Batch| -> Result<Vec<Tensor>, Box<dyn Error>> {
        let mut session = runtime.session(model)?;
        let names = session.outputs();
        Ok(session.run(batch, &names)?)
    };
    let (dense, moved) = (run(&model, &shown)?, run(&model, &other)?);
    let (truth, ours) = (run(&masked, &shown)?, run(&cut, &shown)?);
    // What is a number in one and none in the other has moved as far as can be.
    let effect = |other: &[Tensor]| distance(&dense, other).unwrap_or(f64::MAX);
    let result = serde_json::json!({
        "macs": macs.total(&left) / macs.total(&whole),
        "error": distance(&truth, &ours)?,
        "scale": scale(&truth)?,
        "effect_of_input": effect(&moved),
        "effect_of_cut": effect(&truth),
        "probe_seconds": probed,
        "group_seconds": grouped,
    });
    println!("{result}");
    Ok(())
}

/// The channels that a plan keeps.
fn planned(path: &Path, groups: &Groups) -> Result<Vec<bool>, Box<dyn Error>> {
    let plan = Plan::load(path)?;
    if plan.groups.iter().any(|group| group.combined) {
        return Err("a plan of combinations of channels; make it with --no-combine".into());
    }
    Ok(plan.stays(groups)?)
}

/// Two batches of different data.
fn batches(
    model: &Model,
    graph: &Graph,
    runtime: &Runtime,
    arguments: &Arguments,
) -> Result<[Batch; 2], Box<dyn Error>> {
    let inputs = runtime.session(model)?.inputs();
    let states = data::states(&inputs).map(|spec| {
        let sizes = spec.shape.iter();
        (
            spec.name.clone(),
            sizes.map(|size| size.unwrap_or(1)).collect(),
        )
    });
    let options = ReaderOptions {
        samples: Some(4),
        shapes: states.chain(arguments.shape.clone()).collect(),
        told: ops::inputs::values(graph),
        ..ReaderOptions::default()
    };
    let data = data::synthetic(&inputs, &options)?;
    // States are of one sample.
    let open = if data::states(&inputs).next().is_some() {
        1
    } else {
        2
    };
    let size = data::stated_batch(&inputs).unwrap_or(open).max(1);
    let take = |first: usize| -> Result<Batch, Box<dyn Error>> {
        let wanted: Vec<usize> = (first..first + size).collect();
        let batch = data.batches(&wanted, size)?.next();
        Ok(batch.ok_or("no data")??)
    };
    Ok([take(0)?, take(4 - size.min(4))?])
}

/// The same share of every group leaves, spread over its channels, until `target` MACs are left.
fn uniform(groups: &Groups, macs: &CostModel, target: f64) -> Vec<bool> {
    let plan = |share: f64| {
        let mut stays = vec![true; groups.channel_count];
        for group in groups.groups.iter().filter(|g| g.frozen.is_empty()) {
            let count = group.channels.len();
            let left = ((count as f64 * share).ceil() as usize).clamp(1, count);
            // A fixed stride that shares no factor with the width visits every channel once.
            let stride = (count / 2 + 1..).find(|s| gcd(*s, count) == 1).unwrap_or(1);
            for index in left..count {
                stays[group.channels[(index * stride + 1) % count]] = false;
            }
        }
        stays
    };
    let cost = |stays: &[bool]| macs.total(&Plan::of(groups, stays).widths());
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..12 {
        let middle = (low + high) / 2.0;
        if cost(&plan(middle)) > target {
            high = middle;
        } else {
            low = middle;
        }
    }
    plan(low)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The dense model with a mask before every reader of channels that left.
fn masked(
    model: &Model,
    graph: &Graph,
    groups: &Groups,
    kept: &Kept<'_>,
) -> Result<Model, Box<dyn Error>> {
    let mut model = model.clone();
    let main = model.proto.graph.as_mut().ok_or("no graph")?;
    let mut masks = Vec::new();
    for (number, consumer) in groups.consumers.iter().enumerate() {
        let Some(map) = groups.read_by(consumer) else {
            continue;
        };
        if map.iter().all(|&channel| kept.has(channel)) {
            continue;
        }
        // What a recurrent node reads of its own output cannot be masked, but its weight can.
        let weight = graph.nodes[consumer.node].inputs.get(consumer.weight);
        let is_own = graph.values[consumer.input].producer == Some(consumer.node);
        let (read, axis) = match weight {
            Some(Some(weight)) if is_own => (*weight, consumer.layout.in_axis),
            _ => (consumer.input, consumer.axis),
        };
        let value = &graph.values[read];
        let mut shape = vec![1; value.shape.as_ref().map_or(0, Vec::len)];
        shape[axis] = map.len();
        let mask = map.iter().map(|&c| f64::from(u8::from(kept.has(c))));
        let mask = ndarray::ArrayD::from_shape_vec(shape, mask.collect())?;
        let tensor = Tensor::from_f64(value.dtype.unwrap_or(DataType::Float), &mask)?;
        let (left, right) = (format!("mask{number}"), format!("masked{number}"));
        let constant = constant_node(&left, tensor);
        // What reads integers has a quantiser before it.
        let reads = |node: &NodeId| graph.nodes[*node].inputs.contains(&Some(read));
        let inputs = graph.nodes[consumer.node].inputs.iter().flatten();
        let makers = inputs.filter_map(|&input| graph.values[input].producer);
        let mut readers = std::iter::once(consumer.node).chain(makers);
        let reader = readers.find(reads).ok_or("no node reads the channels")?;
        for input in &mut main.node[reader.index()].input {
            if *input == value.name {
                input.clone_from(&right);
            }
        }
        let node = NodeProto {
            op_type: Some("Mul".to_owned()),
            input: vec![value.name.clone(), left],
            output: vec![right],
            ..Default::default()
        };
        masks.push((reader, [constant, node]));
    }
    masks.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    for (at, nodes) in masks {
        main.node.splice(at.index()..at.index(), nodes);
    }
    Ok(model)
}

/// A Constant node: unlike an initializer it needs no graph input in old ir versions.
fn constant_node(name: &str, tensor: Tensor) -> NodeProto {
    let value = onnx::proto::AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(onnx::proto::attribute_proto::AttributeType::Tensor as i32),
        t: Some(tensor.to_proto("")),
        ..Default::default()
    };
    NodeProto {
        op_type: Some("Constant".to_owned()),
        output: vec![name.to_owned()],
        attribute: vec![value],
        ..Default::default()
    }
}

/// The largest output.
fn scale(outputs: &[Tensor]) -> Result<f64, Box<dyn Error>> {
    let mut largest = 0.0f64;
    for tensor in outputs.iter().filter(|tensor| tensor.to_f64().is_ok()) {
        let values = tensor.to_f64()?;
        let finite = values.iter().filter(|value| value.is_finite());
        largest = finite.fold(largest, |m, v| m.max(v.abs()));
    }
    Ok(largest)
}

/// The largest difference of two runs, relative to each output's largest value.
fn distance(left: &[Tensor], right: &[Tensor]) -> Result<f64, Box<dyn Error>> {
    let mut worst = 0.0f64;
    for (left, right) in left.iter().zip(right) {
        if left.shape != right.shape {
            return Err(format!("shapes {:?} and {:?}", left.shape, right.shape).into());
        }
        let (Ok(left), Ok(right)) = (left.to_f64(), right.to_f64()) else {
            continue; // Not of floats: indices, sizes.
        };
        let finite = left.iter().filter(|value| value.is_finite());
        let scale = finite.fold(1e-30, |m: f64, v| m.max(v.abs()));
        // What is no number in both, such as the logarithm of a made-up negative one, is no
        // difference.
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for (&a, &b) in left.iter().zip(&right).filter(|(a, b)| !same(**a, **b)) {
            if !(a - b).is_finite() {
                return Err("an output is not finite".into());
            }
            worst = worst.max((a - b).abs() / scale);
        }
    }
    Ok(worst)
}
