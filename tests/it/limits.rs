//! Small files that ask for gigabytes or hours: each is refused with what asks for it, or is done
//! in time.

use std::path::{Path, PathBuf};

use onnx_mipp::onnx::{Model, Tensor, proto::*};
use tempfile::TempDir;

use crate::builder::{Builder, int, ints, open, subgraph, tensor_type};
use crate::program::{Run, fixture, listing, mipp, text};
use crate::small;

/// Megabytes that the runs here may take.
const LIMIT: [&str; 2] = ["--memory-limit", "1000"];

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn of(model: ModelProto) -> Bench {
        let bench = Bench {
            folder: tempfile::tempdir().unwrap(),
        };
        small::write(&Model { proto: model }, &bench.path("in.onnx"));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn inspect(&self) -> Run {
        let path = self.path("in.onnx");
        mipp([["inspect", text(&path)], LIMIT].concat())
    }

    fn prune(&self, more: &[&str]) -> Run {
        let paths = ["in.onnx", "out.onnx"].map(|name| self.path(name));
        let paths = paths.each_ref().map(|path| text(path));
        mipp([&paths, more, &LIMIT, &["--threads", "1"]].concat())
    }
}

/// Fails unless the model is refused for its memory, with these words.
#[track_caller]
fn refuses(model: ModelProto, words: &[&str]) {
    let run = Bench::of(model).inspect();
    let run = run.fails(1, &["onnx-mipp: error: ", "1.00 GB (--memory-limit"]);
    run.fails(1, words);
}

/// x [N, 2, 2, 2] -> Conv of 8 channels, and what `more` makes of that.
fn behind_channels(more: impl FnOnce(&mut Builder, &str) -> String) -> ModelProto {
    let mut builder = Builder::new(18);
    let x = builder.input("x", &[2, 2, 2]);
    let a = builder.pointwise(&x, 2, 8);
    let y = more(&mut builder, &a);
    builder.output(&y, 4);
    builder.finish()
}

#[test]
fn operators_that_make_channels_of_numbers_are_refused_by_name() {
    let pad = behind_channels(|b, a| {
        let pads = b.ints(&[0, 0, 0, 0, 0, 1 << 31, 0, 0]);
        b.node("Pad", &[a, &pads], vec![])
    });
    refuses(pad, &["(Pad)", "2147483656, 2, 2]"]);
    let tile = behind_channels(|b, a| {
        let repeats = b.ints(&[1, 1 << 28, 1, 1]);
        b.node("Tile", &[a, &repeats], vec![])
    });
    refuses(tile, &["(Tile)", "2147483648, 2, 2]"]);
    let expand = behind_channels(|b, a| {
        let shape = b.ints(&[1 << 30, 1, 8, 2, 2]);
        b.node("Expand", &[a, &shape], vec![])
    });
    refuses(expand, &["(Expand)", "[1073741824, "]);
}

#[test]
fn constants_of_any_size_are_refused_before_they_are_filled() {
    let mut builder = Builder::new(18);
    let x = builder.input("x", &[6]);
    let weight = builder.weight(&[6, 8], 6);
    let y = builder.node("MatMul", &[&x, &weight], vec![]);
    let shape = builder.ints(&[(1 << 29) - 1]);
    for _ in 0..10 {
        builder.node("ConstantOfShape", &[&shape], vec![]);
    }
    builder.output(&y, 2);
    refuses(builder.finish(), &["(ConstantOfShape)", "[536870911]"]);
}

#[test]
fn inputs_of_any_size_are_refused() {
    let mut builder = Builder::new(18);
    let x = builder.input("x", &[1 << 38, 6]);
    let weight = builder.weight(&[6, 8], 6);
    let y = builder.node("MatMul", &[&x, &weight], vec![]);
    builder.output(&y, 3);
    refuses(builder.finish(), &["input 'x'", "[274877906944, 6]"]);
    // The same by an option.
    let model = fixture("resnet_bn_torchscript.onnx");
    let shape = ["--shape", "input=1,1,65536,2147483647"];
    let run = mipp([["inspect", text(&model)], shape, LIMIT].concat());
    assert_eq!(run.code, Some(1), "{}", run.err);
}

/// A loop over the channels that runs `trips` times, without them for ever.
fn looping(trips: Option<i64>) -> ModelProto {
    const BOOL: i32 = 9;
    let copy = |from: &str, to: &str| NodeProto {
        op_type: Some("Identity".to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        ..Default::default()
    };
    let typed = |name: &str, rank, kind| {
        let mut info = open(name, rank);
        tensor_type(&mut info).elem_type = Some(kind);
        info
    };
    let body = GraphProto {
        name: Some("body".to_owned()),
        node: vec![copy("on", "still_on"), copy("state", "next")],
        input: vec![typed("step", 0, 7), typed("on", 0, BOOL), open("state", 4)],
        output: vec![typed("still_on", 0, BOOL), open("next", 4)],
        ..Default::default()
    };
    behind_channels(|b, a| {
        let count = trips.map_or_else(String::new, |trips| b.index(trips));
        b.node("Loop", &[&count, "", a], vec![subgraph("body", body)])
    })
}

#[test]
fn a_loop_that_runs_for_hours_is_refused() {
    Bench::of(looping(Some(20))).inspect().done();
    for endless in [Some(i64::from(i32::MAX)), None] {
        let words = ["in.onnx", "(Loop)", "works through", "(--memory-limit"];
        Bench::of(looping(endless)).inspect().fails(1, &words);
    }
}

/// x [N, 2] -> MatMul of so many channels -> Relu -> MatMul.
fn hidden(channels: usize) -> Bench {
    let mut builder = Builder::new(18);
    let x = builder.input("x", &[2]);
    let [v, w] = [[2, channels], [channels, 2]].map(|shape| builder.weight(&shape, 2));
    let a = builder.node("MatMul", &[&x, &v], vec![]);
    let b = builder.node("Relu", &[&a], vec![]);
    let y = builder.node("MatMul", &[&b, &w], vec![]);
    builder.output(&y, 2);
    Bench::of(builder.finish())
}

/// The weights are small, and the covariance of what they make is their square.
#[test]
fn statistics_are_counted_before_they_are_gathered() {
    let run = hidden(8192).prune(&[]);
    let words = [
        "in.onnx",
        "the calibration",
        "needs 1.6",
        "--exclude",
        "(--memory-limit",
    ];
    run.fails(1, &words);
}

/// What no sum foresees.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_is_an_error() {
    let bench = hidden(6000);
    let run = bench.prune(&["--samples", "16"]);
    run.fails(1, &["onnx-mipp: error: ", "memory", "--memory-limit MB"]);
    assert_eq!(listing(bench.folder.path()), ["in.onnx"]);
}

/// No element, but so many places along its axes.
#[test]
fn axes_of_empty_weights_are_counted() {
    let mut builder = Builder::new(18);
    let x = builder.input("x", &[2, 4, 4]);
    let a = builder.pointwise(&x, 2, 8);
    let empty = Tensor::from_f32(&[8, 0, 1 << 20, 1 << 20], vec![]).unwrap();
    let weight = builder.store(&empty);
    let y = builder.node("ConvTranspose", &[&a, &weight], vec![]);
    builder.output(&y, 4);
    refuses(builder.finish(), &["[8, 0, 1048576, 1048576]"]);
}

/// Two to the power of 64 ways from one end to the other: no run that follows each of them ends.
#[test]
fn numbers_that_are_read_twice_again_and_again_are_followed_once() {
    const STEPS: usize = 64;
    let chain = |op: &str, start: &dyn Fn(&mut Builder, &str) -> String| {
        let mut builder = Builder::new(18);
        let x = builder.input("x", &[8]);
        let weight = builder.weight(&[8, 8], 8);
        let a = builder.node("MatMul", &[&x, &weight], vec![]);
        let mut last = start(&mut builder, &a);
        for _ in 0..STEPS {
            last = builder.node(op, &[&last, &last], vec![]);
        }
        let cast = builder.node("Cast", &[&last], vec![int("to", 1)]);
        let y = builder.node("Mul", &[&a, &cast], vec![]);
        builder.output(&y, 2);
        Bench::of(builder.finish()).inspect().done();
    };
    chain("Add", &|b, a| {
        let shape = b.node("Shape", &[a], vec![]);
        let first = b.index(1);
        b.node("Gather", &[&shape, &first], vec![])
    });
    chain("Mul", &|b, _| {
        let shape = b.ints(&[8]);
        b.node("ConstantOfShape", &[&shape], vec![])
    });
    chain("Max", &|b, _| b.floats(&[8], vec![1.0; 8]));
}

#[test]
fn thousands_of_calls_may_have_one_name() {
    const CALLS: usize = 3000;
    let mut builder = Builder::new(18);
    let mut last = builder.input("x", &[4]);
    for _ in 0..CALLS {
        last = builder.node("Twice", &[&last], vec![]);
        builder.in_domain("local");
        builder.last().name = Some("same".to_owned());
    }
    builder.output(&last, 2);
    let mut model = builder.finish();
    model.functions.push(FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["c".to_owned()],
        node: vec![
            small::node("Relu", "p", &["a"], "b"),
            small::node("Relu", "q", &["b"], "c"),
        ],
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(18),
        }],
        ..FunctionProto::default()
    });
    let inlined = Model { proto: model }.inlined();
    let nodes = &inlined.proto.graph.as_ref().unwrap().node;
    let mut names: Vec<&str> = nodes.iter().map(NodeProto::name).collect();
    assert_eq!(names.len(), 2 * CALLS);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2 * CALLS);
}

/// Runs the small model with data at a path.
fn with_data(data: &Path) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (
        folder.path().join("in.onnx"),
        folder.path().join("out.onnx"),
    );
    small::write(&small::model(), &model);
    let asked = ["--calib", text(data), "--ratio", "0.5"];
    let run = mipp([[text(&model), text(&output)].as_slice(), &asked, &LIMIT].concat());
    assert!(!output.exists());
    run
}

/// The bytes of a .npy whose header promises these samples, without most of them.
fn promising(folder: &Path, samples: usize) -> Vec<u8> {
    let path = folder.join("promise.npy");
    small::npy(&path, "<f4", &[samples, 3, 8, 8], &[0; 4096]);
    std::fs::read(path).unwrap()
}

#[test]
fn samples_that_are_promised_are_not_believed() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    for (samples, method) in [
        (1 << 50, zip::CompressionMethod::Deflated),
        (1 << 32, zip::CompressionMethod::Stored),
        (usize::MAX >> 2, zip::CompressionMethod::Deflated),
    ] {
        let path = folder.path().join("x.npz");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file("x.npy", options).unwrap();
        archive
            .write_all(&promising(folder.path(), samples))
            .unwrap();
        archive.finish().unwrap();
        with_data(&path).fails(1, &["x.npz", "cut short"]);
    }
    // A header of four gigabytes, and one nested so deep that reading it takes all stack.
    let path = folder.path().join("x.npy");
    std::fs::write(&path, b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").unwrap();
    with_data(&path).fails(1, &["x.npy", "header of 4294967295 bytes"]);
    let nested = [
        b"\x93NUMPY\x01\x00\x60\xea".as_slice(),
        &b"(".repeat(60_000),
    ]
    .concat();
    std::fs::write(&path, nested).unwrap();
    with_data(&path).fails(1, &["x.npy", "nested too deep"]);
}

#[test]
fn images_that_are_a_line_of_pixels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.png");
    image::GrayImage::new(1, 65_535).save(&path).unwrap();
    let mut model = small::model();
    let side = Some(224);
    small::graph(&mut model).input = vec![small::value("x", &[None, Some(3), side, side])];
    small::graph(&mut model).output = vec![small::value("y", &[None, Some(8), side, side])];
    let (input, output) = (
        folder.path().join("in.onnx"),
        folder.path().join("out.onnx"),
    );
    small::write(&model, &input);
    let ends = ["--calib", text(&path), "--ratio", "0.5"];
    let run = mipp([[text(&input), text(&output)].as_slice(), &ends, &LIMIT].concat());
    run.fails(1, &["line.png", "1x65535"]);
}

#[test]
fn numbers_out_of_their_range_are_usage_errors_that_tell_it() {
    let cases = [
        (["--align", "9223372036854775807"], "1 to 1048576"),
        (["--min-channels", "0"], "1 to 1048576"),
        (["--threads", "100000"], "1 to 1024"),
        (["--samples", "0"], "1 to 100000000"),
        (["--batch", "99999999"], "1 to 65536"),
        (["--memory", "99999999999"], "0 to 16777216"),
        (["--memory-limit", "1"], "256 to 16777216"),
        (["--seed", "-1"], "0 to 18446744073709551615"),
        (["--resize", "4294967295"], "1 to 65536"),
        (["--crop", "0"], "1 to 65536"),
        (["--shape", "x=1,4294967296"], "1 to 2147483647"),
        (["--mean", "nan"], "a number from"),
        (["--std", "inf"], "a number from"),
        (["--scale", "1e99"], "a number from"),
        (["--macs", "1.5"], "above 0 and up to 1"),
        (["--ratio", "1"], "from 0 on and below 1"),
    ];
    for ([option, value], range) in cases {
        let value = format!("{option}={value}");
        let run = mipp(["in.onnx", "out.onnx", &value]);
        run.fails(2, &[option, range]);
    }
}

/// A window whose sizes are numbers of the file.
#[test]
fn windows_of_any_size_are_refused_or_left_alone() {
    for (name, values) in [
        ("kernel_shape", [1 << 40, 1 << 40]),
        ("dilations", [1 << 62, 1 << 62]),
        ("strides", [i64::MAX, i64::MAX]),
    ] {
        let model = behind_channels(|b, a| {
            let weight = b.weight(&[4, 8, 1, 1], 8);
            b.node("Conv", &[a, &weight], vec![ints(name, &values)])
        });
        let run = Bench::of(model).inspect();
        assert!(matches!(run.code, Some(0 | 1)), "{name}: {}", run.err);
        assert!(!run.err.contains("panicked"), "{name}: {}", run.err);
    }
}
