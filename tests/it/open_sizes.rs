//! Sizes that a model leaves open, or seems to.

use onnx_mipp::onnx;
use serde_json::Value;

use crate::program::{mipp, text};
use crate::small;

#[test]
fn open_sizes_are_fixed_by_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut model = small::model();
    let graph = small::graph(&mut model);
    graph.input = vec![small::value("x", &[None, Some(3), None, None])];
    graph.output = vec![small::value("y", &[None, Some(8), None, None])];
    let input = path("open.onnx");
    small::write(&model, &input);
    let (output, report) = (path("out.onnx"), path("report.json"));
    let macs = |shape: &str| {
        let ends = ["--shape", shape, "--report", text(&report)];
        mipp([[text(&input), text(&output)].as_slice(), &ends].concat()).done();
        let told: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        told.pointer("/macs/before")
            .and_then(Value::as_f64)
            .unwrap()
    };
    // 16 x 3 x 9 and 8 x 16 multiply-accumulates per position.
    assert_eq!(macs("x=1,3,10,12"), 120.0 * (432.0 + 128.0));
    assert_eq!(macs("x=1,3,20,12"), 240.0 * (432.0 + 128.0));
    for (shape, word) in [("z=1,3,8,8", "no input 'z'"), ("x=1,4,8,8", "does not fit")] {
        let run = mipp([text(&input), text(&output), "--shape", shape]);
        run.fails(1, &["--shape", word]);
    }
}

#[test]
fn a_batch_that_is_open_in_name_only_runs_single_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut model = small::model();
    let graph = small::graph(&mut model);
    // The batch is 1 in a constant, as exporters leave it behind.
    let shape = onnx::Tensor::from_i64(&[4], &[1, 16, 8, 8]).unwrap();
    graph.initializer.push(shape.to_proto("shape"));
    let reshape = small::node("Reshape", "reshape", &["a", "shape"], "s");
    graph.node[1].input[0] = "s".to_owned();
    graph.node.insert(1, reshape);
    let [input, data, output] = ["in.onnx", "calib.npy", "out.onnx"].map(path);
    small::write(&model, &input);
    small::calibration(&data);
    let arguments = [text(&input), text(&output), "--calib", text(&data)];
    mipp([arguments.as_slice(), &["--ratio", "0.5", "--batch", "1"]].concat()).done();
    let model = onnx::load(&output).unwrap();
    assert_eq!(model.proto.graph.unwrap().initializer[0].dims, [8, 3, 3, 3]);
}
