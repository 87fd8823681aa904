//! Budgets of the file's bytes through the program: what counts is what lies on the disk.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Run, fixture, mipp, python, text};

/// Writes a model with its weights in a file of their own.
const OUTSIDE: &str = r#"
import sys, onnx
onnx.save(onnx.load(sys.argv[1]), sys.argv[2], save_as_external_data=True, location="in.data", size_threshold=256)
"#;

fn prune(model: &Path, output: &Path, options: &[&str]) -> Run {
    let data = fixture("calib.npz");
    let start = [text(model), text(output), "--calib", text(&data), "--json"];
    let quick = ["--repair", "once", "--samples", "64"];
    mipp([start.as_slice(), &quick, options].concat())
}

fn pruned(model: &Path, output: &Path, options: &[&str]) -> Value {
    serde_json::from_str(&prune(model, output, options).done().out).unwrap()
}

/// Bytes of all that a folder holds.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().metadata().unwrap().len()).sum()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Files of which most is weights, of which half is what an exporter wrote about nodes that leave
/// with their neighbours, and whose convolutions get biases.
#[test]
fn a_file_has_no_more_bytes_than_asked_and_little_less() {
    for (name, size, most) in [
        ("resnet_bn_torchscript.onnx", "0.5", 0.5 * 707_516.0),
        ("densenet_bn_dynamo.onnx", "300kB", 300_000.0),
        ("densenet_bn_dynamo.onnx", "0.3", 0.3 * 642_738.0),
        ("mobilenet_bn_torchscript.onnx", "200000", 200_000.0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let report = pruned(
            &fixture(name),
            &folder.path().join("out.onnx"),
            &["--size", size],
        );
        let bytes = bytes_in(folder.path()) as f64;
        assert!(
            (0.9 * most..=most).contains(&bytes),
            "{name} {size}: {bytes}"
        );
        assert_eq!(number(&report["bytes"]["after"]), bytes);
    }
}

#[test]
fn weights_in_a_file_of_their_own_count() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let input = folder.path().join("in.onnx");
    let inline = fixture("resnet_folded_torchscript.onnx");
    python(["-c", OUTSIDE, text(&inline), text(&input)]).done();
    let whole = fs::metadata(&inline).unwrap().len() as f64;
    pruned(&input, &out.path().join("out.onnx"), &["--size", "0.4"]);
    let bytes = bytes_in(out.path()) as f64;
    assert!((0.35 * whole..=0.4 * whole).contains(&bytes), "{bytes}");
    assert!(fs::read_dir(out.path()).unwrap().count() == 2);
}

/// The milliseconds are the bytes, so that they can be counted; by the profile two layers take all.
#[cfg(unix)]
#[test]
fn size_and_time_are_kept_beside_a_quality() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("resnet_bn_torchscript.onnx");
    let output = folder.path().join("out.onnx");
    let layers = [
        "/stages/stages.1/body/body.0/Conv",
        "/stages/stages.2/body/body.0/Conv",
    ];
    let layers = layers.map(|name| json!({"name": name, "averageMs": 1.0}));
    let elsewhere = tempfile::tempdir().unwrap();
    let profile = elsewhere.path().join("profile.json");
    fs::write(&profile, json!(layers).to_string()).unwrap();
    let clock = [
        "--latency",
        "0.6",
        "--latency-command",
        "wc -c < {model}",
        "--profile",
        text(&profile),
    ];
    let whole = fs::metadata(&model).unwrap().len() as f64;
    for (more, least, most) in [
        (vec!["--size", "0.8", "--max-change", "0.3"], 0.05, 0.6),
        (vec!["--size", "0.4", "--max-change", "0.3"], 0.05, 0.4),
    ] {
        let report = pruned(&model, &output, &[&clock[..], &more].concat());
        let bytes = bytes_in(folder.path()) as f64;
        assert!(
            (least * whole..=most * whole).contains(&bytes),
            "{more:?}: {bytes}"
        );
        let bound: f64 = more[3].parse().unwrap();
        assert!(number(&report["comparison"]["divergence"]["high"]) <= bound);
        assert!(!report["candidates"].as_array().unwrap().is_empty());
    }
}

#[test]
fn sizes_out_of_reach_and_nonsense_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (
        fixture("resnet_bn_torchscript.onnx"),
        folder.path().join("out.onnx"),
    );
    let run = |size| prune(&model, &output, &["--size", size]);
    run("1kB").fails(
        1,
        &[
            "--size 1000 bytes cannot be reached: a file of",
            "--best-effort",
        ],
    );
    run("0.001").fails(1, &["--size 0.001 cannot be reached: 0.0", "of the bytes"]);
    run("5apples").fails(2, &["above 0 and up to 1", "such as 3.5MB"]);
    assert_eq!(bytes_in(folder.path()), 0);
    let report = pruned(&model, &output, &["--size", "1kB", "--best-effort"]);
    assert!(number(&report["bytes"]["after"]) < 0.3 * number(&report["bytes"]["before"]));
    let report = pruned(&model, &output, &["--size", "1MB"]);
    assert_eq!(report["macs"]["after"], report["macs"]["before"]);
}
