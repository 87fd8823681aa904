//! Bad input: the program's exit code and message, and that nothing is left behind.

use std::fs;
use std::path::PathBuf;

use onnx_mipp::onnx::{self, Model, proto::*};
use tempfile::TempDir;

use crate::program::{Run, fixture, listing, mipp, text};
use crate::small;

/// A folder with the small model as in.onnx and calibration data as calib.npy.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Model)) -> Bench {
        let bench = Bench {
            folder: tempfile::tempdir().unwrap(),
        };
        let mut model = small::model();
        change(&mut model);
        small::write(&model, &bench.path("in.onnx"));
        small::calibration(&bench.path("calib.npy"));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn prune(&self, input: &str, output: &str, calibration: &str) -> Run {
        let [input, output, calibration] = [input, output, calibration].map(|n| self.path(n));
        let ends = ["--ratio", "0.5", "--calib", text(&calibration)];
        mipp([[text(&input), text(&output)].as_slice(), &ends].concat())
    }

    fn run(&self) -> Run {
        self.prune("in.onnx", "out.onnx", "calib.npy")
    }

    /// Fails unless a run ends with exit code 1 and these words and leaves no file.
    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        self.leaves_nothing(|| self.run().fails(1, words));
    }

    #[track_caller]
    fn leaves_nothing(&self, run: impl FnOnce() -> Run) {
        let before = listing(self.folder.path());
        let run = run();
        assert!(run.err.contains("onnx-mipp: error: "), "{}", run.err);
        assert_eq!(run.out, "");
        assert_eq!(listing(self.folder.path()), before);
    }
}

#[test]
fn the_small_model_is_pruned() {
    // Without this, every refusal below could have another cause.
    let bench = Bench::new();
    let run = bench.run().done();
    assert!(run.out.contains("first"), "{}", run.out);
    let model = onnx::load(&bench.path("out.onnx")).unwrap();
    assert_eq!(model.proto.graph.unwrap().initializer[0].dims, [8, 3, 3, 3]);
    assert_eq!(
        listing(bench.folder.path()),
        ["calib.npy", "in.onnx", "out.onnx"]
    );
}

#[test]
fn files_that_are_no_models_are_refused() {
    let bench = Bench::new();
    let path = bench.path("in.onnx");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "this is no protobuf at all, but text").unwrap();
    bench.refuses(&["in.onnx", "no ONNX file"]);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    bench.refuses(&["in.onnx", "truncated"]);
    fs::write(&path, "").unwrap();
    bench.refuses(&["in.onnx: the file is empty", "expected an ONNX model"]);
    fs::remove_file(&path).unwrap();
    bench.refuses(&["in.onnx: cannot read", "No such file"]);
    fs::create_dir(&path).unwrap();
    bench.refuses(&["in.onnx"]);
}

#[test]
fn a_field_of_a_newer_format_is_refused() {
    let bench = Bench::new();
    let path = bench.path("in.onnx");
    let mut bytes = fs::read(&path).unwrap();
    // Field 999 of the model, a varint of 1.
    bytes.extend([0xb8, 0x3e, 0x01]);
    fs::write(&path, bytes).unwrap();
    bench.refuses(&["field 999 of onnx.ModelProto", "IR version"]);
}

#[test]
fn missing_external_data_are_named() {
    let bench = Bench::with(|model| {
        let weight = &mut small::graph(model).initializer[0];
        weight.raw_data = None;
        weight.data_location = Some(tensor_proto::DataLocation::External as i32);
        weight.external_data = vec![StringStringEntryProto {
            key: Some("location".to_owned()),
            value: Some("weights.bin".to_owned()),
        }];
    });
    bench.refuses(&["in.onnx", "'w1'", "weights.bin", "copy it"]);
    fs::write(bench.path("weights.bin"), [0; 100]).unwrap();
    bench.refuses(&["'w1'", "weights.bin", "has 100 bytes", "truncated"]);
}

#[test]
fn an_initializer_of_the_wrong_length_is_named() {
    let bench = Bench::with(|model| small::graph(model).initializer[2].dims[0] = 9);
    bench.refuses(&["in.onnx", "'w2'", "expected", "[9, 16, 1, 1]"]);
}

#[test]
fn a_cycle_is_named() {
    let bench = Bench::with(|model| {
        let graph = small::graph(model);
        graph.node[0].input[0] = "c".to_owned();
        graph
            .node
            .push(small::node("Add", "back", &["x", "r"], "c"));
    });
    bench.refuses(&["cycle through node 'back'"]);
}

#[test]
fn a_missing_input_is_named() {
    let bench = Bench::with(|model| small::graph(model).node[1].input[0] = "gone".to_owned());
    bench.refuses(&["node 'relu' (Relu)", "reads 'gone'", "nothing defines"]);
}

#[test]
fn what_onnx_runtime_refuses_is_refused() {
    let bench = Bench::with(|model| small::graph(model).node[1].op_type = Some("Relux".to_owned()));
    bench.refuses(&["ONNX Runtime cannot open the model", "Relux"]);
}

#[test]
fn calibration_data_that_do_not_fit_are_refused() {
    let bench = Bench::new();
    let path = bench.path("calib.npy");
    small::npy_f32(&path, &[24, 3, 9, 8], &small::noise(24 * 3 * 72, 1));
    bench.refuses(&["calib.npy", "'x'", "[N, 3, 8, 8]", "[24, 3, 9, 8]"]);
    small::npy(&path, "<c8", &[4, 3, 8, 8], &[0; 4 * 3 * 64 * 8]);
    bench.refuses(&["calib.npy"]);
    let mut values = small::noise(24 * 3 * 64, 1);
    values[5 * 3 * 64 + 17] = f32::NAN;
    small::npy_f32(&path, &[24, 3, 8, 8], &values);
    bench.refuses(&["calib.npy", "sample 5", "'x'", "NaN"]);
    small::npy_f32(&path, &[24, 3, 8, 8], &values[..1000]);
    bench.refuses(&["calib.npy"]);
    small::npy_f32(&path, &[0, 3, 8, 8], &[]);
    bench.refuses(&["no sample"]);
    fs::write(&path, "a,b\n1,2\n").unwrap();
    bench.refuses(&["calib.npy"]);
    fs::remove_file(&path).unwrap();
    bench.refuses(&["calib.npy", "No such file"]);
}

#[test]
fn integers_are_not_given_to_an_input_of_booleans() {
    // An input of another type, whose data cannot be converted without loss.
    let bench = Bench::with(|model| {
        let graph = small::graph(model);
        let mut flag = small::value("flag", &[None, Some(1)]);
        if let Some(type_proto::Value::TensorType(tensor)) =
            &mut flag.r#type.as_mut().unwrap().value
        {
            tensor.elem_type = Some(6);
        }
        graph.input = vec![flag];
        let mut cast = small::node("Cast", "cast", &["flag"], "f");
        cast.attribute.push(AttributeProto {
            name: Some("to".to_owned()),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            i: Some(1),
            ..AttributeProto::default()
        });
        let zeros = onnx::Tensor::from_f32(&[1, 3, 8, 8], vec![0.0; 192]).unwrap();
        graph.initializer.push(zeros.to_proto("zeros"));
        let shape = onnx::Tensor::from_i64(&[4], &[-1, 1, 1, 1]).unwrap();
        graph.initializer.push(shape.to_proto("shape"));
        let reshape = small::node("Reshape", "reshape", &["f", "shape"], "g");
        let add = small::node("Add", "add", &["g", "zeros"], "x");
        graph.node.splice(0..0, [cast, reshape, add]);
    });
    small::npy_f32(&bench.path("calib.npy"), &[24, 1], &small::noise(24, 1));
    bench.refuses(&["calib.npy", "'flag'", "int32", "float"]);
}

#[test]
fn a_missing_array_is_named() {
    let bench = Bench::new();
    let npz = fixture("eval.npz");
    fs::copy(npz, bench.path("data.npz")).unwrap();
    bench.leaves_nothing(|| {
        let run = bench.prune("in.onnx", "out.onnx", "data.npz");
        run.fails(
            1,
            &[
                "data.npz",
                "input 'x'",
                "input",
                "labels",
                "name the arrays",
            ],
        )
    });
}

#[test]
fn targets_that_cannot_be_written_are_refused_before_any_work() {
    let bench = Bench::new();
    bench.leaves_nothing(|| {
        let run = bench.prune("in.onnx", "none/out.onnx", "calib.npy");
        assert!(!run.err.contains("calibrating"), "{}", run.err);
        run.fails(1, &["cannot write", "none/out.onnx", "choose a folder"])
    });
    fs::create_dir(bench.path("folder")).unwrap();
    bench.leaves_nothing(|| {
        let run = bench.prune("in.onnx", "folder", "calib.npy");
        run.fails(1, &["cannot write", "folder", "directory"])
    });
    assert!(listing(&bench.path("folder")).is_empty());
    for option in ["--report", "--plan-out"] {
        let [input, output, calibration] =
            ["in.onnx", "out.onnx", "calib.npy"].map(|n| bench.path(n));
        let run = |target: &str| {
            let target = bench.path(target);
            let ends = [option, text(&target), "--calib", text(&calibration)];
            mipp([[text(&input), text(&output)].as_slice(), &ends].concat())
        };
        bench.leaves_nothing(|| run("none/x.json").fails(1, &["cannot write", "none/x.json"]));
        bench.leaves_nothing(|| run("folder").fails(1, &["cannot write", "folder"]));
        let model = fs::read(&input).unwrap();
        bench.leaves_nothing(|| run("in.onnx").fails(1, &["in.onnx", "is the input"]));
        assert_eq!(fs::read(&input).unwrap(), model);
        bench.leaves_nothing(|| run("out.onnx").fails(1, &["out.onnx"]));
    }
}

#[test]
fn the_input_is_never_replaced() {
    let bench = Bench::new();
    let before = fs::read(bench.path("in.onnx")).unwrap();
    bench.leaves_nothing(|| {
        let run = bench.prune("in.onnx", "in.onnx", "calib.npy");
        run.fails(
            1,
            &["in.onnx", "is the input itself", "choose another name"],
        )
    });
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(bench.path("in.onnx"), bench.path("link.onnx")).unwrap();
        for (input, output) in [("in.onnx", "link.onnx"), ("link.onnx", "in.onnx")] {
            bench.leaves_nothing(|| {
                bench
                    .prune(input, output, "calib.npy")
                    .fails(1, &["is the input itself"])
            });
        }
    }
    assert_eq!(fs::read(bench.path("in.onnx")).unwrap(), before);
}

#[test]
fn a_failed_run_leaves_an_older_output_as_it_was() {
    let bench = Bench::new();
    fs::write(bench.path("out.onnx"), "the user's").unwrap();
    fs::write(bench.path("calib.npy"), "no array").unwrap();
    bench.refuses(&["calib.npy"]);
    assert_eq!(fs::read(bench.path("out.onnx")).unwrap(), b"the user's");
}

#[test]
fn an_input_that_an_operator_cannot_do_without_is_missed() {
    for op in ["Einsum", "Sum", "Concat"] {
        let bench = Bench::with(|model| {
            let node = &mut small::graph(model).node[1];
            node.op_type = Some(op.to_owned());
            node.input.push(String::new());
            node.input.push(node.input[0].clone());
        });
        bench.refuses(&["in.onnx", &format!("({op}) has no input in slot 1")]);
    }
}

#[test]
fn an_operator_without_a_rule_freezes_and_is_explained() {
    // ONNX Runtime has this operator in its own domain; there is no rule for it.
    let bench = Bench::with(|model| {
        model.proto.opset_import.push(OperatorSetIdProto {
            domain: Some("com.microsoft".to_owned()),
            version: Some(1),
        });
        let graph = small::graph(model);
        graph.node[1].op_type = Some("Trilu".to_owned());
        graph.node[1].domain = Some("com.microsoft".to_owned());
    });
    let run = bench.run().done();
    assert!(run.err.contains("nothing to prune"), "{}", run.err);
    let inspected = mipp(["inspect", text(&bench.path("in.onnx"))]).done().out;
    assert!(inspected.contains("com.microsoft::Trilu"), "{inspected}");
}

#[test]
fn a_model_with_nothing_to_prune_is_written_unchanged() {
    let bench = Bench::with(|model| {
        let graph = small::graph(model);
        graph.node.truncate(1);
        graph.node[0].output[0] = "y".to_owned();
        graph.initializer.truncate(2);
        graph.output = vec![small::value("y", &[None, Some(16), Some(8), Some(8)])];
    });
    let run = bench.run().done();
    assert!(
        run.err
            .contains("nothing to prune: all its groups are frozen"),
        "{}",
        run.err
    );
    let [before, after] = ["in.onnx", "out.onnx"].map(|n| onnx::load(&bench.path(n)).unwrap());
    assert_eq!(before, after);

    let bench = Bench::with(|model| {
        let graph = small::graph(model);
        graph.node = vec![small::node("Relu", "relu", &["x"], "y")];
        graph.initializer.clear();
        graph.output = vec![small::value("y", &[None, Some(3), Some(8), Some(8)])];
    });
    let run = bench.run().done();
    assert!(
        run.err.contains("nothing to prune: no convolution"),
        "{}",
        run.err
    );
    let [before, after] = ["in.onnx", "out.onnx"].map(|n| onnx::load(&bench.path(n)).unwrap());
    assert_eq!(before, after);
}
