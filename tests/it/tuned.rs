//! Tuning through the program: nearer to the original on samples that nothing saw, the same bytes
//! each time, and a clear word where nothing can learn.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_mipp::onnx;
use onnx_mipp::verify::Check;
use serde_json::Value;

use crate::masked::runtime;
use crate::program::{Run, fixture, mipp, text};
use crate::small;

fn prune(model: &Path, data: &Path, output: &Path, options: &[&str]) -> Run {
    let files = [text(model), text(output), "--calib", text(data), "--json"];
    mipp(files.iter().chain(options)).done()
}

fn report(run: &Run) -> Value {
    serde_json::from_str(&run.out).unwrap()
}

fn notes(run: &Run) -> String {
    report(run)["notes"].to_string()
}

/// The squared error of the outputs of some models on the judged images of the fixtures.
fn errors(original: &Path, pruned: [&Path; 2]) -> Vec<f64> {
    let load = |path: &Path| onnx::load(path).unwrap();
    let [one, other] = pruned.map(load);
    let mut check = Check::open(&load(original), &[&one, &other], runtime()).unwrap();
    let judged = onnx_mipp::data::open(
        &[fixture("eval.npz")],
        &onnx_mipp::runtime::InputSpec::stated(&load(original)).unwrap(),
        &onnx_mipp::data::ReaderOptions::default(),
    )
    .unwrap();
    let all: Vec<usize> = (0..500).collect();
    check
        .squared_errors(judged.batches(&all, 50).unwrap())
        .unwrap()
}

#[test]
fn it_brings_outputs_nearer_on_other_samples() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let (model, data) = (
        fixture("mobilenet_bn_torchscript.onnx"),
        fixture("calib.npz"),
    );
    let asked = ["--macs", "0.35", "--samples", "64", "--repair"];
    let with = |repair: &str, path: &Path| {
        let options = [&asked[..], &[repair]].concat();
        report(&prune(&model, &data, path, &options))["repair"].clone()
    };
    assert_eq!(with("sequential", &out("sequential.onnx")), "sequential");
    assert_eq!(with("tuned", &out("tuned.onnx")), "tuned");
    let found = errors(&model, [&out("sequential.onnx"), &out("tuned.onnx")]);
    assert!(found[1] < 0.9 * found[0], "{found:?}");
}

/// A small model with its calibration data.
fn small_files(folder: &Path, model: &onnx::Model) -> [PathBuf; 2] {
    let [file, data] = ["net.onnx", "data.npy"].map(|name| folder.join(name));
    small::write(model, &file);
    small::calibration(&data);
    [file, data]
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [model, data] = small_files(folder.path(), &small::model());
    let options = ["--macs", "0.6", "--align", "1", "--repair", "tuned"];
    let bytes = ["one.onnx", "other.onnx"].map(|name| {
        let output = folder.path().join(name);
        let run = prune(&model, &data, &output, &options);
        assert_eq!(report(&run)["repair"], "tuned", "{}", notes(&run));
        fs::read(output).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

/// Weights of 16 bits do not learn: the repair layer by layer stays, and a note says so.
#[test]
fn what_cannot_learn_is_repaired_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = small::model();
    let graph = small::graph(&mut model);
    for (name, stored) in [("w1", "h1"), ("b1", "h2"), ("w2", "h3"), ("b2", "h4")] {
        let at = graph
            .initializer
            .iter()
            .position(|t| t.name() == name)
            .unwrap();
        let tensor = onnx::Tensor::from_proto(&graph.initializer[at]).unwrap();
        let values = tensor.to_f64().unwrap();
        let half = onnx::Tensor::from_f64(onnx::DataType::Float16, &values).unwrap();
        graph.initializer[at] = half.to_proto(stored);
        let mut cast = small::node("Cast", &format!("cast {name}"), &[stored], name);
        cast.attribute.push(crate::builder::int("to", 1));
        graph.node.insert(0, cast);
    }
    let [model, data] = small_files(folder.path(), &model);
    let output = folder.path().join("out.onnx");
    let options = ["--macs", "0.6", "--align", "1", "--repair", "tuned"];
    let run = prune(&model, &data, &output, &options);
    assert_ne!(report(&run)["repair"], "tuned");
    assert!(
        notes(&run).contains("no weight of it can be tuned"),
        "{}",
        notes(&run)
    );
}

/// By default the budget is a bound on the outputs; the candidates are not tuned, the result is.
#[test]
fn the_result_of_a_search_is_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.onnx");
    let (model, data) = (
        fixture("resnet_folded_torchscript.onnx"),
        fixture("calib.npz"),
    );
    let options = ["--samples", "64", "--repair", "tuned"];
    let run = prune(&model, &data, &output, &options);
    assert_eq!(report(&run)["repair"], "tuned", "{}", notes(&run));
    assert!(
        report(&run)["search"]["candidates"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
}
