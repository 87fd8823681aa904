//! Combinations of channels: which groups may be turned, and that turning them changes nothing but
//! the channels. The truth is ONNX Runtime on the original model.

use onnx_mipp::repair;
use std::path::Path;

use onnx_mipp::combine::{self, Combined};
use onnx_mipp::data::Batch;
use onnx_mipp::graph::Graph;
use onnx_mipp::groups::Groups;
use onnx_mipp::onnx::{self, Model, Tensor};
use onnx_mipp::ops;
use onnx_mipp::shapes::probe;
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery;

use crate::builder::{Builder, int, ints};
use crate::masked::{Found, batch, distance, find, run, runtime};
use crate::program::{Run, fixture, mipp, text};

const TOLERANCE: f64 = 1e-4;

fn statistics(model: &Model, graph: &Graph, groups: &Groups, data: &Batch) -> Statistics {
    let options = GatherOptions {
        samples: data[0].1.shape[0],
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let batches = std::iter::once(Ok(data.clone()));
    Statistics::gather(model, graph, groups, runtime(), batches, &options).unwrap()
}

fn combined(model: &Model, graph: &Graph, groups: &Groups, data: &Batch) -> Option<Combined> {
    let mut statistics = statistics(model, graph, groups, data);
    combine::combine(model, graph, groups, &mut statistics, &|_| true).unwrap()
}

/// Sizes of the groups that may be turned.
pub(crate) fn combinable(found: &Found) -> Vec<usize> {
    let can = combine::combinable(&found.graph, &found.groups);
    let groups = found.groups.groups.iter().zip(&can);
    let sizes = groups.filter(|(_, can)| **can);
    sizes.map(|(group, _)| group.channels.len()).collect()
}

/// The turned model computes what the original does, from other weights, and its graph is its own.
fn assert_same(model: &Model, graph: &Graph, groups: &Groups, [seen, unseen]: [&Batch; 2]) {
    let combined = combined(model, graph, groups, seen).expect("nothing to combine");
    let error = distance(&run(model, unseen), &run(&combined.model, unseen));
    assert!(error <= TOLERANCE, "{error:e}");
    let rebuilt = ops::graph(&combined.model).unwrap();
    let mut changed = 0;
    for ((before, after), stored) in graph
        .values
        .iter()
        .zip(&combined.graph.values)
        .zip(&rebuilt.values)
    {
        changed += usize::from(before.constant != after.constant);
        if stored.constant.is_some() {
            assert_eq!(after.constant, stored.constant, "{}", after.name);
        }
    }
    assert!(changed > 1);
}

pub(crate) fn is_same(found: &Found) {
    let [seen, unseen] =
        [(16, 3), (3, 4)].map(|(samples, seed)| batch(&found.model, samples, seed));
    assert_same(&found.model, &found.graph, &found.groups, [&seen, &unseen]);
}

/// A stream of 6 channels of two branches, with a BatchNormalization in one of them.
fn stream(b: &mut Builder) -> String {
    b.input("x", &[4, 6, 6]);
    let weight = b.weight(&[6, 4, 3, 3], 36);
    let first = b.node("Conv", &["x", &weight], vec![ints("pads", &[1, 1, 1, 1])]);
    let [scale, shift] = [(0.5, 2.0), (-0.5, 0.5)].map(|(low, high)| b.uniform(&[6], low, high));
    let [mean, variance] = [(-0.3, 0.3), (0.5, 2.0)].map(|(low, high)| b.uniform(&[6], low, high));
    let first = b.node(
        "BatchNormalization",
        &[&first, &scale, &shift, &mean, &variance],
        vec![],
    );
    let second = b.pointwise("x", 4, 6);
    b.node("Add", &[&first, &second], vec![])
}

fn with_head(mut b: Builder, input: &str, channels: usize) -> Found {
    let made = b.conv(
        input,
        [5, channels, 3, 3],
        vec![ints("pads", &[1, 0, 1, 1])],
    );
    b.output(&made, 4);
    find(b.finish())
}

#[test]
fn a_stream_of_convolutions_may_be_turned() {
    let mut b = Builder::new(17);
    let read = stream(&mut b);
    let found = with_head(b, &read, 6);
    assert_eq!(combinable(&found), [6]);
    is_same(&found);
}

#[test]
fn averages_constants_and_transposed_convolutions_are_linear_too() {
    let mut b = Builder::new(17);
    let read = stream(&mut b);
    let constant = b.uniform(&[1, 6, 1, 1], -1.0, 1.0);
    let read = b.node("Sub", &[&constant, &read], vec![]);
    let read = b.node("Identity", &[&read], vec![]);
    let read = b.node(
        "AveragePool",
        &[&read],
        vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 0, 0])],
    );
    let weight = b.weight(&[6, 5, 2, 2], 6);
    let made = b.node(
        "ConvTranspose",
        &[&read, &weight],
        vec![ints("strides", &[2, 2])],
    );
    let active = b.node("Relu", &[&made], vec![]);
    let found = with_head(b, &active, 5);
    // The transposed convolution's own outputs pass a Relu.
    assert_eq!(combinable(&found), [6]);
    is_same(&found);
}

#[test]
fn products_of_matrices_may_be_turned_on_either_side() {
    let mut b = Builder::new(17);
    b.input("x", &[7, 4]);
    let [first, second] = [b.weight(&[4, 6], 4), b.weight(&[6, 8], 6)];
    let bias = b.uniform(&[6], -1.0, 1.0);
    let made = b.node("MatMul", &["x", &first], vec![]);
    let added = b.node("Add", &[&bias, &made], vec![]);
    let wide = b.node("MatMul", &[&added, &second], vec![]);
    let active = b.node("Tanh", &[&wide], vec![]);
    let third = b.weight(&[8, 3], 8);
    let made = b.node("MatMul", &[&active, &third], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(combinable(&found), [6]);
    is_same(&found);
}

/// What stands in the way, and the channels of the stream that cannot be turned then.
#[test]
fn what_treats_channels_differently_is_in_the_way() {
    type Change = fn(&mut Builder, String) -> String;
    let changes: [(&str, Change); 7] = [
        ("an activation", |b, read| b.node("Relu", &[&read], vec![])),
        ("one number for all channels", |b, read| {
            let one = b.uniform(&[1], 0.5, 1.0);
            b.node("Add", &[&read, &one], vec![])
        }),
        ("a factor for each channel", |b, read| {
            let factors = b.uniform(&[6, 1, 1], 0.5, 1.0);
            b.node("Mul", &[&read, &factors], vec![])
        }),
        ("maxima", |b, read| {
            b.node("MaxPool", &[&read], vec![ints("kernel_shape", &[2, 2])])
        }),
        ("a depthwise convolution", |b, read| {
            b.conv(&read, [6, 1, 3, 3], vec![int("group", 6)])
        }),
        ("a scale behind a sum", |b, read| {
            let all = [(0.5, 2.0), (-0.5, 0.5), (-0.3, 0.3), (0.5, 2.0)];
            let [scale, shift, mean, variance] = all.map(|(low, high)| b.uniform(&[6], low, high));
            b.node(
                "BatchNormalization",
                &[&read, &scale, &shift, &mean, &variance],
                vec![],
            )
        }),
        ("padding that is not zero", |b, read| {
            let (pads, value) = (b.ints(&[0, 0, 1, 1, 0, 0, 1, 1]), b.floats(&[], vec![0.5]));
            b.node("Pad", &[&read, &pads, &value], vec![])
        }),
    ];
    for (what, change) in changes {
        let mut b = Builder::new(17);
        let read = stream(&mut b);
        let read = change(&mut b, read);
        let found = with_head(b, &read, 6);
        assert_eq!(combinable(&found), [0; 0], "{what}");
        assert_eq!(found.free(), [6], "{what}");
    }
}

#[test]
fn constants_of_two_readers_are_in_the_way() {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let (weight, bias) = (b.weight(&[6, 4, 1, 1], 4), b.uniform(&[6], -1.0, 1.0));
    let first = b.node("Conv", &["x", &weight, &bias], vec![]);
    let other = b.weight(&[6, 4, 1, 1], 4);
    let second = b.node("Conv", &["x", &other, &bias], vec![]);
    let read = b.node("Add", &[&first, &second], vec![]);
    let found = with_head(b, &read, 6);
    assert_eq!(combinable(&found), [0; 0]);
}

/// The sum of squared differences, which a repair makes small.
fn squares(left: &[Tensor], right: &[Tensor]) -> f64 {
    let pairs = left.iter().zip(right);
    let values = pairs.flat_map(|(a, b)| a.to_f64().unwrap().into_iter().zip(b.to_f64().unwrap()));
    values.map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Three combinations against every choice of three of six channels, each with its best repair.
#[test]
fn combinations_lose_less_than_any_channels() {
    const KEPT: u32 = 3;
    let mut b = Builder::seeded(17, 5);
    let read = stream(&mut b);
    let found = with_head(b, &read, 6);
    let (graph, groups) = (&found.graph, &found.groups);
    let seen = batch(&found.model, 32, 3);
    let dense = run(&found.model, &seen);
    let group = groups
        .groups
        .iter()
        .find(|group| group.channels.len() == 6)
        .unwrap();
    let error = |model: &Model, graph: &Graph, statistics: &Statistics, kept: u32| {
        let mut stays = vec![true; groups.channel_count];
        for (at, &channel) in group.channels.iter().enumerate() {
            stays[channel] = kept >> at & 1 == 1;
        }
        let repaired = repair::repair(graph, groups, statistics, &stays).unwrap();
        let cut = surgery::prune(model, graph, groups, &stays, &repaired).unwrap();
        squares(&dense, &run(&cut, &seen))
    };
    let mut turned = statistics(&found.model, graph, groups, &seen);
    let combined = combine::combine(&found.model, graph, groups, &mut turned, &|_| true);
    let combined = combined.unwrap().unwrap();
    let first = error(&combined.model, &combined.graph, &turned, (1 << KEPT) - 1);
    let channels = statistics(&found.model, graph, groups, &seen);
    let choices = (0..1 << 6).filter(|kept: &u32| kept.count_ones() == KEPT);
    let best = choices.map(|kept| error(&found.model, graph, &channels, kept));
    let best = best.fold(f64::INFINITY, f64::min);
    assert!(first < 0.9 * best, "{first} {best}");
}

#[test]
fn every_export_of_the_mobilenet_is_turned() {
    for export in [
        "bn_torchscript",
        "bn_dynamo",
        "folded_torchscript",
        "folded_dynamo",
    ] {
        let path = format!(
            "{}/fixtures/mobilenet_{export}.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let model = onnx::load(path.as_ref()).unwrap().inlined().in_order();
        let mut graph = ops::graph(&model).unwrap();
        let images = |count: usize, step: usize| -> Batch {
            let values = (0..count * 784)
                .map(|i| (i * step % 97) as f32 / 50.0 - 0.8)
                .collect();
            vec![(
                "input".to_owned(),
                Tensor::from_f32(&[count, 1, 28, 28], values).unwrap(),
            )]
        };
        probe(&model, &mut graph, runtime(), &images(2, 1)).unwrap();
        let groups = Groups::find(&graph, Default::default(), &ops::RULES);
        let can = combine::combinable(&graph, &groups);
        let turned = groups.groups.iter().zip(&can).filter(|(_, can)| **can);
        let sizes: Vec<usize> = turned.map(|(group, _)| group.channels.len()).collect();
        assert_eq!(sizes, [40], "{export}: the stream behind the stem's SiLU");
        assert_same(&model, &graph, &groups, [&images(8, 31), &images(3, 17)]);
    }
}

/// The program on the MobileNet-like fixture.
fn mobilenet(folder: &Path, options: &[&str]) -> Run {
    let (model, data) = (
        fixture("mobilenet_bn_torchscript.onnx"),
        fixture("calib.npz"),
    );
    let output = folder.join("out.onnx");
    let start = [
        text(&model),
        text(&output),
        "--repair",
        "once",
        "--samples",
        "64",
    ];
    let calib = ["--calib", text(&data)];
    let calib = if options.contains(&"--no-data") {
        &calib[..0]
    } else {
        &calib
    };
    let options: Vec<&str> = options
        .iter()
        .copied()
        .filter(|word| *word != "--no-data")
        .collect();
    mipp([start.as_slice(), calib, &options].concat())
}

#[test]
fn plans_of_combinations_are_followed_with_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let bytes = |options: &[&str]| {
        let run = mobilenet(folder.path(), options).done();
        (
            std::fs::read(folder.path().join("out.onnx")).unwrap(),
            run.out,
        )
    };
    let (first, out) = bytes(&["--macs", "0.5", "--plan-out", text(&plan)]);
    assert!(
        out.contains("combinations of channels are left in 1 group"),
        "{out}"
    );
    let listed: serde_json::Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let combined = |group: &&serde_json::Value| group["combined"] == true;
    let groups = listed["groups"].as_array().unwrap();
    let found: Vec<_> = groups.iter().filter(combined).collect();
    let [group] = found.as_slice() else {
        panic!("{listed}")
    };
    assert_eq!(group["channels"], 40);
    assert!(bytes(&["--plan", text(&plan)]).0 == first);
    let again = ["--plan", text(&plan), "--no-data"];
    mobilenet(folder.path(), &again).fails(1, &["combinations of channels", "--calib"]);
    // A group that may not be turned.
    let other = groups
        .iter()
        .position(|group| group["combined"].is_null())
        .unwrap();
    let mut wrong = listed.clone();
    wrong["groups"][other]["combined"] = true.into();
    std::fs::write(&plan, wrong.to_string()).unwrap();
    mobilenet(folder.path(), &["--plan", text(&plan)]).fails(1, &["not only linear layers"]);
}

#[test]
fn channels_stay_channels_where_that_is_asked_for_or_no_data_tell_more() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        ["--no-combine"].as_slice(),
        &["--no-data"],
        &["--estimator", "copula"],
    ] {
        let run = mobilenet(folder.path(), &[&["--macs", "0.5"], options].concat());
        let run = run.done();
        assert!(
            !run.out.contains("combinations"),
            "{options:?}: {}",
            run.out
        );
    }
}
