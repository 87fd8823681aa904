//! How the program behaves in a terminal, a script and a shell.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Run, fixture, listing, mipp, python, text};

const RESNET: &str = "resnet_bn_torchscript.onnx";
const FEW: [&str; 4] = ["--samples", "32", "--repair", "once"];

fn desk() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    (folder, fixture(RESNET), fixture("calib.npz"))
}

/// Prunes the resnet on a few samples with one-pass repair.
fn prune(output: Option<&PathBuf>, options: &[&str]) -> Run {
    let (model, data) = (fixture(RESNET), fixture("calib.npz"));
    let mut arguments = vec![text(&model)];
    arguments.extend(output.map(|path| text(path)));
    arguments.extend(["--calib", text(&data)]);
    arguments.extend(FEW);
    mipp(arguments.iter().chain(options))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

/// A report without what differs from run to run.
fn lasting(mut report: Value) -> Value {
    report["latency_ms"] = Value::Null;
    report["bytes"] = Value::Null;
    report
}

#[test]
fn json_goes_to_stdout_and_all_else_to_stderr() {
    let (folder, ..) = desk();
    let report = folder.path().join("report.json");
    let output = folder.path().join("out.onnx");
    let written = ["--macs", "0.7", "--json", "--report", text(&report)];
    let run = prune(Some(&output), &written).done();
    assert_eq!(json(&run.out), json(&fs::read_to_string(&report).unwrap()));
    assert!(run.err.contains("calibrating (28 samples)"), "{}", run.err);
    let quiet = prune(Some(&output), &["--macs", "0.7", "--json", "-q"]).done();
    assert_eq!(
        (json(&quiet.out)["asked"].as_str(), quiet.err.as_str()),
        (Some("--macs 0.7"), "")
    );
    let failed = prune(Some(&output), &["--macs", "0.01", "--json"]);
    assert_eq!(failed.fails(1, &["cannot be reached"]).out, "");
}

#[test]
fn a_dry_run_reports_and_leaves_no_model() {
    let (folder, ..) = desk();
    let plan = folder.path().join("plan.json");
    let dry = [
        "--macs",
        "0.7",
        "--json",
        "--dry-run",
        "--plan-out",
        text(&plan),
    ];
    let dry = prune(None, &dry).done();
    assert_eq!(listing(folder.path()), ["plan.json"]);
    let output = folder.path().join("out.onnx");
    let wet = prune(Some(&output), &["--json", "--plan", text(&plan)]).done();
    let [dry, wet] = [dry, wet].map(|run| lasting(json(&run.out)));
    for part in ["comparison", "macs", "parameters", "repair"] {
        assert_eq!(dry[part], wet[part], "{part}");
    }
    prune(Some(&output), &["--dry-run"]).fails(2, &["--dry-run", "OUT.onnx"]);
}

#[test]
fn compare_finds_what_python_finds() {
    let (folder, model, data) = desk();
    let other = folder.path().join("other.onnx");
    prune(Some(&other), &["--macs", "0.5"]).done();
    let compare = |a: &PathBuf, b: &PathBuf, more: &[&str]| {
        let start = [
            "compare",
            text(a),
            text(b),
            "--calib",
            text(&data),
            "--samples",
            "100",
        ];
        mipp([start.as_slice(), more].concat())
    };
    let found = json(&compare(&model, &other, &["--json"]).done().out);
    let script = "
import sys, json, numpy as np, onnxruntime as ort
data = np.load(sys.argv[3]); x = data[data.files[0]]
x = x[[i * len(x) // 100 for i in range(100)]]
def run(path):
    session = ort.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0].astype(float)
a, b = run(sys.argv[1]), run(sys.argv[2])
norm = lambda v: np.linalg.norm(v, axis=1)
print(json.dumps([((a * b).sum(1) / norm(a) / norm(b)).mean(),
    np.linalg.norm(a - b) / np.linalg.norm(a), (a.argmax(1) == b.argmax(1)).mean()]))";
    let truth = json(
        &python(["-c", script, text(&model), text(&other), text(&data)])
            .done()
            .out,
    );
    let figures = ["cosine", "relative_error", "top1_agreement"];
    for (place, name) in figures.into_iter().enumerate() {
        let [found, truth] =
            [&found["comparison"][name], &truth[place]].map(|v| v.as_f64().unwrap());
        assert!(
            (found - truth).abs() < 1e-4,
            "{name}: {found}, in truth {truth}"
        );
    }
    assert_eq!(found["comparison"]["samples"], 100);
    assert_eq!(found["bytes"]["after"], fs::metadata(&other).unwrap().len());
    let shown = compare(&model, &model, &[]).done().out;
    let same = "on 100 given samples: cosine 1.0000, relative error 0.0000, change 0.00 % (up to 0.00 %), top-1 agreement 100.0 %";
    assert!(shown.contains(same), "{shown}");
    let words = ["comparing ", RESNET, "small.onnx", "inputs"];
    let small = folder.path().join("small.onnx");
    crate::small::write(&crate::small::model(), &small);
    compare(&model, &small, &[]).fails(1, &words);
}

#[test]
fn a_pattern_with_a_slip_gets_a_hint() {
    let hint = |pattern: &str, words: &[&str]| {
        prune(None, &["--dry-run", "--exclude", pattern]).fails(1, words);
    };
    hint(
        "/stem/stem.0/Cnv",
        &["matches no node", "did you mean '/stem/stem.0/Conv'?"],
    );
    hint("/stage.2/**", &["matches no node", "inspect"]);
    hint("/stem/stem.2/Relu", &["is a Relu and makes none"]);
}

#[test]
fn a_file_gives_options_and_the_command_line_goes_first() {
    let (folder, ..) = desk();
    let path = folder.path().join("prune.toml");
    let run = |file: &str, options: &[&str]| {
        fs::write(&path, file).unwrap();
        let config = ["--config", text(&path), "--dry-run", "--json", "-q"];
        prune(None, &[config.as_slice(), options].concat())
    };
    let asked = |file: &str, options: &[&str]| {
        json(&run(file, options).done().out)["asked"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let file = "# half\nmacs = 0.5\nalign = 4\nexclude = [\"/stem/**\"]\nbest-effort = true\n";
    assert_eq!(asked(file, &[]), "--macs 0.5");
    assert_eq!(asked(file, &["--macs", "0.8"]), "--macs 0.8");
    // One budget excludes another, wherever it stands.
    assert_eq!(asked(file, &["--ratio", "0.25"]), "--ratio 0.25");
    let report = json(&run(file, &[]).done().out);
    let stem = &report["groups"][0];
    assert_eq!(
        stem["channels"]["before"], stem["channels"]["after"],
        "{stem}"
    );
    for (file, words) in [
        (
            "mac = 0.5",
            &["prune.toml", "no option 'mac'", "did you mean 'macs'?"] as &[&str],
        ),
        ("macs = 2.0", &["prune.toml", "--macs", "up to 1"]),
        (
            "macs = true",
            &["prune.toml", "macs", "a number", "boolean"],
        ),
        ("quiet = 1", &["prune.toml", "quiet", "true or false"]),
        ("align = [1, 2]", &["prune.toml", "align", "one value"]),
        ("macs 0.5", &["prune.toml", "line 1"]),
        (
            "macs = 0.5\nratio = 0.5",
            &["prune.toml", "cannot be used with"],
        ),
    ] {
        assert_eq!(run(file, &[]).fails(1, words).out, "", "{file}");
    }
    let missing = prune(None, &["--dry-run", "--config", "no-such.toml"]);
    missing.fails(1, &["--config no-such.toml", "name a file"]);
}

#[test]
fn a_file_may_have_the_budgets_of_a_sweep() {
    let (folder, input, data) = desk();
    let [file, page] = ["sweep.toml", "sweep.json"].map(|name| folder.path().join(name));
    let out = text(folder.path());
    let model = [text(&input), "--calib", text(&data), "--out-dir", out];
    let run = |options: &[&str]| mipp([&["sweep"], &model[..], options].concat());
    fs::write(&file, "macs = [0.8, 0.6]\nsamples = 8\n").unwrap();
    let config = ["--config", text(&file), "--report", text(&page), "-q"];
    run(&config).done();
    let found: Value = serde_json::from_slice(&fs::read(&page).unwrap()).unwrap();
    let entries = found["entries"].as_array().unwrap().iter();
    let found: Vec<&Value> = entries.map(|entry| &entry["report"]["asked"]).collect();
    assert_eq!(found, ["--macs 0.8", "--macs 0.6"]);
    let usage = "required arguments were not provided";
    run(&[]).fails(2, &[usage, "--macs"]);
    fs::write(&file, "samples = 8").unwrap();
    run(&config).fails(1, &["sweep.toml", usage]);
}

#[test]
fn shells_complete_the_command_line() {
    let (folder, ..) = desk();
    let script = folder.path().join("complete.bash");
    fs::write(&script, mipp(["completions", "bash"]).done().out).unwrap();
    // What bash offers for the last word.
    let offers = |words: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _onnx__mipp onnx-mipp \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo ${{COMPREPLY[@]}}",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offers("onnx-mipp --mac"), "--macs");
    assert_eq!(offers("onnx-mipp comp"), "compare completions");
    assert_eq!(offers("onnx-mipp --repair s"), "sequential");
    for shell in ["zsh", "fish"] {
        let script = mipp(["completions", shell]).done().out;
        assert!(
            script.contains("macs") && script.contains("compare"),
            "{shell}"
        );
    }
    mipp(["completions", "tcsh"]).fails(2, &["bash", "zsh", "fish"]);
}

#[test]
fn manual_pages_have_all_options() {
    let (folder, ..) = desk();
    let page = mipp(["man"]).done().out;
    for word in [
        ".TH onnx-mipp 1",
        "\\-\\-macs",
        "\\-\\-dry\\-run",
        "compare",
    ] {
        assert!(page.contains(word), "no {word} in\n{page}");
    }
    mipp(["man", text(folder.path())]).done();
    let pages = listing(folder.path());
    for name in ["onnx-mipp.1", "onnx-mipp-compare.1", "onnx-mipp-inspect.1"] {
        assert!(pages.iter().any(|page| page == name), "{pages:?}");
    }
    mipp(["man", "/no/such/folder"]).fails(1, &["/no/such/folder", "that exists"]);
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    // A terminal of Python's, since the tests have none.
    let script = "
import os, pty, subprocess, sys
for extra in [{}, {'NO_COLOR': '1'}]:
    leader, follower = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ('NO_COLOR', 'CLICOLOR')}
    environment.update({'TERM': 'xterm-256color'}, **extra)
    subprocess.run([sys.argv[1], 'none.onnx', 'out.onnx'], stderr=follower, env=environment)
    os.close(follower)
    # What was written comes in pieces; after the last one Linux fails and others end.
    found = b''
    try:
        while piece := os.read(leader, 10000):
            found += piece
    except OSError:
        pass
    print(ascii(found))";
    let run = python(["-c", script, env!("CARGO_BIN_EXE_onnx-mipp")]).done();
    let [coloured, plain] = run.out.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", run.out);
    };
    assert!(
        coloured.contains("\\x1b[") && coloured.contains("none.onnx"),
        "{coloured}"
    );
    assert!(
        !plain.contains("\\x1b[") && plain.contains("error: "),
        "{plain}"
    );
}
