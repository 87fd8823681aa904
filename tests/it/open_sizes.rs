//! Sizes that a model leaves open, or seems to.

use onnx_mipp::onnx;
use serde_json::Value;

use crate::builder::{Builder, int, ints, text as text_attribute};
use crate::program::{mipp, python, text};
use crate::small;

/// The small model, which leaves the height and the width of its images open.
fn open() -> onnx::Model {
    let mut model = small::model();
    let graph = small::graph(&mut model);
    graph.input = vec![small::value("x", &[None, Some(3), None, None])];
    graph.output = vec![small::value("y", &[None, Some(8), None, None])];
    model
}

#[test]
fn open_sizes_are_fixed_by_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let input = path("open.onnx");
    small::write(&open(), &input);
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

/// A recogniser of lines takes one height, which nothing but a Reshape inside tells.
#[test]
fn images_of_other_sizes_are_tried_where_the_usual_do_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut model = open();
    let graph = small::graph(&mut model);
    let shape = onnx::Tensor::from_i64(&[4], &[0, 16, 48, -1]).unwrap();
    graph.initializer.push(shape.to_proto("shape"));
    // A transposed tensor of another height has another number of elements for each column.
    let flat = onnx::Tensor::from_i64(&[4], &[0, 16, 15360, 1]).unwrap();
    graph.initializer.push(flat.to_proto("flat"));
    let reshapes = [
        small::node("Reshape", "flatten", &["a", "flat"], "f"),
        small::node("Reshape", "reshape", &["f", "shape"], "s"),
    ];
    graph.node[1].input[0] = "s".to_owned();
    graph.node.splice(1..1, reshapes);
    let [input, output] = ["in.onnx", "out.onnx"].map(path);
    small::write(&model, &input);
    let run = mipp([text(&input), text(&output)]).done();
    assert!(run.err.contains("[1, 3, 48, 320]"), "{}", run.err);
    mipp(["inspect", text(&input)]).done();
    // What is asked for is not replaced.
    let shape = ["--shape", "x=1,3,32,100"];
    mipp([[text(&input), text(&output)], shape].concat()).fails(1, &["Reshape"]);
}

/// The small model whose batch is this number in a constant, as exporters leave it behind.
fn reshaped(batch: i64) -> onnx::Model {
    let mut model = small::model();
    let graph = small::graph(&mut model);
    let shape = onnx::Tensor::from_i64(&[4], &[batch, 16, 8, 8]).unwrap();
    graph.initializer.push(shape.to_proto("shape"));
    let reshape = small::node("Reshape", "reshape", &["a", "shape"], "s");
    graph.node[1].input[0] = "s".to_owned();
    graph.node.insert(1, reshape);
    model
}

fn first_weight(path: &std::path::Path) -> Vec<i64> {
    let model = onnx::load(path).unwrap();
    model.proto.graph.unwrap().initializer[0].dims.clone()
}

#[test]
fn a_batch_that_is_open_in_name_only_is_found_out() {
    for batch in [1, 2, 3, 7] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let [input, data, output] = ["in.onnx", "calib.npy", "out.onnx"].map(path);
        small::write(&reshaped(batch), &input);
        small::calibration(&data);
        let run = mipp(["inspect", text(&input)]).done();
        assert!(run.out.contains("first: 16 channels"), "{}", run.out);
        // Attempts that fail on the way are nobody's trouble.
        assert_eq!(run.err, "");
        let given = ["--calib", text(&data)];
        let run = mipp(
            [
                [text(&input), text(&output)].as_slice(),
                &given,
                &["--ratio", "0.5"],
            ]
            .concat(),
        )
        .done();
        assert_eq!(first_weight(&output), [8, 3, 3, 3]);
        let note = format!("runs batches of {batch} only");
        assert!(run.err.contains(&note), "{}", run.err);
        // 24 samples.
        let is_cut = run
            .err
            .contains("uses 21 of 24 samples: the model runs 7 at a time");
        assert_eq!(is_cut, batch == 7, "{}", run.err);
        let run =
            mipp([["compare", text(&input), text(&output)].as_slice(), &given].concat()).done();
        assert!(run.err.contains(&note), "{}", run.err);
        let folder = path("swept");
        std::fs::create_dir(&folder).unwrap();
        let ends = ["--ratio", "0.5", "--out-dir", text(&folder)];
        mipp([["sweep", text(&input)].as_slice(), &given, &ends].concat()).done();
        assert_eq!(
            first_weight(&folder.join("in.ratio-0.5.onnx")),
            [8, 3, 3, 3]
        );
        // Without data.
        mipp([text(&input), text(&output), "--ratio", "0.5"]).done();
        assert_eq!(first_weight(&output), [8, 3, 3, 3]);
    }
}

#[test]
fn a_batch_that_nothing_runs_names_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [input, data, output] = ["in.onnx", "calib.npy", "out.onnx"].map(path);
    small::write(&reshaped(30), &input);
    small::calibration(&data);
    let run = mipp([text(&input), text(&output), "--calib", text(&data)]);
    run.fails(
        1,
        &["tried with batches of 2, 1, 30, for which the samples are too few"],
    );
}

#[test]
fn a_batch_that_the_inputs_fix_is_kept_to() {
    for batch in [3, 4, 200] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut model = small::model();
        let graph = small::graph(&mut model);
        graph.input = vec![small::value("x", &[Some(batch), Some(3), Some(8), Some(8)])];
        graph.output = vec![small::value("y", &[Some(batch), Some(8), Some(8), Some(8)])];
        let [input, output] = ["in.onnx", "out.onnx"].map(path);
        small::write(&model, &input);
        let shown = mipp(["inspect", text(&input)]).done().out;
        assert!(shown.contains("first: 16 channels"), "{shown}");
        // Made-up samples are enough for a batch, even of more than there are by default.
        mipp([text(&input), text(&output), "--ratio", "0.5"]).done();
        assert_eq!(first_weight(&output), [8, 3, 3, 3]);
    }
}

#[test]
fn samples_that_one_batch_takes_as_one_are_none() {
    // (N, 16, 8, 8) -> (1, 16, ...): with more samples than one, the model runs, and mixes them.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut model = reshaped(1);
    let graph = small::graph(&mut model);
    let shape = onnx::Tensor::from_i64(&[4], &[1, 16, 8, -1]).unwrap();
    *graph.initializer.last_mut().unwrap() = shape.to_proto("shape");
    graph.output = vec![small::value("y", &[Some(1), Some(8), None, None])];
    let [input, data, output] = ["in.onnx", "calib.npy", "out.onnx"].map(path);
    small::write(&model, &input);
    small::calibration(&data);
    let arguments = [text(&input), text(&output), "--calib", text(&data)];
    let run = mipp([arguments.as_slice(), &["--ratio", "0.5"]].concat()).done();
    assert!(run.err.contains("runs batches of 1 only"), "{}", run.err);
    assert_eq!(first_weight(&output), [8, 3, 3, 3]);
}

/// A bidirectional GRU beside an input with an open batch reads its first state, whose first axis
/// is that of the directions: that the model runs one sample at a time is found out, with data and
/// without.
#[test]
fn states_of_recurrent_layers_fix_the_batch() {
    for is_open in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut b = Builder::new(17);
        b.input("x", &[12, 8]);
        let batch = if is_open { None } else { Some(1) };
        let steps = b.node("Transpose", &["x"], vec![ints("perm", &[1, 0, 2])]);
        let weight = b.weight(&[8, 16], 8);
        let read = b.node("MatMul", &[&steps, &weight], vec![]);
        let read = b.node("Relu", &[&read], vec![]);
        let [w, r] = [[2, 18, 16], [2, 18, 6]].map(|shape| b.uniform(&shape, -0.5, 0.5));
        let attributes = vec![
            text_attribute("direction", "bidirectional"),
            int("hidden_size", 6),
        ];
        let made = b.node("GRU", &[&read, &w, &r, "", "", "h"], attributes);
        b.output(&made, 4);
        let mut model = onnx::Model { proto: b.finish() };
        let state = small::value("h", &[Some(2), batch, Some(6)]);
        small::graph(&mut model).input.push(state);
        let [input, output, data] = ["in.onnx", "out.onnx", "data.npz"].map(path);
        small::write(&model, &input);
        let run = mipp([text(&input), text(&output)]).done();
        assert!(run.err.contains("batches of 1 only"), "{}", run.err);
        mipp(["inspect", text(&input)]).done();
        let make = "import numpy, sys; r = numpy.random.default_rng(0).normal; \
                    numpy.savez(sys.argv[1], x=r(size=(24, 12, 8)).astype('f'), h=r(size=(2, 1, 6)).astype('f'))";
        python(["-c", make, text(&data)]).done();
        let calib = ["--calib", text(&data), "--params", "0.8", "--align", "1"];
        mipp([&[text(&input), text(&output)][..], &calib].concat()).done();
    }
}
