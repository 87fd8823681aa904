//! Names of what pruning adds.

use onnx_mipp::onnx::{Model, proto::*};

use crate::builder::{Builder, int, open, subgraph};
use crate::program::{mipp, python, text};
use crate::small;

/// A branch that sums a constant of its own, of that name and length.
fn branch(name: &str, stored: &str, length: usize) -> GraphProto {
    let mut inner = Builder::new(17);
    inner.node("ReduceSum", &[stored], vec![int("keepdims", 0)]);
    let output = format!("{name}_sum");
    inner.graph.node[0].output = vec![output.clone()];
    inner.graph.output = vec![open(&output, 0)];
    let constant = onnx_mipp::onnx::Tensor::from_f32(&[length], vec![2.0; length]).unwrap();
    inner.graph.initializer = vec![constant.to_proto(stored)];
    inner.graph.name = Some(name.to_owned());
    inner.graph
}

#[test]
fn a_new_bias_takes_no_name_from_a_branch() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut b = Builder::new(17);
    b.input("x", &[3, 8, 8]);
    let made = b.conv("x", [16, 3, 3, 3], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    // The repair gives this convolution a bias, which it names after the output.
    let weight = b.weight(&[24, 16, 1, 1], 16);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    let bias = format!("{made}_bias");
    let zero = b.floats(&[], vec![0.0]);
    let sum = b.node("ReduceSum", &["x"], vec![int("keepdims", 0)]);
    let condition = b.node("Greater", &[&sum, &zero], vec![]);
    let branches = vec![
        subgraph("then_branch", branch("then", "other", 3)),
        subgraph("else_branch", branch("else", &bias, 3)),
    ];
    let chosen = b.node("If", &[&condition], branches);
    let made = b.node("Relu", &[&made], vec![]);
    let made = b.pointwise(&made, 24, 5);
    let made = b.node("Add", &[&made, &chosen], vec![]);
    b.output(&made, 4);
    let [input, output, data] = ["in.onnx", "out.onnx", "calib.npy"].map(path);
    small::write(&Model { proto: b.finish() }, &input);
    small::calibration(&data);
    let ends = ["--calib", text(&data), "--ratio", "0.5", "--align", "1"];
    mipp([[text(&input), text(&output)].as_slice(), &ends].concat()).done();
    let pruned = onnx_mipp::onnx::load(&output).unwrap().proto.graph.unwrap();
    let stored: Vec<&str> = pruned.initializer.iter().map(|t| t.name()).collect();
    assert!(stored.contains(&format!("{bias}_2").as_str()), "{stored:?}");
    let check = "import sys, onnx; onnx.checker.check_model(sys.argv[1], full_check=True)";
    python(["-c", check, text(&output)]).done();
}
