//! Budgets of quality through the program, judged by Python: the smallest model that keeps them.

use std::fs;
use std::path::Path;

use onnx_mipp::{Budget, Calibration, Metric, Model, Prune};
use serde_json::Value;

use crate::program::{Run, fixture, mipp, python, root, runtime, text};

const MODEL: &str = "resnet_bn_torchscript.onnx";

/// How many of the held-back samples two models classify alike, how many there are, and what share
/// that speaks for with a confidence of 90 %: the p at which so many or more have a probability of a
/// tenth, by sums of exact binomial coefficients.
const AGREED: &str = r#"
import math, sys
import numpy as np, onnxruntime
data = np.load(sys.argv[3])["input"][7::8]
def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: data})[0].argmax(1)
agreed, n = int((run(sys.argv[1]) == run(sys.argv[2])).sum()), len(data)
low, high = 0.0, 1.0
for _ in range(60):
    p = (low + high) / 2
    tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(agreed, n + 1))
    low, high = (low, p) if tail > 0.1 else (p, high)
print(agreed / n, low)
"#;

/// Prunes the ResNet into a folder; the report.
fn pruned(folder: &Path, options: &[&str]) -> Value {
    serde_json::from_str(&prune(folder, options).done().out).unwrap()
}

fn prune(folder: &Path, options: &[&str]) -> Run {
    let (model, data, output) = (
        fixture(MODEL),
        fixture("calib.npz"),
        folder.join("out.onnx"),
    );
    let start = [
        text(&model),
        text(&output),
        "--calib",
        text(&data),
        "--json",
    ];
    mipp([start.as_slice(), options].concat())
}

fn share(report: &Value, of: &str) -> f64 {
    number(&report[of]["after"]) / number(&report[of]["before"])
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// What a script printed last, for two models.
fn numbers(arguments: &[&str]) -> Vec<f64> {
    let found = python(arguments).done().out;
    let last = found.lines().last().unwrap().split_whitespace();
    last.map(|word| word.parse().unwrap()).collect()
}

/// That the model is the smallest of the candidates that kept the bounds, and that those which
/// missed them are smaller.
fn assert_smallest(report: &Value) {
    let candidates = report["search"]["candidates"].as_array().unwrap();
    let macs = |kept: bool| -> Vec<f64> {
        let candidates = candidates.iter().filter(|c| c["kept"] == kept);
        candidates.map(|c| number(&c["macs"])).collect()
    };
    let smallest = macs(true).into_iter().fold(f64::INFINITY, f64::min);
    assert!(
        (smallest - share(report, "macs")).abs() < 1e-9,
        "{candidates:?}"
    );
    assert!(
        macs(false).iter().all(|missed| *missed < smallest),
        "{candidates:?}"
    );
}

#[test]
fn a_metric_drops_by_no_more_than_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let script = root().join("examples/right.py");
    let python = python(["-c", "import sys; print(sys.executable)"])
        .done()
        .out;
    let eval = fixture("eval.npz");
    let metric = format!(
        "'{}' '{}' {{model}} '{}'",
        python.trim(),
        text(&script),
        text(&eval)
    );
    let asked = ["--metric", &metric, "--max-drop", "1", "--repair", "once"];
    let report = pruned(folder.path(), &asked);
    assert_smallest(&report);
    let right = |model: &Path| numbers(&[text(&script), text(model), text(&eval)])[0];
    let [before, after] = [fixture(MODEL), folder.path().join("out.onnx")].map(|path| right(&path));
    let metric = &report["metric"];
    for (when, truth) in [("before", before), ("after", after)] {
        assert!(
            (number(&metric[when]) - truth).abs() < 1e-9,
            "{metric} {truth}"
        );
    }
    assert!(
        before - after <= 1.0 && share(&report, "macs") < 0.7,
        "{metric}"
    );
    assert_eq!(report["asked"], "--max-drop 1");
}

#[test]
fn as_many_agree_as_is_asked_for_sure() {
    let folder = tempfile::tempdir().unwrap();
    let report = pruned(folder.path(), &["--agreement", "0.8", "--repair", "once"]);
    assert_smallest(&report);
    let (model, data, output) = (
        fixture(MODEL),
        fixture("calib.npz"),
        folder.path().join("out.onnx"),
    );
    let truth = numbers(&["-c", AGREED, text(&model), text(&output), text(&data)]);
    let comparison = &report["comparison"];
    for (name, truth) in ["top1_agreement", "top1_agreement_low"].iter().zip(&truth) {
        let found = number(&comparison[name]);
        assert!((found - truth).abs() < 1e-6, "{name}: {found} {truth}");
    }
    assert!(truth[1] >= 0.8 && share(&report, "macs") < 0.6, "{truth:?}");
    // How many samples it takes: all of 230 speak for 0.99, as 0.1 is 0.99^229.1.
    let words = [
        "--agreement 0.99 needs 230 samples",
        "there are 64",
        "--calib with 1840 or more",
    ];
    prune(folder.path(), &["--agreement", "0.99"]).fails(1, &words);
    // 0.1 is 0.999^2301.4.
    let words = ["needs 2302 samples", "with 18416 or more"];
    prune(folder.path(), &["--agreement", "0.999"]).fails(1, &words);
}

#[test]
fn all_of_several_budgets_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        let report = pruned(
            folder.path(),
            &[options, &["--repair", "once", "--samples", "64"]].concat(),
        );
        (report, fs::read(folder.path().join("out.onnx")).unwrap())
    };
    for (macs, params) in [("0.5", "0.5"), ("0.7", "0.4"), ("0.4", "0.8")] {
        let (report, _) = run(&["--macs", macs, "--params", params]);
        for (of, most) in [("macs", macs), ("parameters", params)] {
            let most: f64 = most.parse().unwrap();
            assert!(
                share(&report, of) <= most,
                "{macs} {params}: {}",
                report[of]
            );
        }
    }
    // One that is met anyway changes nothing.
    let ((alone, one), (_, both)) = (
        run(&["--macs", "0.5"]),
        run(&["--macs", "0.5", "--params", "1"]),
    );
    assert!(one == both && share(&alone, "macs") <= 0.5);
    // The smallest that keeps a quality is searched among those that keep the costs.
    let (report, _) = run(&["--max-change", "0.3", "--params", "0.4"]);
    assert_smallest(&report);
    assert!(share(&report, "parameters") <= 0.4);
    assert!(number(&report["comparison"]["divergence"]["high"]) <= 0.3);
}

#[test]
fn budgets_that_contradict_each_other_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let asked = ["--macs", "0.3", "--max-change", "0.001", "--repair", "once"];
    let words = [
        "the budgets contradict each other",
        "--macs 0.3",
        "--best-effort",
    ];
    prune(folder.path(), &asked).fails(1, &words);
    let report = pruned(folder.path(), &[&asked[..], &["--best-effort"]].concat());
    assert!(share(&report, "macs") <= 0.3, "{}", report["macs"]);
    let apart = ["--ratio", "0.5", "--size", "0.5"];
    prune(folder.path(), &apart).fails(2, &["cannot be used with"]);
}

#[test]
fn the_library_has_metrics_of_its_own() {
    runtime();
    let model = Model::load(fixture(MODEL)).unwrap();
    let data = || Calibration::files([fixture("calib.npz")]).samples(32);
    let bytes = |path: &Path| fs::metadata(path).map(|found| found.len() as f64);
    // A file that becomes larger as a fraction: smaller models are worse by it.
    let lower = Metric::new(move |path| bytes(path).map(|bytes| -bytes).map_err(|e| e.to_string()));
    let run = |metric: Metric| {
        let run = Prune::new()
            .calibration(data())
            .repair(onnx_mipp::Repair::Once);
        run.metric(metric)
            .budget(Budget::Drop(300_000.0))
            .run(&model)
            .unwrap()
    };
    let pruned = run(lower.lower());
    let metric = pruned.report.metric.unwrap();
    assert!(
        (0.0..=300_000.0).contains(&(metric.after - metric.before)),
        "{metric:?}"
    );
    assert!(pruned.report.macs.after < pruned.report.macs.before);
    // Who gives no metric has nothing that may drop.
    let error = Prune::new()
        .budget(Budget::Drop(1.0))
        .run(&model)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`max_drop` needs a `metric` that may drop"
    );
}

#[cfg(unix)]
#[test]
fn metrics_that_fail_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let drop = ["--max-drop", "1", "--repair", "once", "--samples", "32"];
    for (metric, words) in [
        ("echo 1", "expected a command with {model}"),
        (
            "echo 1; : {original} {model}",
            "--metric: expected a command with {model} alone, found {original}",
        ),
        (
            "echo no labels >&2; exit 4; : {model}",
            "--metric: the command 'echo no labels >&2; exit 4; : {model}' ended with exit code 4, saying: no labels",
        ),
        ("echo accuracy; : {model}", "found 'accuracy'"),
        ("echo nan; : {model}", "--metric: the original measures NaN"),
    ] {
        let run = prune(folder.path(), &[&["--metric", metric], &drop[..]].concat());
        run.fails(1, &[words]);
    }
    let slow = ["--metric", "sleep 100; : {model}", "--metric-timeout", "1"];
    let run = prune(folder.path(), &[&slow, &drop[..]].concat());
    run.fails(1, &["ended after 1 s", "--metric-timeout"]);
    assert!(!folder.path().join("out.onnx").exists());
    prune(folder.path(), &["--max-drop", "1"]).fails(2, &["--metric"]);
}

/// The first interrupt of a search that found something writes what it found.
#[cfg(unix)]
#[test]
fn an_interrupted_search_writes_the_smallest_so_far() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let (model, data, output) = (
        fixture(MODEL),
        fixture("calib.npz"),
        folder.path().join("out.onnx"),
    );
    // The third model takes long: the original is the first.
    let count = folder.path().join("count");
    let metric = format!(
        "echo x >> '{0}'; [ $(wc -l < '{0}') -lt 3 ] || sleep 600; wc -c < {{model}}",
        text(&count)
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"));
    command.args([
        text(&model),
        text(&output),
        "--calib",
        text(&data),
        "--repair",
        "once",
        "--samples",
        "32",
    ]);
    command.args(["--metric", &metric, "--max-drop", "400000"]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !(seen.contains("kept: ") && seen.ends_with("measuring the smaller model\n")) {
        assert!(said.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    // It sleeps by now, or will.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    said.read_to_string(&mut seen).unwrap();
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(
        seen.contains("ends with the smallest model so far"),
        "{seen}"
    );
    assert!(
        seen.contains("this is the smallest model that was found"),
        "{seen}"
    );
    assert!(fs::metadata(output).unwrap().len() < fs::metadata(model).unwrap().len());
}

/// A profile by which every node takes as long as its constants have bytes.
#[cfg(unix)]
fn by_bytes(folder: &Path) -> std::path::PathBuf {
    let model = onnx_mipp::onnx::load(&fixture(MODEL)).unwrap();
    let graph = model.proto.graph.as_ref().unwrap();
    let layer = |node: &onnx_mipp::onnx::proto::NodeProto| {
        let stored = graph.initializer.iter();
        let read = stored.filter(|stored| node.input.iter().any(|name| name == stored.name()));
        let elements = read.map(|stored| stored.dims.iter().product::<i64>());
        format!(
            r#"{{"name": "{}", "averageMs": {}}}"#,
            node.name(),
            4 * elements.sum::<i64>()
        )
    };
    let layers: Vec<String> = graph.node.iter().map(layer).collect();
    let path = folder.join("profile.json");
    fs::write(&path, format!("[{}]", layers.join(","))).unwrap();
    path
}

/// The milliseconds are the bytes of the file, so that what was reached can be counted.
#[cfg(unix)]
#[test]
fn latency_is_what_a_command_says() {
    let folder = tempfile::tempdir().unwrap();
    let profile = by_bytes(folder.path());
    let clock = [
        "--latency-command",
        "wc -c < {model}",
        "--profile",
        text(&profile),
        "--repair",
        "once",
        "--samples",
        "32",
    ];
    let whole = fs::metadata(fixture(MODEL)).unwrap().len() as f64;
    for (asked, most) in [("0.6", 0.6 * whole), ("350000ms", 350_000.0)] {
        let report = pruned(folder.path(), &[&["--latency", asked], &clock[..]].concat());
        let latency = &report["latency_ms"];
        let bytes = fs::metadata(folder.path().join("out.onnx")).unwrap().len() as f64;
        assert_eq!(number(&latency["after"]), bytes, "{latency}");
        assert!((0.9 * most..=most).contains(&bytes), "{bytes} of {most}");
    }
    let slow = pruned(
        folder.path(),
        &[&["--latency", "9999999ms"], &clock[..]].concat(),
    );
    assert_eq!(share(&slow, "macs"), 1.0);
    prune(folder.path(), &["--latency-command", "echo 1"])
        .fails(1, &["--latency-command: expected a command with {model}"]);
    let run = prune(
        folder.path(),
        &["--latency", "0.5", "--latency-command", "echo 0; : {model}"],
    );
    // Before anything that takes long.
    let wrong = "--latency-command: the original measures 0, expected milliseconds above 0";
    assert!(!run.fails(1, &[wrong]).err.contains("calibrating"));
}

/// The reported share of the time is that of the files, and near below the 0.6 that was asked for.
#[cfg(unix)]
fn assert_time_goes_with_bytes(report: &Value, folder: &Path) {
    let latency = &report["latency_ms"];
    let share = number(&latency["after"]) / number(&latency["before"]);
    let bytes = |path: &Path| fs::metadata(path).unwrap().len() as f64;
    let expected = bytes(&folder.join("out.onnx")) / bytes(&fixture(MODEL));
    assert!((share - expected).abs() < 1e-9, "{share} for {expected}");
    assert!((0.54..=0.6).contains(&share), "{share}");
}

/// A device that gets slower from run to run: the milliseconds are the bytes of the file times the
/// runs so far and twenty.
#[cfg(unix)]
#[test]
fn a_device_that_gets_slower_is_allowed_for() {
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    fs::write(&count, "20").unwrap();
    let clock = format!(
        "cd {}; n=$(cat count); echo $((n + 1)) > count; echo $(($(wc -c < {{model}}) * n))",
        text(folder.path())
    );
    let options = ["--latency", "0.6", "--latency-command", &clock];
    let profile = by_bytes(folder.path());
    let quick = [
        "--profile",
        text(&profile),
        "--repair",
        "once",
        "--samples",
        "32",
    ];
    let report = pruned(folder.path(), &[&options[..], &quick[..]].concat());
    assert_time_goes_with_bytes(&report, folder.path());
    assert!(fs::read_to_string(&count).unwrap().trim() > "24");
}

/// Each number is nonsense by itself; their ratio is that of the files.
#[cfg(unix)]
#[test]
fn a_command_may_measure_both_models() {
    let folder = tempfile::tempdir().unwrap();
    let profile = by_bytes(folder.path());
    let clock = "n=$(date +%N | sed 's/^0*/1/'); \
                 echo $(($(wc -c < {original}) * n)) $(($(wc -c < {model}) * n))";
    let clock = ["--latency-command", clock, "--profile", text(&profile)];
    let quick = ["--latency", "0.6", "--repair", "once", "--samples", "32"];
    let report = pruned(folder.path(), &[&clock[..], &quick[..]].concat());
    assert_time_goes_with_bytes(&report, folder.path());
}

#[cfg(unix)]
#[test]
fn a_sweep_has_the_metric_of_every_model() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data, page) = (
        fixture(MODEL),
        fixture("calib.npz"),
        folder.path().join("page.html"),
    );
    let start = [
        "sweep",
        text(&model),
        "--calib",
        text(&data),
        "--samples",
        "32",
        "--macs",
        "0.8,0.6",
    ];
    let more = [
        "--metric",
        "wc -c < {model}",
        "--report",
        text(&page),
        "--out-dir",
        text(folder.path()),
    ];
    let run = mipp([&start[..], &more].concat()).done();
    let head = run.out.lines().next().unwrap();
    assert!(head.ends_with("metric"), "{head}");
    let page = fs::read_to_string(page).unwrap();
    for name in [
        "resnet_bn_torchscript.macs-0.8.onnx",
        "resnet_bn_torchscript.macs-0.6.onnx",
    ] {
        let bytes = fs::metadata(folder.path().join(name))
            .unwrap()
            .len()
            .to_string();
        assert!(
            run.out.contains(&format!("  {bytes}\n")),
            "{bytes}: {}",
            run.out
        );
        assert!(page.contains(&bytes), "{bytes}");
    }
    let whole = fs::metadata(&model).unwrap().len();
    assert!(
        run.out
            .contains(&format!("the original's metric is {whole}")),
        "{}",
        run.out
    );
}
