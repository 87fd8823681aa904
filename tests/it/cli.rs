//! The command line: help, exit codes, options and what they print.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_mipp::onnx::{self, proto::*};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Run, fixture, listing, mipp, text};
use crate::small;

const RESNET: &str = "resnet_bn_torchscript.onnx";
const CALIB: &str = "calib.npz";

/// A folder for the outputs of runs.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Prunes the resnet on 64 samples to out.onnx, repaired once (which is quicker) unless the
    /// options say otherwise.
    fn resnet(&self, options: &[&str]) -> Run {
        let (model, data, output) = (fixture(RESNET), fixture(CALIB), self.path("out.onnx"));
        let start = [text(&model), text(&output), "--calib", text(&data)];
        let once: &[&str] = if options.contains(&"--repair") {
            &[]
        } else {
            &["--repair", "once"]
        };
        mipp([start.as_slice(), &["--samples", "64"], once, options].concat())
    }

    /// The result's bytes with these options.
    fn bytes(&self, options: &[&str]) -> Vec<u8> {
        self.resnet(options).done();
        fs::read(self.path("out.onnx")).unwrap()
    }

    /// The run's report with these options.
    fn report(&self, options: &[&str]) -> Value {
        let report = self.path("report.json");
        let written = ["--quiet", "--report", text(&report)];
        self.resnet(&[options, &written].concat()).done();
        read_json(&report)
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number at {pointer} in {report}"))
}

fn left(report: &Value, what: &str) -> f64 {
    number(report, &format!("/{what}/after")) / number(report, &format!("/{what}/before"))
}

/// Channels of every group that is not frozen: its name, before and after.
fn widths(report: &Value) -> Vec<(String, u64, u64)> {
    let groups = report["groups"].as_array().unwrap().iter();
    let free = groups.filter(|group| group["frozen"].as_array().unwrap().is_empty());
    free.map(|group| {
        let width = |when: &str| group["channels"][when].as_u64().unwrap();
        (
            group["name"].as_str().unwrap().to_owned(),
            width("before"),
            width("after"),
        )
    })
    .collect()
}

#[test]
fn usage_errors_exit_with_2() {
    let cases: [(&[&str], &str); 16] = [
        (&[], "IN.onnx"),
        (&["in.onnx"], "OUT.onnx"),
        (
            &["in.onnx", "out.onnx", "--no-such-option"],
            "--no-such-option",
        ),
        (&["in.onnx", "out.onnx", "--macs", "0"], "above 0"),
        (&["in.onnx", "out.onnx", "--macs", "1.5"], "up to 1"),
        (&["in.onnx", "out.onnx", "--ratio", "1"], "below 1"),
        (
            &["in.onnx", "out.onnx", "--macs", "0.5", "--mi", "0.5"],
            "cannot be used with",
        ),
        (
            &["in.onnx", "out.onnx", "--macs", "0.5", "--plan", "p"],
            "cannot be used with",
        ),
        (&["in.onnx", "out.onnx", "--latency", "0"], "above 0"),
        (
            &["in.onnx", "out.onnx", "--latency", "0.5", "--mi", "0.5"],
            "cannot be used with",
        ),
        (
            &["in.onnx", "out.onnx", "--agreement", "1"],
            "above 0 and below 1",
        ),
        (
            &["in.onnx", "out.onnx", "--latency", "0ms"],
            "milliseconds above 0",
        ),
        (
            &["in.onnx", "out.onnx", "--align", "0"],
            "from 1 to 1048576",
        ),
        (
            &["in.onnx", "out.onnx", "--device", "tpu"],
            "auto, cpu, cuda",
        ),
        (&["in.onnx", "out.onnx", "--exclude", "[a"], "--exclude"),
        (&["inspect"], "IN.onnx"),
    ];
    for (arguments, word) in cases {
        let run = mipp(arguments).fails(2, &[word]);
        assert_eq!(run.out, "", "{arguments:?}");
    }
    // The last word belongs to the file system: this is no usage error.
    mipp(["no-such-file.onnx", "out.onnx"]).fails(1, &["no-such-file.onnx"]);
}

#[test]
fn quiet_prints_nothing() {
    let desk = Desk::new();
    let run = desk.resnet(&["--quiet", "--macs", "0.7"]).done();
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
    assert!(desk.path("out.onnx").is_file());
}

#[test]
fn verbose_gives_times() {
    let run = Desk::new().resnet(&["--verbose", "--macs", "0.7"]).done();
    assert!(
        run.err.contains(" s] calibrating (56 samples)"),
        "{}",
        run.err
    );
    assert!(run.err.contains("done after "), "{}", run.err);
}

#[test]
fn inspect_describes_the_groups() {
    let model = fixture("resnet_folded_torchscript.onnx");
    let shown = mipp(["inspect", text(&model)]).done().out;
    insta::assert_snapshot!("inspect", shown);
    let json = mipp(["inspect", text(&model), "--json"]).done().out;
    let parsed: Value = serde_json::from_str(&json).unwrap();
    for group in parsed["groups"].as_array().unwrap() {
        assert!(shown.contains(group["name"].as_str().unwrap()));
    }
    insta::assert_snapshot!("inspect_json", json);
}

#[test]
fn a_plan_gives_the_same_model_again() {
    let desk = Desk::new();
    let plan = desk.path("plan.json");
    let first = desk.bytes(&["--macs", "0.6", "--plan-out", text(&plan)]);
    assert_eq!(desk.bytes(&["--plan", text(&plan)]), first);
    let listed = read_json(&plan);
    assert!(listed["groups"][0]["kept"].is_array(), "{listed}");
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    let plan = desk.path("plan.json");
    desk.resnet(&["--macs", "0.6", "--plan-out", text(&plan)])
        .done();
    let other = |model: &Path| {
        let output = desk.path("other.onnx");
        mipp([text(model), text(&output), "--plan", text(&plan)])
    };
    let words = ["the plan does not fit the model", "--plan-out"];
    other(&fixture("vgg_bn_torchscript.onnx")).fails(1, &words);
    // A model with nothing to prune does not hide that the plan is another's.
    let mut model = small::model();
    let graph = small::graph(&mut model);
    graph.node.truncate(1);
    graph.node[0].output[0] = "y".to_owned();
    graph.output = vec![small::value("y", &[None, Some(16), Some(8), Some(8)])];
    small::write(&model, &desk.path("frozen.onnx"));
    other(&desk.path("frozen.onnx")).fails(1, &words);
    for (text, word) in [
        ("{", "plan.json"),
        ("{\"groups\": []}", "0 groups in the plan"),
    ] {
        fs::write(&plan, text).unwrap();
        desk.resnet(&["--plan", plan.to_str().unwrap()])
            .fails(1, &[word]);
    }
    assert!(!desk.path("other.onnx").exists());
}

#[test]
fn the_report_has_the_figures_of_the_text() {
    let desk = Desk::new();
    let path = desk.path("report.json");
    let run = desk
        .resnet(&["--macs", "0.5", "--report", text(&path)])
        .done();
    let report = read_json(&path);
    let mega = |pointer: &str| format!("{:.3} M", number(&report, pointer) / 1e6);
    let comparison = &report["comparison"];
    for shown in [
        mega("/macs/before"),
        mega("/macs/after"),
        format!(
            "asked --macs 0.5, reached {:.4} of the MACs",
            left(&report, "macs")
        ),
        format!("{:.4} of the parameters", left(&report, "parameters")),
        format!("on {} held-back samples", comparison["samples"]),
        format!("cosine {:.4}", number(&report, "/comparison/cosine")),
        format!("ONNX Runtime {}", report["onnxruntime"].as_str().unwrap()),
    ] {
        assert!(run.out.contains(&shown), "no '{shown}' in\n{}", run.out);
    }
    assert_eq!(
        (&report["asked"], &report["device"]),
        (&"--macs 0.5".into(), &"CPU".into())
    );
    assert_eq!(report["calibration"]["samples"], 56);
    assert_eq!(comparison["samples"], 8);
    for (name, before, after) in widths(&report) {
        let row = run
            .out
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let cells: Vec<&str> = row.unwrap().split_whitespace().collect();
        assert_eq!(
            cells[1..3],
            [before.to_string(), after.to_string()],
            "{name}"
        );
    }
    let bytes = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(report["bytes"]["before"], bytes(&fixture(RESNET)));
    assert_eq!(report["bytes"]["after"], bytes(&desk.path("out.onnx")));
}

#[test]
fn external_data_stay_external_and_count() {
    let desk = Desk::new();
    let mut model = small::model();
    let weight = &mut small::graph(&mut model).initializer[0];
    fs::write(desk.path("weights.bin"), weight.raw_data.take().unwrap()).unwrap();
    weight.data_location = Some(tensor_proto::DataLocation::External as i32);
    weight.external_data = vec![StringStringEntryProto {
        key: Some("location".to_owned()),
        value: Some("weights.bin".to_owned()),
    }];
    let [input, output, report] =
        ["in.onnx", "out.onnx", "report.json"].map(|name| desk.path(name));
    small::write(&model, &input);
    let ends = ["--ratio", "0.5", "-q", "--report", text(&report)];
    mipp([[text(&input), text(&output)].as_slice(), &ends].concat()).done();
    let bytes = |name: &str| fs::metadata(desk.path(name)).unwrap().len();
    // Half of 16 x 3 x 3 x 3 floats.
    let names = listing(desk.folder.path());
    let data = names.iter().find(|name| name.ends_with(".data")).unwrap();
    assert_eq!((bytes("weights.bin"), bytes(data)), (1728, 864));
    let report = read_json(&report);
    assert_eq!(report["bytes"]["before"], bytes("in.onnx") + 1728);
    assert_eq!(report["bytes"]["after"], bytes("out.onnx") + 864);
}

#[test]
fn every_budget_holds() {
    let desk = Desk::new();
    let report = desk.report(&["--macs", "0.6"]);
    let macs = left(&report, "macs");
    assert!(macs <= 0.6 && macs > 0.5, "{macs}");
    let report = desk.report(&["--params", "0.6"]);
    let parameters = left(&report, "parameters");
    assert!(parameters <= 0.6 && parameters > 0.5, "{parameters}");
    let report = desk.report(&["--ratio", "0.5", "--align", "1"]);
    for (name, before, after) in widths(&report) {
        assert_eq!(after, before / 2, "{name}");
    }
    let shares = |mi: &str| {
        let report = desk.report(&["--mi", mi, "--align", "1"]);
        for group in report["groups"].as_array().unwrap() {
            // That much is kept for sure.
            let interval = &group["score"]["mi_interval"];
            let [low, high] = ["low", "high"].map(|end| interval[end].as_f64().unwrap_or(1.0));
            assert!(low >= mi.parse().unwrap(), "{group}");
            let kept = group["score"]["mi_kept"].as_f64().unwrap_or(1.0);
            assert!(low <= kept && kept <= high, "{group}");
        }
        left(&report, "parameters")
    };
    let (little, much) = (shares("0.99"), shares("0.8"));
    assert!(much < little && little < 1.0, "{much} {little}");
    let asked = desk.report(&[])["asked"].clone();
    assert!(
        asked.as_str().unwrap().starts_with("nothing, which"),
        "{asked}"
    );
}

#[test]
fn the_report_says_how_sure_the_mi_is() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (fixture(RESNET), fixture(CALIB));
    let run = |samples: &str, options: &[&str]| {
        let output = folder.path().join("out.onnx");
        let start = [text(&model), text(&output), "--calib", text(&data)];
        let few = ["--samples", samples, "--repair", "none", "--align", "1"];
        mipp([start.as_slice(), &few, options].concat()).done().out
    };
    let out = run("40", &["--ratio", "0.5"]);
    let table: Vec<&str> = out.lines().take_while(|line| !line.is_empty()).collect();
    let summary: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("least MI"))
        .collect();
    insta::assert_snapshot!("confidence", [table, summary].concat().join("\n"));
    // Of one sample nothing is sure, so that nothing leaves.
    let out = run("1", &["--mi", "0.8"]);
    assert!(out.contains("reached 1.0000 of the MACs"), "{out}");
    let out = run("1", &["--ratio", "0.5"]);
    assert!(out.contains("with unknown confidence"), "{out}");
}

#[test]
fn a_budget_out_of_reach_is_an_error_unless_best_effort_will_do() {
    let desk = Desk::new();
    let run = desk.resnet(&["--macs", "0.01"]);
    run.fails(
        1,
        &[
            "--macs 0.01 cannot be reached",
            "is the least",
            "--best-effort",
        ],
    );
    assert!(!desk.path("out.onnx").exists());
    let report = desk.report(&["--macs", "0.01", "--best-effort"]);
    assert!(left(&report, "macs") > 0.01);
    assert!(desk.path("out.onnx").is_file());
}

#[test]
fn limits_hold() {
    let desk = Desk::new();
    for (options, step, least) in [
        (&["--macs", "0.5"] as &[&str], 8, 1),
        (&["--macs", "0.5", "--align", "1"], 1, 1),
        (
            &["--macs", "0.7", "--align", "4", "--min-channels", "20"],
            4,
            20,
        ),
    ] {
        let report = desk.report(options);
        let widths = widths(&report);
        assert!(widths.iter().any(|(_, before, after)| after < before));
        for (name, before, after) in &widths {
            let fits = after == before || after % step == 0;
            assert!(fits && *after >= least, "{options:?} {name}: {after}");
        }
        let is_fine = widths.iter().any(|(_, _, after)| after % 8 != 0);
        assert!(is_fine || step == 8 || step == 4, "{options:?} {widths:?}");
    }
}

#[test]
fn nodes_are_excluded_and_chosen_by_globs() {
    let desk = Desk::new();
    let changed = |options: &[&str]| -> Vec<String> {
        let report = desk.report(&[&["--ratio", "0.5"], options].concat());
        let names = widths(&report)
            .into_iter()
            .filter(|(_, before, after)| after < before);
        names.map(|(name, _, _)| name).collect()
    };
    let all = changed(&[]);
    let (stages, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|name| name.starts_with("/stages/stages.2/"));
    assert!(
        stages.len() == 2 && others.len() == 4,
        "{stages:?} {others:?}"
    );
    assert_eq!(changed(&["--exclude", "/stages/stages.2/**"]), others);
    assert_eq!(changed(&["--only", "/stages/stages.2/**"]), stages);
    let both = [
        "--only",
        "/stages/**",
        "--exclude",
        "/stages/stages.[01]/**",
    ];
    assert_eq!(changed(&both), stages);
    // A pattern that meets no node is a slip of the pen.
    desk.resnet(&["--exclude", "/no/such/node"])
        .fails(1, &["--exclude", "/no/such/node"]);
    desk.resnet(&["--only", "/no/such/node"])
        .fails(1, &["--only", "/no/such/node"]);
}

#[test]
fn repair_changes_weights_and_not_widths() {
    let desk = Desk::new();
    let plan = desk.path("plan.json");
    let once = desk.bytes(&["--macs", "0.5", "--plan-out", text(&plan)]);
    let none = desk.bytes(&["--repair", "none", "--plan", text(&plan)]);
    assert_ne!(once, none);
    let error = |repair: &str| {
        let report = desk.report(&["--plan", text(&plan), "--repair", repair]);
        assert_eq!(report["repair"], repair);
        number(&report, "/comparison/relative_error")
    };
    let [none, once, sequential] = ["none", "once", "sequential"].map(error);
    assert!(once < 0.8 * none, "repaired {once}, not repaired {none}");
    assert!(sequential < once, "sequentially {sequential}, once {once}");
}

#[test]
fn memory_decides_where_activations_wait_and_nothing_else() {
    let desk = Desk::new();
    let plan = desk.path("plan.json");
    let held = desk.bytes(&["--macs", "0.5", "--plan-out", text(&plan)]);
    assert_eq!(held, desk.bytes(&["--plan", text(&plan), "--memory", "0"]));
}

#[test]
fn a_gpu_that_is_not_there_is_said() {
    // The library of the tests is the one for the CPU.
    let desk = Desk::new();
    let words = [
        "--device cuda:0 cannot be used",
        "built without CUDA",
        "setup --cuda",
    ];
    desk.resnet(&["--device", "cuda"]).fails(1, &words);
    assert!(!desk.path("out.onnx").exists());
    let run = desk.resnet(&["--device", "auto"]).done();
    assert!(run.err.contains("runs on the CPU: "), "{}", run.err);
    assert!(
        run.out.contains("ran on CPU with ONNX Runtime"),
        "{}",
        run.out
    );
    let run = desk.resnet(&["--device", "cpu"]).done();
    assert!(!run.err.contains("runs on the CPU"), "{}", run.err);
}

#[test]
fn a_library_that_is_none_is_said() {
    let desk = Desk::new();
    let path = desk.path("libonnxruntime.so");
    fs::write(&path, "no library").unwrap();
    let run = desk.resnet(&["--onnxruntime", text(&path)]);
    run.fails(1, &["--onnxruntime names", "no shared library", "expected"]);
}

#[test]
fn without_data_inputs_are_made_up_with_a_warning() {
    let desk = Desk::new();
    let (model, output) = (fixture(RESNET), desk.path("out.onnx"));
    let run = mipp([text(&model), text(&output), "--ratio", "0.3", "--quiet"]).done();
    let [warning] = run.err.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", run.err);
    };
    assert!(
        warning.starts_with("WARNING: no calibration data given"),
        "{warning}"
    );
    let [before, after] = [&model, &output].map(|path| onnx::load(path).unwrap().byte_size());
    assert!(after < before, "{after} of {before} bytes");
}
