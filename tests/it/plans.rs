//! What a plan says that it cuts out of a file's tensors, against the file that the program writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use onnx_mipp::onnx::{Model, Tensor};
use serde_json::Value;

use crate::program::{fixture, mipp, text};

fn initializers(path: &Path) -> BTreeMap<String, ArrayD<f64>> {
    let graph = Model::load(path).unwrap().proto.graph.unwrap();
    let floats = graph.initializer.iter().filter(|t| t.data_type() == 1);
    let read = |tensor| Tensor::from_proto(tensor).unwrap().to_f64().unwrap();
    floats.map(|t| (t.name().to_owned(), read(t))).collect()
}

fn numbers(list: &Value) -> Vec<usize> {
    let numbers = list.as_array().unwrap().iter();
    numbers.map(|n| n.as_u64().unwrap() as usize).collect()
}

/// The plan of a run without repair that cuts a fixture, checked against what it wrote.
fn checked(model: &str, data: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let [output, plan] = ["out.onnx", "plan.json"].map(|name| folder.path().join(name));
    let (model, data) = (fixture(model), fixture(data));
    let words = ["--macs", "0.6", "--repair", "none", "--no-combine"];
    let files = [text(&model), text(&output), "--calib", text(&data)];
    let rest = ["--samples", "64", "--plan-out", text(&plan)];
    mipp([files.as_slice(), &words, &rest].concat()).done();
    let plan: Value = serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap();
    let [dense, pruned] = [&model, &output].map(|path| initializers(path));
    let mut left = dense.clone();
    for tensor in plan["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        // What is made of other constants, as the zeros of a bias, has no place in the file.
        let Some(whole) = dense.get(name) else {
            continue;
        };
        assert_eq!(numbers(&tensor["shape"]), whole.shape());
        let axes = tensor["axes"].as_array().unwrap();
        let cut = axes.iter().fold(whole.clone(), |tensor, cut| {
            let axis = cut["axis"].as_u64().unwrap() as usize;
            tensor.select(Axis(axis), &numbers(&cut["kept"]))
        });
        left.insert(name.to_owned(), cut);
    }
    // A tensor whose shape another node reads stays, and the cut one gets a name of its own.
    let differ = |(name, tensor): &(&String, &ArrayD<f64>)| {
        let cut = pruned.get(&format!("{name}_pruned"));
        cut.or_else(|| pruned.get(*name)) != Some(*tensor)
    };
    let wrong: Vec<_> = left.iter().filter(differ).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(left != dense);
    plan
}

#[test]
fn a_plan_lists_the_tensors_that_it_cuts() {
    let plan = checked("resnet_bn_torchscript.onnx", "calib.npz");
    let input = &plan["inputs"][0];
    assert_eq!(input["dtype"], "float");
    assert_eq!(numbers(&input["shape"])[1..], [1, 28, 28]);
    let tensors = plan["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|tensor| tensor["module"].is_null()));
}

#[test]
fn modules_are_those_that_the_exporter_noted() {
    let plan = checked("resnet_bn_dynamo.onnx", "calib.npz");
    let tensors = plan["tensors"].as_array().unwrap().iter();
    let named = tensors.filter_map(|tensor| {
        let (owner, _) = tensor["name"].as_str()?.rsplit_once('.')?;
        Some((owner, tensor["module"].as_str()))
    });
    let named: Vec<_> = named.collect();
    assert!(named.len() > 10);
    assert!(named.iter().all(|(owner, module)| Some(*owner) == *module));
}
