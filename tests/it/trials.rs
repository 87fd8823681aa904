//! The trials of narrower groups, against whole models cut and run from their inputs.

use onnx_mipp::data::Batch;
use onnx_mipp::onnx::{self, Model, proto::ModelProto};
use onnx_mipp::repair;
use onnx_mipp::select::{Limits, Ranking, Scene};
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery;
use onnx_mipp::trials::{self, Effort, TrialRequest};

use crate::builder::{Builder, INT64, int, ints};
use crate::masked::{Found, batch, find, run, runtime};
use crate::program::fixture;

/// The squared change of each output over its variance across samples, in all.
fn divergence(dense: &Model, cut: &Model, data: &Batch) -> f64 {
    let squares = |values: ndarray::ArrayD<f64>| values.mapv(|value| value * value).sum();
    let pairs = run(dense, data).into_iter().zip(run(cut, data));
    let each = pairs.map(|(dense, cut)| {
        let [dense, cut] = [dense, cut].map(|tensor| tensor.to_f64().unwrap());
        let mean = dense.mean_axis(ndarray::Axis(0)).unwrap();
        squares(&dense - &cut) / squares(&dense - &mean)
    });
    each.sum()
}

fn is_that_of_the_whole_model(name: &str, proto: ModelProto, least: usize) {
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
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let batches = std::iter::once(Ok(data.clone()));
    let statistics = Statistics::gather(&model, &graph, &groups, runtime(), batches, &options);
    let scene = Scene {
        graph: &graph,
        groups: &groups,
        statistics: &statistics.unwrap(),
        file: None,
    };
    let limits = Limits {
        align: 8,
        min_channels: 1,
        best_effort: true,
    };
    let ranking = Ranking::of(scene).unwrap();
    let setting = TrialRequest {
        model: &model,
        scene,
        ranking: &ranking,
        limits: &limits,
        runtime: runtime(),
        // Everything that waits between two parts of the model goes through the file.
        memory: 0,
    };
    for (effort, is_most) in [(Effort::MOST, true), (Effort::LEAST, false)] {
        let data = std::slice::from_ref(&data);
        let found = trials::measure(setting, effort, data, &|_| {}).unwrap();
        let mut compared = 0;
        for (group, trials) in found.0.entries() {
            for trial in trials {
                let stays = ranking.stays(&groups, group, trial.width);
                let repaired = if is_most {
                    repair::repair(&graph, &groups, scene.statistics, &stays)
                } else {
                    repair::repair_channels(&graph, &groups, scene.statistics, &stays)
                };
                let repaired = repaired.unwrap();
                let cut = surgery::prune(&model, &graph, &groups, &stays, &repaired).unwrap();
                let whole = divergence(&model, &cut, &data[0]);
                let close = (trial.divergence - whole).abs() <= 1e-3 * whole + 1e-9;
                assert!(close, "{name}: group {group:?}, {trial:?}, not {whole}");
                compared += 1;
            }
        }
        let least = if is_most { least } else { least * 2 / 3 };
        assert!(compared >= least, "{name}: {compared} trials");
    }
}

#[test]
fn a_trial_moves_the_outputs_as_the_whole_model_would() {
    for name in [
        "resnet_bn_torchscript.onnx",
        "mobilenet_folded_dynamo.onnx",
        "densenet_bn_dynamo.onnx",
    ] {
        let proto = onnx::load(&fixture(name)).unwrap().proto;
        is_that_of_the_whole_model(name, proto, 11);
    }
}

#[test]
fn a_part_may_resize_to_sizes_that_the_rest_computes() {
    // As an exporter writes "back to the size of the input": samples and channels of the tensor
    // itself, height and width of the input, which no part has to run again.
    let mut b = Builder::new(13);
    b.input("x", &[4, 6, 6]);
    let made = b.conv("x", [24, 4, 3, 3], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    let made = b.pointwise(&made, 24, 5);
    let part = |b: &mut Builder, of: &str, from: i64, to: i64| {
        let shape = b.node("Shape", &[of], vec![]);
        let (from, to) = (b.ints(&[from]), b.ints(&[to]));
        b.node("Slice", &[&shape, &from, &to], vec![])
    };
    let own = part(&mut b, &made, 0, 2);
    let side = part(&mut b, "x", 2, 4);
    let side = b.node("Cast", &[&side], vec![int("to", INT64)]);
    let sizes = b.node("Concat", &[&own, &side], vec![int("axis", 0)]);
    let made = b.node("Resize", &[&made, "", "", &sizes], vec![]);
    b.output(&made, 4);
    is_that_of_the_whole_model("resized", b.finish(), 2);
}

#[test]
fn a_part_may_have_nothing_to_compute() {
    // Most of the work is in heads of the same depth, behind all of which a branch goes on: between
    // two heads nothing is made that anything else reads.
    let mut b = Builder::new(13);
    b.input("x", &[4, 6, 6]);
    let made = b.conv("x", [16, 4, 3, 3], vec![ints("pads", &[1; 4])]);
    let stem = b.node("Relu", &[&made], vec![]);
    let branch = b.conv(&stem, [24, 16, 1, 1], vec![]);
    for _ in 0..6 {
        let head = b.conv(&stem, [48, 16, 3, 3], vec![]);
        b.output(&head, 4);
    }
    let branch = b.node("Relu", &[&branch], vec![]);
    let made = b.pointwise(&branch, 24, 2);
    b.output(&made, 4);
    is_that_of_the_whole_model("heads", b.finish(), 3);
}

/// Blocks of halves that a sequence holds, as an exporter writes torch.chunk: sequences cannot pass
/// from one part of the model to another.
pub fn halves_in_sequences() -> ModelProto {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let made = b.conv("x", [16, 4, 3, 3], vec![ints("pads", &[1; 4])]);
    let mut made = b.node("Relu", &[&made], vec![]);
    for _ in 0..3 {
        let (size, first, second) = (b.index(8), b.index(0), b.index(1));
        let parts = b.node("SplitToSequence", &[&made, &size], vec![int("axis", 1)]);
        let left = b.node("SequenceAt", &[&parts, &first], vec![]);
        let inner = b.conv(&left, [16, 8, 3, 3], vec![ints("pads", &[1; 4])]);
        let inner = b.node("Relu", &[&inner], vec![]);
        let inner = b.conv(&inner, [8, 16, 1, 1], vec![]);
        let inner = b.node("Relu", &[&inner], vec![]);
        // Asked for behind what the other half goes through.
        let right = b.node("SequenceAt", &[&parts, &second], vec![]);
        made = b.node("Concat", &[&right, &inner], vec![int("axis", 1)]);
    }
    let made = b.pointwise(&made, 16, 5);
    b.output(&made, 4);
    b.finish()
}

#[test]
fn a_part_may_read_a_sequence() {
    is_that_of_the_whole_model("sequences", halves_in_sequences(), 3);
}
