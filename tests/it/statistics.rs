//! Statistics in files, and sweeps that share them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::program::{Run, fixture, listing, mipp, python, text};
use crate::small;

const RESNET: &str = "resnet_bn_torchscript.onnx";

/// A folder with a small model, and its data whole and in two parts of different means.
fn desk() -> (TempDir, [PathBuf; 4]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["in.onnx", "whole.npy", "a.npy", "b.npy"].map(|name| folder.path().join(name));
    small::write(&small::model(), &paths[0]);
    let script = "
import sys, numpy as np
draw = np.random.default_rng(5).standard_normal
a, b = draw((24, 3, 8, 8)), 2 * draw((16, 3, 8, 8)) + 3
for path, array in zip(sys.argv[1:], [np.concatenate([a, b]), a, b]):
    np.save(path, array.astype(np.float32))";
    let [_, whole, a, b] = &paths;
    python(["-c", script, text(whole), text(a), text(b)]).done();
    (folder, paths)
}

fn prune(model: &Path, output: &Path, options: &[&str]) -> Run {
    let start = [
        text(model),
        text(output),
        "--ratio",
        "0.5",
        "--repair",
        "once",
        "--json",
        "--batch",
        "7",
    ];
    mipp([start.as_slice(), options].concat())
}

fn scores(run: &Run) -> Vec<f64> {
    let report: Value = serde_json::from_str(&run.out).unwrap();
    let groups = report["groups"].as_array().unwrap();
    let shares = groups.iter().flat_map(|group| {
        let share = |what: &str| group.pointer(what).and_then(Value::as_f64);
        [
            share("/score/mi_kept"),
            share("/score/explained"),
            share("/score/mi_interval/low"),
            share("/score/mi_interval/high"),
        ]
    });
    shares.flatten().collect()
}

#[test]
fn statistics_of_parts_add_up_to_those_of_the_whole() {
    let (folder, [model, whole, a, b]) = desk();
    let path = |name: &str| folder.path().join(name);
    let output = path("out.onnx");
    let [all, first, second] = ["all.stats", "a.stats", "b.stats"].map(path);
    let gather = |data: &Path, stats: &Path| {
        let plan = stats.with_extension("json");
        let options = [
            "--calib",
            text(data),
            "--stats-out",
            text(stats),
            "--plan-out",
            text(&plan),
        ];
        (
            prune(&model, &output, &options).done(),
            fs::read(&output).unwrap(),
        )
    };
    let (direct, bytes) = gather(&whole, &all);
    gather(&a, &first);
    gather(&b, &second);
    // The same data and their statistics: the same model.
    let again = ["--stats", text(&all), "--calib", text(&whole)];
    prune(&model, &output, &again).done();
    assert_eq!(fs::read(&output).unwrap(), bytes);
    // The sums of both parts are those of the whole.
    let plan = path("merged.json");
    let parts = ["--stats", text(&first), "--stats", text(&second)];
    let merged = [parts.as_slice(), &["--plan-out", text(&plan)]].concat();
    let run = prune(&model, &output, &merged).done();
    let warning = "only the statistics are of real data";
    assert!(run.err.contains(warning), "{}", run.err);
    let (found, expected) = (scores(&run), scores(&direct));
    assert_eq!(found.len(), 4, "{}", run.out);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
    let [merged, whole] = [&plan, &path("all.json")].map(|path| fs::read(path).unwrap());
    assert_eq!(merged, whole);
    // One part alone says something else.
    let part = prune(&model, &output, &["--stats", text(&first)]).done();
    assert!((scores(&part)[0] - scores(&direct)[0]).abs() > 1e-6);
}

/// Has a file of statistics, whose checksum fits, count so many rows that no number holds their
/// sum.
fn claim_rows(bytes: &mut Vec<u8>) {
    let word = b"\"parts\":[";
    let start = bytes.windows(word.len()).position(|part| part == word);
    let start = start.unwrap() + word.len();
    let end = start + bytes[start..].iter().position(|&b| b == b']').unwrap();
    let count = bytes[start..end].split(|&byte| byte == b',').count();
    let many = vec![(1_u64 << 62).to_string(); count]
        .join(",")
        .into_bytes();
    let length = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    let length = length + (many.len() - (end - start)) as u64;
    bytes[24..32].copy_from_slice(&length.to_le_bytes());
    bytes.splice(start..end, many);
    let end = bytes.len() - 32;
    let sum = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum);
}

#[test]
fn statistics_that_do_not_belong_are_refused() {
    let (folder, [model, whole, a, _]) = desk();
    let path = |name: &str| folder.path().join(name);
    let (output, stats, copy) = (path("out.onnx"), path("s.stats"), path("copy.stats"));
    let options = [
        "--calib",
        text(&whole),
        "--stats-out",
        text(&stats),
        "--dry-run",
    ];
    let dry = [text(&model), "--ratio", "0.5", "--repair", "once"];
    mipp([dry.as_slice(), &options].concat()).done();
    fs::copy(&stats, &copy).unwrap();
    let before = listing(folder.path());
    let refuse = |model: &Path, options: &[&str], words: &[&str]| {
        prune(model, &output, options).fails(1, words);
        assert_eq!(listing(folder.path()), before);
    };
    let both = ["--stats", text(&stats), "--stats", text(&copy)];
    refuse(&model, &both, &["copy.stats", "same data", "s.stats"]);
    let other = ["--stats", text(&stats), "--calib", text(&a)];
    refuse(&model, &other, &["s.stats", "whole.npy", "not of --calib"]);
    let fewer = [
        "--stats",
        text(&stats),
        "--calib",
        text(&whole),
        "--samples",
        "32",
    ];
    refuse(&model, &fewer, &["s.stats", "not of --calib"]);
    refuse(
        &fixture(RESNET),
        &["--stats", text(&stats)],
        &["another model"],
    );
    let wide = ["--stats", text(&stats), "--stats-out", text(&copy)];
    prune(&model, &output, &wide).fails(2, &["cannot be used with"]);
}

#[test]
fn damaged_statistics_are_refused() {
    let (folder, [model, whole, ..]) = desk();
    let path = |name: &str| folder.path().join(name);
    let (output, stats, copy) = (path("out.onnx"), path("s.stats"), path("copy.stats"));
    let dry = [
        text(&model),
        "--ratio",
        "0.5",
        "--repair",
        "once",
        "--dry-run",
    ];
    let options = ["--calib", text(&whole), "--stats-out", text(&stats)];
    mipp([dry.as_slice(), &options].concat()).done();
    let good = fs::read(&stats).unwrap();
    fs::copy(&stats, &copy).unwrap();
    let before = listing(folder.path());
    let damage = |change: &dyn Fn(&mut Vec<u8>), word: &str| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&copy, bytes).unwrap();
        let words = ["copy.stats", word, "--stats-out"];
        prune(&model, &output, &["--stats", text(&copy)]).fails(1, &words);
        assert_eq!(listing(folder.path()), before);
    };
    damage(&|bytes| bytes.truncate(bytes.len() / 2), "ends too early");
    damage(&|bytes| bytes.truncate(10), "ends too early");
    damage(&|bytes| bytes.push(0), "checksum");
    damage(&|bytes| *bytes.last_mut().unwrap() ^= 1, "checksum");
    damage(&|bytes| bytes[0] ^= 1, "other bytes");
    damage(&|bytes| bytes[21] = b'1', "in another format");
    damage(&|bytes| bytes[24..32].fill(255), "header is too long");
    let middle = good.len() / 2;
    damage(&|bytes| bytes[middle] ^= 1, "checksum");
    // What the header promises is checked before room is made for it.
    let word = b"\"inputs\":";
    let header = good.windows(word.len()).position(|part| part == word);
    let header = header.unwrap() + word.len();
    damage(&|bytes| bytes[header] = b'9', "other tensors");
    damage(&|bytes| claim_rows(bytes), "counts more than there can be");
}

#[test]
fn ranks_judge_otherwise_and_need_data() {
    let (folder, [model, whole, ..]) = desk();
    let path = |name: &str| folder.path().join(name);
    let (output, stats, config) = (path("out.onnx"), path("s.stats"), path("rank.toml"));
    let data = ["--calib", text(&whole)];
    let kept = ["--stats-out", text(&stats)];
    let plain = prune(&model, &output, &[data, kept].concat()).done();
    let run = |options: [&str; 2]| {
        let run = prune(&model, &output, &[data, options].concat()).done();
        (scores(&run), fs::read(&output).unwrap())
    };
    let ranked = run(["--estimator", "copula"]);
    assert_ne!(ranked.0, scores(&plain));
    fs::write(&config, "estimator = \"copula\"").unwrap();
    assert_eq!(run(["--config", text(&config)]), ranked);
    // Ranks have no interval: --mi goes by the share itself.
    let start = ["--mi", "0.6", "--align", "1", "--json"];
    let options = [
        "--batch",
        "7",
        "--estimator",
        "copula",
        "--calib",
        text(&whole),
    ];
    let paths = [text(&model), text(&output)];
    let report = mipp([paths.as_slice(), &start, &options].concat())
        .done()
        .out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let narrower = |group: &&Value| group["score"]["mi_kept"].as_f64() < Some(1.0);
    let groups = report["groups"].as_array().unwrap().iter();
    let found: Vec<&Value> = groups
        .filter(|g| g["score"].is_object())
        .filter(narrower)
        .collect();
    assert!(!found.is_empty());
    for group in found {
        assert!(group["score"]["mi_kept"].as_f64() >= Some(0.6), "{group}");
        assert!(group["score"]["mi_interval"].is_null(), "{group}");
    }
    // Rows are no part of the file.
    let start = ["--stats", text(&stats), "--estimator", "copula"];
    let words = ["--estimator copula", "--stats", "--calib"];
    prune(&model, &output, &start).fails(1, &words);
}

#[test]
fn a_sweep_calibrates_once_and_gives_what_single_runs_give() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (fixture(RESNET), fixture("calib.npz"));
    let few = ["--calib", text(&data), "--samples", "32"];
    let report = folder.path().join("sweep.json");
    let start = [
        "sweep",
        text(&model),
        "--macs",
        "0.75,0.5,0.5",
        "--mi",
        "0.9",
    ];
    let ends = ["--out-dir", text(folder.path()), "--report", text(&report)];
    let run = mipp([start.as_slice(), &ends, &few].concat()).done();
    for stage in [
        "calibrating",
        "trying narrower widths",
        "checking the result",
    ] {
        assert_eq!(run.err.matches(stage).count(), 1, "{}", run.err);
    }
    let stem = RESNET.trim_end_matches(".onnx");
    let names = ["macs-0.5", "macs-0.75", "mi-0.9"].map(|budget| format!("{stem}.{budget}.onnx"));
    let mut expected = names.to_vec();
    expected.push("sweep.json".to_owned());
    assert_eq!(listing(folder.path()), expected);
    let rows: Vec<&str> = run.out.lines().skip(1).take(3).collect();
    for (row, asked) in rows.iter().zip(["--macs 0.75", "--macs 0.5", "--mi 0.9"]) {
        assert!(row.starts_with(asked), "{}", run.out);
    }
    let single = folder.path().join("single.onnx");
    // What a sweep does by default.
    let budget = ["--macs", "0.5", "--repair", "once", "-q"];
    mipp([[text(&model), text(&single)].as_slice(), &budget, &few].concat()).done();
    let [swept, single] =
        [folder.path().join(&names[0]), single].map(|path| fs::read(path).unwrap());
    assert!(swept == single, "a sweep gave another model");
    let entries: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let entries = entries["entries"].as_array().unwrap();
    assert_eq!(entries[1]["report"]["bytes"]["after"], swept.len());
    mipp(["sweep", text(&model)]).fails(2, &["--macs"]);
    let nowhere = [
        "sweep",
        text(&model),
        "--macs",
        "0.5",
        "--out-dir",
        "/no/such",
    ];
    mipp(nowhere).fails(1, &["/no/such", "folder that exists"]);
}
