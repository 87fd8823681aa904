//! Runs without calibration data: nothing that is said of made-up inputs may look like quality, and
//! nothing that people care about may break.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_mipp::onnx::Model;
use onnx_mipp::ops::{
    self,
    inputs::{Values, values},
};
use serde_json::Value;

use crate::builder::Builder;
use crate::evaluate::accuracy;
use crate::program::{fixture, mipp, runtime, text};

const RESNET: &str = "resnet_bn_torchscript.onnx";
const UNKNOWN: &str = "nothing is known about the quality of the result without data: give --calib";
/// Words that tell of quality.
const QUALITY: [&str; 4] = ["cosine", "agreement", "relative error", "Trade-off"];

/// Prunes the resnet to half of its MACs without data and reports to a file.
fn prune(folder: &Path, name: &str, more: &[&str]) -> (PathBuf, String) {
    let (model, output) = (fixture(RESNET), folder.join("out.onnx"));
    let report = folder.join(name);
    let start = [
        text(&model),
        text(&output),
        "--samples",
        "32",
        "--macs",
        "0.5",
    ];
    let run = mipp([start.as_slice(), more, &["--report", text(&report)]].concat()).done();
    (report, run.out)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[track_caller]
fn is_silent(shown: &str) {
    for word in QUALITY {
        assert!(
            !shown.to_lowercase().contains(&word.to_lowercase()),
            "'{word}' in\n{shown}"
        );
    }
}

#[test]
fn no_figure_of_made_up_inputs_is_shown_as_quality() {
    let folder = tempfile::tempdir().unwrap();
    let (json, shown) = prune(folder.path(), "report.json", &[]);
    is_silent(&shown);
    assert!(
        shown.contains(UNKNOWN) && shown.contains("MI of made-up inputs"),
        "{shown}"
    );
    assert!(!shown.contains("MI kept"), "{shown}");
    let report: Value = serde_json::from_str(&read(&json)).unwrap();
    assert_eq!(report["comparison"], Value::Null);
    assert_eq!(report["calibration"]["synthetic"], true);
    let mut groups = report["groups"].as_array().unwrap().iter();
    assert!(groups.all(|group| group["synthetic"] == true));
    let (page, _) = prune(folder.path(), "report.html", &[]);
    let page = read(&page);
    is_silent(&page);
    let unknown = UNKNOWN.trim_start_matches("nothing");
    assert!(page.contains(&format!("Nothing{unknown}")) && page.contains("MI of made-up inputs"));
    assert!(!page.contains("MI kept"));
}

/// Statistics of real data say what real inputs tell, but no comparison is made on made-up ones.
#[test]
fn statistics_in_files_are_real_and_the_comparison_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (stats, data) = (folder.path().join("r.stats"), fixture("calib.npz"));
    let with_data = [
        "--calib",
        text(&data),
        "--stats-out",
        text(&stats),
        "--repair",
        "once",
    ];
    let (json, shown) = prune(folder.path(), "with.json", &with_data);
    assert!(
        shown.contains("held-back samples: cosine") && !shown.contains(UNKNOWN),
        "{shown}"
    );
    assert!(!read(&json).contains("\"synthetic\": true"));
    let (json, shown) = prune(folder.path(), "stats.json", &["--stats", text(&stats)]);
    is_silent(&shown);
    assert!(
        shown.contains(UNKNOWN) && shown.contains("MI kept"),
        "{shown}"
    );
    let report: Value = serde_json::from_str(&read(&json)).unwrap();
    assert_eq!(report["comparison"], Value::Null);
    assert_eq!(report["calibration"]["synthetic"], false);
}

#[test]
fn a_sweep_and_a_comparison_without_data_tell_of_size_and_time_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, page) = (fixture(RESNET), folder.path().join("sweep.html"));
    let start = [
        "sweep",
        text(&model),
        "--samples",
        "32",
        "--ratio",
        "0.2,0.4",
    ];
    let ends = ["--out-dir", text(folder.path()), "--report", text(&page)];
    let swept = mipp([&start[..], &ends[..]].concat()).done().out;
    assert!(swept.contains(UNKNOWN), "{swept}");
    let rows = swept.lines().filter(|line| line.starts_with("--ratio"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    assert!(
        rows.len() == 2 && rows.iter().all(|row| row.ends_with(&["-", "-", "-"])),
        "{swept}"
    );
    let page = read(&page);
    assert!(page.contains("Nothing is known") && !page.contains("with the original"));

    let stem = RESNET.trim_end_matches(".onnx");
    let small = folder.path().join(format!("{stem}.ratio-0.4.onnx"));
    let start = ["compare", text(&model), text(&small), "--samples", "32"];
    let shown = mipp(start).done().out;
    is_silent(&shown);
    assert!(
        shown.contains("nothing is known about how close") && shown.contains("latency"),
        "{shown}"
    );
    let found = mipp([start.as_slice(), &["--json"]].concat()).done().out;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["comparison"], Value::Null);
    assert!(found["bytes"]["after"].as_u64() < found["bytes"]["before"].as_u64());
}

/// The promise of the headline command, on the nets at hand.
#[test]
fn the_default_without_data_costs_less_than_a_point() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, data) = (runtime(), fixture("eval.npz"));
    for net in ["resnet", "vgg", "mobilenet", "densenet"] {
        let model = fixture(&format!("{net}_bn_torchscript.onnx"));
        let output = folder.path().join(format!("{net}.onnx"));
        mipp([text(&model), text(&output), "-q"]).done();
        let right = |path: &Path| accuracy(&runtime, path, &data).unwrap().0 as f64 / 10.0;
        let (before, after) = (right(&model), right(&output));
        assert!(
            before - after < 1.0,
            "{net}: {before} % before, {after} % after"
        );
    }
}

#[test]
fn a_model_tells_what_its_inputs_take() {
    let mut b = Builder::new(17);
    for (name, shape) in [
        ("bytes", [3, 8, 8]),
        ("shares", [3, 8, 8]),
        ("plain", [3, 8, 8]),
    ] {
        b.input(name, &shape);
    }
    let turned = b.node("Transpose", &["bytes"], vec![]);
    let factor = b.floats(&[], vec![1.0 / 127.5]);
    let scaled = b.node("Mul", &[&turned, &factor], vec![]);
    let mean = b.floats(&[3, 1, 1], vec![0.485, 0.456, 0.406]);
    let centred = b.node("Sub", &["shares", &mean], vec![]);
    let five = b.floats(&[], vec![5.0]);
    let other = b.node("Add", &["plain", &five], vec![]);
    b.input("ids", &[4]);
    let table = b.weight(&[20, 6], 6);
    let rows = b.node("Gather", &[&table, "ids"], vec![]);
    for (value, rank) in [(&scaled, 4), (&centred, 4), (&other, 4), (&rows, 3)] {
        b.output(value, rank);
    }
    let graph = ops::graph(&Model { proto: b.finish() }).unwrap();
    let found: Vec<(String, Values)> = values(&graph).into_iter().collect();
    let expected = [
        ("bytes", Values::Bytes),
        ("ids", Values::Rows(20)),
        ("shares", Values::Shares),
    ];
    assert_eq!(
        found,
        expected.map(|(name, values)| (name.to_owned(), values))
    );
}
