//! The program without a budget, with data: the smallest model whose outputs change little on
//! held-back samples.

use std::fs;

use serde_json::Value;

use crate::program::{fixture, mipp, python, text};

const MODEL: &str = "resnet_bn_torchscript.onnx";

/// The mean squared change over the variance on the samples 7, 15, ..., which are held back, and
/// its upper end: Student's t for 90 % by numerical integration of the density.
const CHANGE: &str = r#"
import math, sys
import numpy as np, onnxruntime
data = np.load(sys.argv[3])["input"][7::8]
def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: data})[0].astype(np.float64)
before, after = map(run, sys.argv[1:3])
changes = ((after - before) ** 2).sum(1) / ((before - before.mean(0)) ** 2).sum() * (len(data) - 1)
n = len(data) - 1
density = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(n * math.pi)
step, t, below = 1e-4, 0.0, 0.5
while below < 0.9:
    below += density * (1 + t * t / n) ** (-(n + 1) / 2) * step
    t += step
print(changes.mean(), changes.mean() + t * changes.std(ddof=1) / math.sqrt(len(data)))
"#;

/// Prunes the ResNet without a budget; its report, what was printed, and its bytes.
fn prune(options: &[&str], check: impl Fn(&str, &str, &str)) -> (Value, String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let [output, report] = ["out.onnx", "report.json"].map(|name| folder.path().join(name));
    let (model, data) = (fixture(MODEL), fixture("calib.npz"));
    let start = [text(&model), text(&output), "--calib", text(&data)];
    let ends = ["--report", text(&report)];
    let run = mipp([start.as_slice(), &ends, options].concat()).done();
    check(text(&model), text(&output), text(&data));
    let report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    (report, run.out + &run.err, fs::read(output).unwrap())
}

fn left(report: &Value) -> f64 {
    let macs = &report["macs"];
    macs["after"].as_f64().unwrap() / macs["before"].as_f64().unwrap()
}

#[test]
fn the_change_on_held_back_samples_keeps_the_bound() {
    let truth = std::cell::RefCell::new(Vec::new());
    let measure = |model: &str, output: &str, data: &str| {
        let found = python(["-c", CHANGE, model, output, data]).done().out;
        let figures = found.split_whitespace().map(|word| word.parse().unwrap());
        *truth.borrow_mut() = figures.collect::<Vec<f64>>();
    };
    let (report, out, bytes) = prune(&[], measure);
    let (found, truth) = (&report["comparison"]["divergence"], truth.take());
    for (end, truth) in ["mean", "high"].iter().zip(&truth) {
        let found = found[end].as_f64().unwrap();
        assert!((found / truth - 1.0).abs() < 0.01, "{end}: {found} {truth}");
    }
    let search = &report["search"];
    let bound = search["bounds"][0]["bound"].as_f64().unwrap();
    assert!(truth[1] <= bound && truth[1] > bound / 3.0, "{truth:?}");
    assert!(left(&report) < 0.95, "{}", left(&report));
    // What is written is the smallest that kept the bound, and one that did not was looked at, or
    // no other was near.
    let candidates = search["candidates"].as_array().unwrap();
    let kept = |c: &&Value| c["measured"][0].as_f64().unwrap() <= bound;
    let macs = candidates
        .iter()
        .filter(kept)
        .map(|c| c["macs"].as_f64().unwrap());
    let smallest = macs.fold(1.0, f64::min);
    assert!((smallest - left(&report)).abs() < 1e-9, "{search}");
    for words in ["asked nothing", "which chose the size"] {
        assert!(out.contains(words), "{out}");
    }
    // Times differ, the model does not.
    assert!(prune(&[], |_, _, _| ()).2 == bytes);
}

#[test]
fn few_samples_leave_the_model_whole_and_say_so() {
    let (report, out, _) = prune(&["--samples", "6"], |_, _, _| ());
    assert_eq!(left(&report), 1.0);
    assert!(out.contains("too few samples are held back"), "{out}");
    // Two are held back: Student's t of one degree of freedom is above three.
    let (few, out, _) = prune(&["--samples", "16"], |_, _, _| ());
    let (many, ..) = prune(&["--samples", "256"], |_, _, _| ());
    assert!(left(&few) > left(&many), "{} {}", left(&few), left(&many));
    assert!(out.contains("held-back samples tell little"), "{out}");
}

#[test]
fn other_repairs_keep_the_bound_too() {
    for repair in ["once", "none"] {
        let (report, ..) = prune(&["--repair", repair, "--samples", "64"], |_, _, _| ());
        let bound = report["search"]["bounds"][0]["bound"].as_f64().unwrap();
        let high = report["comparison"]["divergence"]["high"].as_f64().unwrap();
        assert!(high <= bound, "{repair}: {high}");
    }
}
