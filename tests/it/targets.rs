//! What strangers' bytes go through, one function for each of the ways in that need no ONNX
//! Runtime. The fuzzer calls these (`fuzz/`), and `corpus.rs` does with every input of interest
//! that it found. Errors are as good as results here: what counts is that neither a panic nor a
//! size from the file ends the program.

use onnx_mipp::statistics;
use std::sync::OnceLock;

use bytes::Bytes;
use onnx_mipp::allowance::Allowance;
use onnx_mipp::data;
use onnx_mipp::graph::Graph;
use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx::proto::tensor_shape_proto::dimension::Value as Length;
use onnx_mipp::onnx::proto::type_proto::Value;
use onnx_mipp::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use onnx_mipp::onnx::{self, DataType, Model, Tensor};
use onnx_mipp::runtime::InputSpec;
use onnx_mipp::select::{self, Plan, Scene};
use onnx_mipp::surgery::{self, Repaired, SurgeryError};
use onnx_mipp::{cli, ops, report};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Less than the fuzzer allows a process, so that it is the program that refuses.
const MEGABYTES: u64 = 256;
/// Takes the place of sizes that the model leaves open.
const OPEN: usize = 2;
/// Samples read of a file that may claim any number.
const SAMPLES: usize = 64;

/// A model file.
pub fn decode(bytes: &[u8]) {
    if let Ok(model) = onnx::decode(Bytes::copy_from_slice(bytes), None) {
        let again = model.encode().expect("what was read can be written");
        let again = onnx::decode(Bytes::from(again), None);
        again.expect("what was written can be read");
    }
}

/// A model whose functions are put in place.
pub fn inline(bytes: &[u8]) {
    let _ = opened(bytes);
}

/// The groups of a model, as `inspect` finds and shows them.
pub fn groups(bytes: &[u8]) {
    if let Some((_, graph, groups)) = opened(bytes).and_then(grouped) {
        let found = report::inspect(&graph, &groups);
        let _ = (found.to_string(), report::json(&found));
    }
}

/// Eight bytes that a plan follows from, and the model that is cut by it.
pub fn cut(bytes: &[u8]) {
    let Some((seed, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((model, graph, groups)) = opened(bytes).and_then(grouped) else {
        return;
    };
    let mut random = ChaCha8Rng::seed_from_u64(u64::from_le_bytes(*seed));
    let mut stays = vec![true; groups.channel_count];
    for group in groups.groups.iter().filter(|g| g.frozen.is_empty()) {
        for &channel in &group.channels {
            stays[channel] = random.random_bool(0.5);
        }
        if !group.channels.is_empty() {
            stays[group.channels[random.random_range(0..group.channels.len())]] = true;
        }
    }
    match surgery::prune(&model, &graph, &groups, &stays, &Repaired::default()) {
        Ok(pruned) => decode_again(&pruned),
        Err(SurgeryError::Invalid(error)) => panic!("cut to no valid model: {error}"),
        Err(_) => {}
    }
}

/// Which kind of file, and a file of calibration data of that kind.
pub fn arrays(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let name = ["x.npy", "x.npz", "x.pb"][usize::from(kind % 3)];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    let inputs = [InputSpec {
        name: "x".to_owned(),
        dtype: DataType::Float,
        shape: vec![None, Some(2)],
    }];
    let options = data::ReaderOptions {
        samples: Some(SAMPLES),
        allowance: Allowance::of_megabytes(MEGABYTES),
        ..Default::default()
    };
    let Ok(data) = data::open(&[path], &inputs, &options) else {
        return;
    };
    let wanted: Vec<usize> = (0..data.len()).collect();
    if let Ok(batches) = data.batches(&wanted, 7) {
        batches.for_each(drop);
    }
    let _ = data.digest("");
}

/// A file of statistics of the model "m" but for its checksum, which no fuzzer guesses.
pub fn statistics(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let sum = Sha256::digest(bytes);
    let all = [bytes, sum.as_slice()].concat();
    std::io::Write::write_all(&mut file, &all).expect("a temporary file");
    let (graph, groups) = known();
    let read = || statistics::read(file.path(), graph, groups, "m");
    let (Ok((_, mut sums)), Ok((_, more))) = (read(), read()) else {
        return;
    };
    sums.merge(more).expect("sums of one file are alike");
    if let Ok(statistics) = sums.statistics() {
        let scene = Scene {
            graph,
            groups,
            statistics: &statistics,
            file: None,
        };
        let halves = groups.groups.iter().map(|g| g.channels.len().div_ceil(2));
        let _ = select::select_at(scene, &halves.collect());
    }
}

/// A plan as JSON.
pub fn plans(bytes: &[u8]) {
    let (_, groups) = known();
    if let Ok(plan) = serde_json::from_slice::<Plan>(bytes)
        && let Ok(stays) = plan.stays(groups)
    {
        assert_eq!(stays.len(), groups.channel_count);
        let again = Plan::of(groups, &stays);
        assert_eq!(again.widths(), plan.widths());
    }
}

/// A file of options.
pub fn toml(bytes: &[u8]) {
    let _ = cli::config_options(&String::from_utf8_lossy(bytes));
}

fn opened(bytes: &[u8]) -> Option<Model> {
    let model = onnx::decode(Bytes::copy_from_slice(bytes), None).ok()?;
    let allowance = Allowance::of_megabytes(MEGABYTES);
    model.check_expansion(allowance).ok()?;
    Some(ops::unfused(model.inlined()).0.in_order())
}

/// The shapes are those that the file tells.
fn grouped(model: Model) -> Option<(Model, Graph, Groups)> {
    let mut graph = ops::graph(&model).ok()?;
    let told = model.proto.graph.as_ref()?;
    for info in [&told.value_info, &told.output, &told.input]
        .into_iter()
        .flatten()
    {
        let kind = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
        let Some(Value::TensorType(tensor)) = kind else {
            continue;
        };
        graph.observe_type(info.name(), DataType::from_code(tensor.elem_type()));
        if let Some(shape) = &tensor.shape {
            let lengths = shape.dim.iter().map(|dim| match dim.value {
                Some(Length::DimValue(length)) => usize::try_from(length).unwrap_or(OPEN),
                _ => OPEN,
            });
            graph.observe_shape(info.name(), lengths.collect());
        }
    }
    graph
        .check_demand(Allowance::of_megabytes(MEGABYTES), &ops::repetitions)
        .ok()?;
    let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
    Some((model, graph, groups))
}

fn decode_again(model: &Model) {
    let bytes = model.encode().expect("a cut model can be written");
    let again = onnx::decode(Bytes::from(bytes), None);
    again.expect("a cut model can be read");
}

/// Two products with a Relu between them, and their groups.
fn known() -> &'static (Graph, Groups) {
    static KNOWN: OnceLock<(Graph, Groups)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let named = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: Some(op.to_owned()),
            name: Some(op.to_owned() + output),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        };
        let weight = |name: &str, shape: &[usize]| {
            let tensor = Tensor::from_f32(shape, vec![0.5; 8]).expect("8 elements");
            tensor.to_proto(name)
        };
        let graph = GraphProto {
            node: vec![
                node("MatMul", &["x", "v"], "a"),
                node("Relu", &["a"], "b"),
                node("MatMul", &["b", "w"], "y"),
            ],
            initializer: vec![weight("v", &[2, 4]), weight("w", &[4, 2])],
            input: vec![named("x")],
            output: vec![named("y")],
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                version: Some(17),
                ..Default::default()
            }],
            graph: Some(graph),
            ..Default::default()
        };
        let mut graph = ops::graph(&Model { proto }).expect("a plain graph");
        for (name, length) in [("x", 2), ("a", 4), ("b", 4), ("y", 2)] {
            graph.observe_type(name, DataType::Float);
            graph.observe_shape(name, vec![OPEN, length]);
        }
        let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
        (graph, groups)
    })
}
