//! Padding of texts: what stands there decides nothing.

use std::path::Path;

use onnx_mipp::onnx::Tensor;
use prost::Message;

use crate::builder::{Builder, INT64, int, ints};
use crate::program::{mipp, text};
use crate::small;

const SAMPLES: usize = 64;
const LENGTH: usize = 8;
const WIDTH: usize = 12;

/// An attention that reads no padding, and an MLP that takes each position alone.
fn model() -> Vec<u8> {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, WIDTH]);
    b.input_of("attention_mask", INT64 as i32, &[LENGTH]);
    let mask = b.node("Cast", &["attention_mask"], vec![int("to", 1)]);
    let one = b.floats(&[], vec![1.0]);
    let far = b.floats(&[], vec![-1e4]);
    let mask = b.node("Sub", &[&one, &mask], vec![]);
    let mask = b.node("Mul", &[&mask, &far], vec![]);
    let axes = b.ints(&[1, 2]);
    let mask = b.node("Unsqueeze", &[&mask, &axes], vec![]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let weight = b.weight(&[WIDTH, WIDTH], WIDTH);
        let made = b.node("MatMul", &["x", &weight], vec![]);
        let shape = b.ints(&[0, 0, 2, -1]);
        let apart = b.node("Reshape", &[&made, &shape], vec![]);
        parts.push(b.node("Transpose", &[&apart], vec![ints("perm", &[0, 2, 1, 3])]));
    }
    let keys = b.node("Transpose", &[&parts[1]], vec![ints("perm", &[0, 1, 3, 2])]);
    let scores = b.node("MatMul", &[&parts[0], &keys], vec![]);
    let scores = b.node("Add", &[&scores, &mask], vec![]);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("MatMul", &[&scores, &parts[2]], vec![]);
    let back = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = b.ints(&[0, 0, WIDTH as i64]);
    let made = b.node("Reshape", &[&back, &shape], vec![]);
    let weight = b.weight(&[WIDTH, WIDTH], WIDTH);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    let stream = b.node("Add", &[&made, "x"], vec![]);
    let (up, down) = (b.weight(&[WIDTH, 32], WIDTH), b.weight(&[32, WIDTH], 32));
    let made = b.node("MatMul", &[&stream, &up], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    let made = b.node("MatMul", &[&made, &down], vec![]);
    let made = b.node("Add", &[&made, &stream], vec![]);
    b.output(&made, 3);
    b.finish().encode_to_vec()
}

/// The bytes of the result and what it is compared by, with `filler` times noise as padding.
fn pruned(folder: &Path, filler: f32, options: &[&str]) -> (Vec<u8>, serde_json::Value) {
    let path = |name: &str| folder.join(name);
    std::fs::write(path("in.onnx"), model()).unwrap();
    let data = path("data");
    std::fs::create_dir_all(&data).unwrap();
    // Three to eight tokens.
    let length = |sample: usize| 3 + sample * 7 % 6;
    let counts = |at: usize| at % LENGTH < length(at / LENGTH);
    let mut values = small::noise(SAMPLES * LENGTH * WIDTH, 1);
    for (at, value) in values.iter_mut().enumerate() {
        if !counts(at / WIDTH) {
            *value *= filler;
        }
    }
    let mask: Vec<i64> = (0..SAMPLES * LENGTH).map(|at| counts(at).into()).collect();
    let values = Tensor::from_f32(&[SAMPLES, LENGTH, WIDTH], values).unwrap();
    let mask = Tensor::from_i64(&[SAMPLES, LENGTH], &mask).unwrap();
    for (file, (name, tensor)) in ["input_0.pb", "input_1.pb"]
        .iter()
        .zip([("x", values), ("attention_mask", mask)])
    {
        std::fs::write(data.join(file), tensor.to_proto(name).encode_to_vec()).unwrap();
    }
    let [model, out] = ["in.onnx", "out.onnx"].map(path);
    let start = [
        text(&model),
        text(&out),
        "--calib",
        text(&data),
        "--json",
        "--quiet",
        "--align",
        "1",
    ];
    let run = mipp(start.iter().chain(options)).done();
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    (std::fs::read(out).unwrap(), report["comparison"].clone())
}

#[test]
fn what_stands_at_padding_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        &["--macs", "0.6"][..],
        &["--ratio", "0.5", "--repair", "once", "--heads", "whole"],
        &[
            "--ratio",
            "0.3",
            "--estimator",
            "copula",
            "--repair",
            "none",
        ],
        &[
            "--ratio",
            "0.3",
            "--estimator",
            "copula",
            "--repair",
            "once",
        ],
        &["--ratio", "0.3", "--estimator", "copula"],
        &[],
    ] {
        let [zeros, other] = [0.0, 6.0].map(|filler| pruned(folder.path(), filler, options));
        assert!(zeros.0 == other.0, "{options:?}: another model");
        assert_eq!(zeros.1, other.1, "{options:?}");
    }
}

#[test]
fn a_note_says_that_padding_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    pruned(folder.path(), 1.0, &["--macs", "0.6"]);
    let [model, data] = ["in.onnx", "data"].map(|name| folder.path().join(name));
    let out = folder.path().join("out.onnx");
    let run = mipp([text(&model), text(&out), "--calib", text(&data)]).done();
    assert!(
        run.err
            .contains("what 'attention_mask' calls padding does not count"),
        "{}",
        run.err
    );
}
