//! The trials of narrower groups, against whole models cut and run from their inputs.

use onnx_mipp::calibrate::{Batch, GatherOptions, Statistics};
use onnx_mipp::divergence::{self, Effort, Setting};
use onnx_mipp::onnx::{self, Model};
use onnx_mipp::select::{Limits, Ranking, Scene};
use onnx_mipp::surgery;

use crate::masked::{Found, batch, find, run, runtime};
use crate::program::fixture;

/// The squared change of the only output over its variance across samples.
fn divergence(dense: &Model, cut: &Model, data: &Batch) -> f64 {
    let [dense, cut] = [dense, cut].map(|model| run(model, data)[0].to_f64().unwrap());
    let mean = dense.mean_axis(ndarray::Axis(0)).unwrap();
    let squares = |values: ndarray::ArrayD<f64>| values.mapv(|value| value * value).sum();
    squares(&dense - &cut) / squares(&dense - &mean)
}

fn is_that_of_the_whole_model(name: &str) {
    let proto = onnx::load(&fixture(name)).unwrap().proto;
    let Found {
        model,
        graph,
        groups,
        ..
    } = find(proto);
    let data = batch(&model, 6, 3);
    let options = GatherOptions {
        samples: 6,
        seed: 1,
        progress: &|_| {},
    };
    let batches = std::iter::once(Ok(data.clone()));
    let statistics = Statistics::gather(&model, &graph, &groups, runtime(), batches, &options);
    let scene = Scene {
        graph: &graph,
        groups: &groups,
        statistics: &statistics.unwrap(),
    };
    let limits = Limits {
        align: 8,
        min_channels: 1,
        best_effort: true,
    };
    let ranking = Ranking::of(scene).unwrap();
    let setting = Setting {
        model: &model,
        scene,
        ranking: &ranking,
        limits: &limits,
        runtime: runtime(),
        // Everything that waits between two parts of the model goes through the file.
        memory: 0,
    };
    let found = divergence::measure(
        setting,
        Effort::FULL.shares,
        std::slice::from_ref(&data),
        &|_| {},
    )
    .unwrap();
    let mut compared = 0;
    for (group, trials) in found.0.iter().enumerate() {
        for trial in trials {
            let stays = ranking.stays(&groups, group, trial.width);
            let repaired = surgery::repair(&graph, &groups, scene.statistics, &stays).unwrap();
            let cut = surgery::prune(&model, &graph, &groups, &stays, &repaired).unwrap();
            let whole = divergence(&model, &cut, &data);
            let close = (trial.divergence - whole).abs() <= 1e-3 * whole + 1e-9;
            assert!(close, "{name}: group {group}, {trial:?}, not {whole}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{name}: {compared} trials");
}

#[test]
fn a_trial_moves_the_outputs_as_the_whole_model_would() {
    is_that_of_the_whole_model("resnet_bn_torchscript.onnx");
    is_that_of_the_whole_model("mobilenet_folded_dynamo.onnx");
    is_that_of_the_whole_model("densenet_bn_dynamo.onnx");
}
