//! The repair layer by layer on random graphs of several blocks in a row, at random plans and
//! through the program.

use onnx_mipp::repair;
use std::path::Path;

use onnx_mipp::data::Batch;
use onnx_mipp::onnx::{self, Model, proto::ModelProto};
use onnx_mipp::repair::sequential::{self, RepairRequest};
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery::{self, Repaired};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::graphs::net::{BLOCKS, LAYERS, Layer, of_layers};
use crate::masked::{Found, batch, find, run, runtime};
use crate::program::{mipp, text};
use crate::small;

const CASES: u32 = 64;
const OPSETS: [i64; 2] = [13, 17];
/// Samples of each case, in batches of so many.
const SAMPLES: usize = 20;
const BATCH: usize = 8;

/// A seed, an opset, whether all is of one width, and layers.
type Case = (u64, usize, bool, Vec<(usize, u64)>);

fn cases() -> impl Strategy<Value = Case> {
    // Blocks more often than what lies between them.
    let layer = prop_oneof![
        3 => 0..BLOCKS.len(),
        1 => BLOCKS.len()..BLOCKS.len() + LAYERS.len(),
    ];
    let layers = prop::collection::vec((layer, any::<u64>()), 2..6);
    (any::<u64>(), 0..OPSETS.len(), any::<bool>(), layers)
}

fn model((seed, opset, is_even, layers): &Case) -> ModelProto {
    let layer = |at: usize| -> Layer {
        let all = BLOCKS.iter().chain(&LAYERS);
        *all.clone().nth(at).unwrap()
    };
    let layers: Vec<_> = layers.iter().map(|&(at, seed)| (layer(at), seed)).collect();
    of_layers(OPSETS[*opset], *seed, is_even.then_some(8), &layers)
}

fn runner(cases: u32, seed: u64) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 48,
        ..ProptestConfig::default()
    })
}

/// The samples of a case, batch after batch.
fn data(model: &Model) -> Vec<Batch> {
    let whole = (0..SAMPLES / BATCH).map(|number| batch(model, BATCH, 20 + number as u64));
    let rest = batch(model, SAMPLES % BATCH, 30);
    whole.chain([rest]).collect()
}

fn statistics(found: &Found, data: &[Batch]) -> Statistics {
    let options = GatherOptions {
        samples: SAMPLES,
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let batches = data.iter().cloned().map(Ok);
    let (graph, groups) = (&found.graph, &found.groups);
    Statistics::gather(&found.model, graph, groups, runtime(), batches, &options).unwrap()
}

/// The weights repaired layer by layer, and how many of those of one pass they change.
fn repaired(found: &Found, stays: &[bool], data: &[Batch]) -> Result<(Repaired, usize), String> {
    let statistics = statistics(found, data);
    let (graph, groups) = (&found.graph, &found.groups);
    let once = repair::repair(graph, groups, &statistics, stays).map_err(|e| e.to_string())?;
    let setting = RepairRequest {
        model: &found.model,
        graph,
        groups,
        statistics: &statistics,
        stays,
        runtime: runtime(),
        memory: 1 << 16,
        seed: 3,
    };
    let batches = data.iter().cloned().map(Ok);
    let layered = sequential::repair(setting, once.clone(), SAMPLES, batches, &|_| {});
    let layered = layered.map_err(|error| error.to_string())?;
    let changed = layered.inputs.iter();
    let changed = changed.filter(|(at, tensor)| once.inputs.get(at) != Some(*tensor));
    let changed = changed.count();
    Ok((layered, changed))
}

/// Whatever the graph and whatever leaves, the repair ends, what its taps read has the shape that
/// its fits count on (else it would fail), and the model runs.
#[test]
fn it_ends_on_every_graph() {
    let changed = std::cell::Cell::new(0);
    let outcome = runner(CASES, 4801).run(&cases(), |case| {
        let found = find(model(&case));
        let mut random = ChaCha8Rng::seed_from_u64(case.0);
        let share = random.random_range(0.2..0.7);
        let stays = found.plan(|_, _| random.random_bool(share));
        let data = data(&found.model);
        let (layered, more) = repaired(&found, &stays, &data).map_err(TestCaseError::fail)?;
        let (model, graph, groups) = (&found.model, &found.graph, &found.groups);
        let pruned = surgery::prune(model, graph, groups, &stays, &layered);
        let pruned = pruned.map_err(|error| TestCaseError::fail(error.to_string()))?;
        for output in run(&pruned, &data[0]) {
            let values = output.to_f64().unwrap();
            prop_assert!(values.iter().all(|value| value.is_finite()));
        }
        changed.set(changed.get() + more);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // Levels are there to be fitted in most of them.
    assert!(changed.get() > 2 * CASES as usize, "{}", changed.get());
}

/// Each kind of block three times in a row, at three plans.
#[test]
fn it_ends_on_blocks_in_a_row() {
    for kind in 0..BLOCKS.len() {
        let layers = (0..3).map(|seed| (kind, seed)).collect();
        let found = find(model(&(kind as u64, 1, true, layers)));
        let data = data(&found.model);
        for part in 2..5 {
            let stays = found.plan(|group, at| (at + group) % part == 0);
            let changed = repaired(&found, &stays, &data);
            let (layered, changed) =
                changed.unwrap_or_else(|error| panic!("block {kind}: {error}"));
            assert!(changed > 0, "block {kind}: nothing was fitted");
            let (graph, groups) = (&found.graph, &found.groups);
            let pruned = surgery::prune(&found.model, graph, groups, &stays, &layered).unwrap();
            run(&pruned, &data[0]);
        }
    }
}

#[test]
fn it_ends_where_levels_read_a_sequence() {
    let found = find(crate::trials::halves_in_sequences());
    let data = data(&found.model);
    for part in 2..4 {
        let stays = found.plan(|group, at| (at + group) % part == 0);
        let (layered, changed) = repaired(&found, &stays, &data).unwrap();
        assert!(changed > 0);
        let (graph, groups) = (&found.graph, &found.groups);
        let pruned = surgery::prune(&found.model, graph, groups, &stays, &layered).unwrap();
        run(&pruned, &data[0]);
    }
}

/// The squared difference of all outputs from the original's on some samples, over the variance
/// across these.
fn squared_error(dense: &Model, pruned: &Model, data: &Batch) -> f64 {
    let squares = |values: ndarray::ArrayD<f64>| values.mapv(|value| value * value).sum();
    let pairs = run(dense, data).into_iter().zip(run(pruned, data));
    let each = pairs.map(|(dense, pruned)| {
        let [dense, pruned] = [dense, pruned].map(|tensor| tensor.to_f64().unwrap());
        let mean = dense.mean_axis(ndarray::Axis(0)).unwrap();
        squares(&dense - &pruned) / squares(&dense - &mean)
    });
    each.sum()
}

/// The program's two repairs of one plan: their squared errors on the samples that they were fitted
/// to.
fn errors(proto: ModelProto, folder: &Path) -> [f64; 2] {
    let found = find(proto);
    let path = |name: &str| folder.join(name);
    let (dense, calibration, plan) = (path("in.onnx"), path("x.npy"), path("plan.json"));
    onnx::save(&found.model, &dense).unwrap();
    let data = batch(&found.model, 7, 5);
    let values = data[0].1.to_f32().unwrap();
    let values: Vec<f32> = values.iter().copied().collect();
    // Fewer than eight samples: none is held back.
    small::npy_f32(&calibration, &data[0].1.shape, &values);
    let common = ["-q", "--threads", "1", "--calib", text(&calibration)];
    ["once", "sequential"].map(|repair| {
        let output = path(&format!("{repair}.onnx"));
        let budget = match repair {
            "once" => ["--ratio", "0.4", "--align", "1", "--plan-out", text(&plan)].to_vec(),
            _ => ["--plan", text(&plan)].to_vec(),
        };
        let files = [text(&dense), text(&output), "--repair", repair];
        mipp([&files[..], &common, &budget].concat()).done();
        squared_error(&found.model, &onnx::load(&output).unwrap(), &data)
    })
}

/// The default is never worse on its own calibration data than the repair in one pass.
#[test]
fn it_is_not_worse_than_one_pass_on_its_own_data() {
    let folder = tempfile::tempdir().unwrap();
    let better = std::cell::Cell::new(0);
    let outcome = runner(CASES / 4, 4802).run(&cases(), |case| {
        let [once, sequential] = errors(model(&case), folder.path());
        prop_assert!(
            sequential <= once * (1.0 + 1e-5) + 1e-12,
            "{sequential} layer by layer, {once} in one pass"
        );
        better.set(better.get() + u32::from(sequential < 0.9 * once));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(better.get() > CASES / 16, "{}", better.get());
}
