//! Profiles from elsewhere: which of their layers are nodes of the model, and the program with them.
//! OpenVINO's is its own report of a fixture (`profiles/`), TensorRT's is written as its
//! documentation says.

use std::fs;
use std::path::PathBuf;

use onnx_mipp::Profile;
use onnx_mipp::onnx;
use onnx_mipp::profile::Kernel;
use onnx_mipp::select::{CostModel, Goes, spent, strangers};
use serde_json::Value;

use crate::masked::{Found, find};
use crate::program::{fixture, mipp, python, root, text};

const MOBILENET: &str = "mobilenet_bn_torchscript.onnx";

fn model(name: &str) -> Found {
    find(onnx::load(&fixture(name)).unwrap().proto)
}

fn told(name: &str) -> PathBuf {
    root().join("tests/it/profiles").join(name)
}

fn loaded(text: &str) -> Result<Profile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    fs::write(&path, text).unwrap();
    Profile::load(&path).map_err(|error| error.to_string())
}

/// Per kernel, the names of the nodes whose work it does.
fn nodes(found: &Found, profile: &Profile) -> Vec<(String, Vec<String>)> {
    let one = |kernel: &Kernel| {
        let alone = Profile {
            run: kernel.milliseconds,
            kernels: vec![kernel.clone()],
        };
        let parts = spent(&found.graph, &found.groups, &alone);
        let named = parts.iter().filter_map(|part| match part.with {
            Goes::WithWork(node) => Some(found.graph.nodes[node].name.clone()),
            _ => None,
        });
        (kernel.name.clone(), named.collect())
    };
    profile.kernels.iter().map(one).collect()
}

/// A norm that OpenVINO folds into the convolution before it renames that; all of them are found
/// all the same, each once.
#[test]
fn every_layer_of_openvino_is_found() {
    let found = model(MOBILENET);
    for file in ["openvino.csv", "openvino.json"] {
        let profile = Profile::load(told(file)).unwrap();
        let parts = spent(&found.graph, &found.groups, &profile);
        for cost in &found.groups.costs {
            let with = Goes::WithWork(cost.node);
            let times = parts.iter().filter(|part| part.with == with).count();
            let name = &found.graph.nodes[cost.node].name;
            assert_eq!(times, 1, "{file}: {name}");
        }
        let whole = CostModel::time(&found.graph, &found.groups, &profile);
        let total = whole.total(&found.groups.widths());
        assert!(
            (total - profile.run).abs() < 1e-9,
            "{total} {}",
            profile.run
        );
        let strange = strangers(&found.graph, &found.groups, &profile);
        let lost: f64 = strange.iter().map(|kernel| kernel.milliseconds).sum();
        assert!(lost < 0.03 * profile.run, "{file}: {strange:?}");
    }
}

/// Layers that were fused have the names of all, a part of the graph that of its ends; copies are
/// TensorRT's own.
#[test]
fn layers_of_tensorrt_share_their_time_by_multiply_accumulates() {
    let found = model("resnet_folded_torchscript.onnx");
    let names: Vec<&str> = found.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    let (first, relu) = (names[0], names[1]);
    let add = names.iter().find(|name| name.ends_with("Add")).unwrap();
    let text = format!(
        r#"[{{"count": 100}},
            {{"name": "Reformatting CopyNode for Input Tensor 0 to {first} + {relu}", "timeMs": 10, "averageMs": 0.1, "percentage": 1}},
            {{"name": "{first} + {relu}", "timeMs": 100, "averageMs": 1.0, "medianMs": 1.0, "percentage": 10}},
            {{"name": "{{ForeignNode[{relu}...{add}]}}", "timeMs": 300, "averageMs": 3.0, "percentage": 30}},
            {{"name": "PWN(/nowhere/Sigmoid)", "timeMs": 50, "averageMs": 0.5, "percentage": 5}}]"#
    );
    let profile = loaded(&text).unwrap();
    assert!((profile.run - 4.6).abs() < 1e-9);
    let nodes = nodes(&found, &profile);
    assert!(nodes[0].1.is_empty() && nodes[3].1.is_empty(), "{nodes:?}");
    assert_eq!(nodes[1].1, [first]);
    // Those with weights between the two, by the graph itself.
    let order = |name: &str| names.iter().position(|other| *other == name).unwrap();
    let inside = found
        .groups
        .costs
        .iter()
        .map(|cost| found.graph.nodes[cost.node].name.as_str());
    let inside: Vec<&str> = inside
        .filter(|name| (order(relu)..order(add)).contains(&order(name)))
        .collect();
    assert_eq!(nodes[2].1, inside);
    let parts = spent(&found.graph, &found.groups, &profile);
    let shared: Vec<f64> = parts[2..2 + inside.len()]
        .iter()
        .map(|p| p.milliseconds)
        .collect();
    assert!(
        (shared.iter().sum::<f64>() - 3.0).abs() < 1e-9,
        "{shared:?}"
    );
    let strange = strangers(&found.graph, &found.groups, &profile);
    assert_eq!(strange[0].name, "PWN(/nowhere/Sigmoid)");
}

#[test]
fn what_is_no_profile_is_told() {
    for (text, problem) in [
        ("", "EOF"),
        ("{}", "detailed_performance"),
        ("[1, 2]", "invalid type"),
        (r#"[{"cat": "Session"}]"#, "no run among its 1 events"),
        ("layerName;execStatus\nx;EXECUTED", "no column layerType"),
        (
            "layerName;execStatus;layerType;realTime (ms)\na;EXECUTED;b;c",
            "'a' has no realTime",
        ),
        (r#"[{"name": "a", "averageMs": -1}]"#, "not from 0 on"),
        (
            r#"[{"name": "a", "averageMs": 0}]"#,
            "all of its times are 0",
        ),
    ] {
        let error = loaded(text).unwrap_err();
        assert!(
            error.contains(problem) && error.contains("profile.json"),
            "{text}: {error}"
        );
    }
}

/// By OpenVINO's report alone, and by a profile that ONNX Runtime writes of the model as a user has
/// it.
#[test]
fn the_program_shares_the_time_out_by_a_profile() {
    const PROFILE: &str = r"
import os, sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.enable_profiling, options.profile_file_prefix = True, sys.argv[2]
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])
for _ in range(5):
    session.run(None, {'input': np.zeros((1, 1, 28, 28), np.float32)})
os.replace(session.end_profiling(), sys.argv[2])
";
    let folder = tempfile::tempdir().unwrap();
    let (net, data) = (fixture(MOBILENET), fixture("calib.npz"));
    let [output, own, strange] = ["out.onnx", "own.json", "s.json"].map(|n| folder.path().join(n));
    python(["-c", PROFILE, text(&net), text(&own)]).done();
    let run = |profile: &std::path::Path| {
        let start = [text(&net), text(&output), "--calib", text(&data), "--json"];
        let quick = ["--samples", "32", "--repair", "none", "--latency", "0.8"];
        mipp([start.as_slice(), &quick, &["--profile", text(profile)]].concat())
    };
    for profile in [told("openvino.csv"), own] {
        let run = run(&profile).done();
        assert!(
            run.err
                .contains("of the time, are known as nodes of the model"),
            "{}",
            run.err
        );
        let report: Value = serde_json::from_str(&run.out).unwrap();
        let notes = report["notes"].to_string();
        let told = notes.split("by the profile a run takes ").nth(1).unwrap();
        let share: f64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!((0.6..=0.8).contains(&share), "{notes}");
        assert_eq!(report["candidates"].as_array().unwrap().len(), 0);
        assert!(report["macs"]["after"].as_f64() < report["macs"]["before"].as_f64());
    }
    fs::write(&strange, r#"[{"name": "elsewhere", "averageMs": 1}]"#).unwrap();
    run(&strange).fails(1, &["names none of the model's nodes", "'elsewhere'"]);
    run(&folder.path().join("none.json")).fails(1, &["cannot read the profile"]);
}
