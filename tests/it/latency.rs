//! A budget of latency: the model of the time on made-up profiles, real ones, and the program. None
//! of it looks at how long anything takes.

use std::collections::BTreeSet;
use std::fs;

use onnx_mipp::graph::NodeId;
use onnx_mipp::groups::Widths;
use onnx_mipp::onnx;
use onnx_mipp::profile::{Kernel, Profile};
use onnx_mipp::runtime::tagged;
use onnx_mipp::select::{
    CostModel, Goes, Limits, Scene, SelectError, Spent, measured_widths, spent,
};
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use serde_json::Value;

use crate::masked::{batch, find, runtime};
use crate::program::{fixture, mipp, text};
use crate::small;

fn kernel(name: &str, op_type: &str, milliseconds: f64) -> Kernel {
    Kernel {
        name: name.to_owned(),
        op_type: op_type.to_owned(),
        milliseconds,
    }
}

/// The small model is Conv (16 channels) -> Relu -> Conv (8 channels, those of the output).
#[test]
fn time_goes_with_multiply_accumulates_and_elements() {
    let found = find(small::model().proto);
    let (first, relu, second) = (NodeId::from(0), NodeId::from(1), NodeId::from(2));
    let profile = Profile {
        run: 21.0,
        kernels: vec![
            kernel("ReorderInput", "ReorderInput", 1.0),
            kernel("onnx-mipp/node/0/", "Conv", 8.0),
            kernel("onnx-mipp/node/1/", "Relu", 2.0),
            kernel("ReorderOutput_token_7", "ReorderOutput", 0.5),
            kernel("fused onnx-mipp/node/2/", "FusedConv", 4.0),
            kernel("ReorderOutput", "ReorderOutput", 3.0),
        ],
    };
    let spent = spent(&found.graph, &found.groups, &profile);
    let expected = [
        (Goes::Nowhere, 1.0),
        (Goes::WithWork(first), 8.0),
        (Goes::WithWork(relu), 2.0),
        (Goes::WithOutputs(relu), 0.5),
        (Goes::WithWork(second), 4.0),
        (Goes::WithOutputs(second), 3.0),
        (Goes::Nowhere, 2.5),
    ];
    assert_eq!(
        spent,
        expected.map(|(with, milliseconds)| Spent { with, milliseconds })
    );
    let model = CostModel::time(&found.graph, &found.groups, &profile);
    let widths = found.groups.widths();
    assert_eq!(widths, Widths::from(vec![16, 8]));
    for (first, second, time) in [
        (16, 8, 21.0),
        (8, 8, 3.5 + 3.0 + (8.0 + 2.0 + 0.5 + 4.0) / 2.0),
        (4, 2, 3.5 + 3.0 / 4.0 + (8.0 + 2.0 + 0.5) / 4.0 + 4.0 / 16.0),
    ] {
        let widths = Widths::from(vec![first, second]);
        let found = model.total(&widths);
        assert!((found - time).abs() < 1e-12, "{widths:?}: {found} {time}");
    }
}

/// ONNX Runtime names what it fused after the last output.
#[test]
fn fused_kernels_belong_to_their_main_nodes() {
    let found = find(small::model().proto);
    let profile = Profile {
        run: 1.0,
        kernels: vec![
            kernel("r_nchwc", "Conv", 1.0),
            kernel("y_nchwc", "Conv", 1.0),
        ],
    };
    let nodes = spent(&found.graph, &found.groups, &profile);
    let nodes: Vec<Goes> = nodes.into_iter().map(|part| part.with).collect();
    assert_eq!(
        nodes,
        [
            Goes::WithWork(NodeId::from(0)),
            Goes::WithWork(NodeId::from(2)),
            Goes::Nowhere
        ]
    );
}

#[test]
fn a_real_profile_shows_every_layer_once() {
    for name in [
        "resnet_bn_torchscript.onnx",
        "mobilenet_folded_dynamo.onnx",
        "densenet_bn_dynamo.onnx",
        "vgg_bn_torchscript.onnx",
    ] {
        let found = find(onnx::load(&fixture(name)).unwrap().proto);
        let data = batch(&found.model, 1, 3);
        let tagged = tagged(&found.model);
        let [profile] = runtime().profiles([&tagged], &data, 1.0).unwrap();
        let mut seen = BTreeSet::new();
        for part in spent(&found.graph, &found.groups, &profile) {
            if let Goes::WithWork(node) = part.with {
                assert!(seen.insert(node), "{name}: {node:?} twice");
            }
        }
        for cost in &found.groups.costs {
            let node = &found.graph.nodes[cost.node].name;
            assert!(seen.contains(&cost.node), "{name}: {node} in {profile:?}");
        }
    }
}

/// The clock is made up: a quarter of the time stays, the rest goes with the MACs. The groups share
/// the budget by parameters, which is wrong, and has to be found out by measuring.
#[test]
fn a_wrong_model_of_the_time_is_put_right_by_measuring() {
    let found = find(
        onnx::load(&fixture("vgg_bn_torchscript.onnx"))
            .unwrap()
            .proto,
    );
    let (graph, groups) = (&found.graph, &found.groups);
    let data = std::iter::once(Ok(batch(&found.model, 4, 3)));
    let options = GatherOptions {
        samples: 4,
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let statistics = Statistics::gather(&found.model, graph, groups, runtime(), data, &options);
    let scene = Scene {
        graph,
        groups,
        statistics: &statistics.unwrap(),
        file: None,
    };
    let macs = CostModel::macs(graph, groups);
    let whole = groups.widths();
    let clock = |widths: &Widths| 0.25 + 0.75 * macs.total(widths) / macs.total(&whole);
    let wrong = CostModel::parameters(graph, groups);
    let select = |asked: f64, best_effort: bool| {
        let limits = Limits {
            align: 4,
            min_channels: 4,
            best_effort,
        };
        let measure = |widths: &Widths| Ok::<f64, SelectError>(clock(widths));
        measured_widths(scene, (asked, &[]), &limits, (None, &wrong), measure)
    };
    for asked in [0.8, 0.6, 0.4] {
        let (widths, trials) = select(asked, false).unwrap();
        let time = clock(&widths);
        assert!(
            time <= asked && time > asked * 0.8,
            "{asked}: {time}, {trials:?}"
        );
        assert!((2..=8).contains(&trials.len()), "{asked}: {trials:?}");
        assert!(trials.iter().any(|trial| trial.measured == time));
    }
    let error = select(0.2, false).unwrap_err();
    let SelectError::TooSlow { reached, .. } = error else {
        panic!("{error}");
    };
    let (fastest, _) = select(0.2, true).unwrap();
    assert_eq!(clock(&fastest), reached);
    assert!(reached > 0.25, "{reached}");
    assert_eq!(select(1.0, false).unwrap().0, whole);
}

#[test]
fn the_program_measures_and_says_what_it_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [input, data, output, report, plan] =
        ["in.onnx", "x.npy", "out.onnx", "report.json", "plan.json"].map(path);
    small::write(&small::model(), &input);
    small::calibration(&data);
    let start = [text(&input), text(&output), "--calib", text(&data)];
    let budget = ["--latency", "0.9", "--best-effort", "--repair", "once"];
    let files = ["--report", text(&report), "--plan-out", text(&plan)];
    let run = mipp([start.as_slice(), &budget, &files].concat()).done();
    for stage in ["profiling", "measuring candidates"] {
        assert!(run.err.contains(stage), "{}", run.err);
    }
    let found: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(found["asked"], "--latency 0.9");
    let [before, after] =
        ["before", "after"].map(|when| found["latency_ms"][when].as_f64().unwrap());
    let reached = format!(
        "asked --latency 0.9, reached {:.4} of the latency",
        after / before
    );
    assert!(run.out.contains(&reached), "no '{reached}' in {}", run.out);
    let candidates = found["candidates"].as_array().unwrap();
    assert!((1..=8).contains(&candidates.len()), "{found}");
    for candidate in candidates {
        assert!(candidate["measured"].as_f64().unwrap() > 0.0, "{candidate}");
        // Kernels may be slower at narrower widths: a share above 1 can be true.
        assert!(candidate["modelled"].as_f64().unwrap() > 0.0, "{candidate}");
    }
    assert!(run.out.contains("that w"), "{}", run.out);
    // What was measured once need not be measured again.
    let first = fs::read(&output).unwrap();
    let again = ["--plan", text(&plan), "--repair", "once", "-q"];
    mipp([start.as_slice(), &again].concat()).done();
    assert!(fs::read(&output).unwrap() == first);
}

#[test]
fn a_latency_out_of_reach_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let [input, data, output] =
        ["in.onnx", "x.npy", "out.onnx"].map(|name| folder.path().join(name));
    small::write(&small::model(), &input);
    small::calibration(&data);
    let start = [text(&input), text(&output), "--calib", text(&data)];
    let words = [
        "--latency 0.001 cannot be reached",
        "of the latency;",
        "--best-effort",
    ];
    mipp([start.as_slice(), &["--latency", "0.001"]].concat()).fails(1, &words);
    assert!(!output.exists());
}
