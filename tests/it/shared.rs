//! Weights that several nodes share: one set of channels, one fit, one stored tensor.

use std::collections::BTreeSet;

use ndarray::{Array1, Axis};

use crate::builder::{Builder, INT64, int, ints};
use crate::masked::{Found, batch, find, run, runtime};
use onnx_mipp::data::Batch;
use onnx_mipp::graph::NodeId;
use onnx_mipp::onnx::{Model, Tensor, proto::GraphProto};
use onnx_mipp::repair;
use onnx_mipp::repair::sequential::{self, RepairRequest};
use onnx_mipp::select::CostModel;
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery::{self, Repaired};

/// Samples of the calibration.
const SEEN: usize = 48;

fn graph(model: &Model) -> &GraphProto {
    model.proto.graph.as_ref().unwrap()
}

/// Elements of the floats and integers of fewer than 64 bits that are stored.
fn stored(model: &Model) -> i64 {
    let weights = graph(model).initializer.iter();
    let weights = weights.filter(|t| t.data_type() != INT64 as i32);
    weights.map(|t| t.dims.iter().product::<i64>()).sum()
}

/// The parameters that the cost model promises.
fn promised(found: &Found, stays: &[bool]) -> f64 {
    let groups = found.groups.groups.iter();
    let widths = groups.map(|g| g.channels.iter().filter(|&&c| stays[c]).count());
    let widths = widths.collect();
    CostModel::parameters(&found.graph, &found.groups).total(&widths)
}

/// What every node of an operator reads in a slot.
fn read(model: &Model, op: &str, slot: usize) -> Vec<String> {
    let nodes = graph(model).node.iter().filter(|n| n.op_type() == op);
    nodes.map(|node| node.input[slot].clone()).collect()
}

fn different(names: &[String]) -> usize {
    names.iter().collect::<BTreeSet<_>>().len()
}

/// The model without repair, repaired once and layer by layer.
fn pruned(found: &Found, stays: &[bool], data: &Batch) -> [Model; 3] {
    let (graph, groups) = (&found.graph, &found.groups);
    let options = GatherOptions {
        samples: SEEN,
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let batches = || std::iter::once(Ok(data.clone()));
    let statistics =
        Statistics::gather(&found.model, graph, groups, runtime(), batches(), &options);
    let statistics = statistics.unwrap();
    let once = repair::repair(graph, groups, &statistics, stays).unwrap();
    let setting = RepairRequest {
        model: &found.model,
        graph,
        groups,
        statistics: &statistics,
        stays,
        runtime: runtime(),
        memory: 1 << 20,
        seed: 1,
    };
    let all = sequential::repair(setting, once.clone(), SEEN, batches(), &|_| {}).unwrap();
    [Repaired::default(), once, all]
        .map(|repaired| surgery::prune(&found.model, graph, groups, stays, &repaired).unwrap())
}

/// Squared error over the variance of the dense outputs.
fn error(found: &Found, model: &Model, data: &Batch) -> f64 {
    let squares = |values: ndarray::ArrayD<f64>| values.mapv(|value| value * value).sum();
    let pairs = run(&found.model, data).into_iter().zip(run(model, data));
    let each = pairs.map(|(dense, cut)| {
        let [dense, cut] = [dense, cut].map(|tensor| tensor.to_f64().unwrap());
        let mean = dense.mean_axis(ndarray::Axis(0)).unwrap();
        squares(&dense - &cut) / squares(&dense - &mean)
    });
    each.sum()
}

/// Two towers of one set of weights, and their distance.
fn siamese(b: &mut Builder) -> String {
    b.input("x", &[6, 10, 10]);
    let halves = b.nodes("Split", &["x"], 2, vec![int("axis", 1)]);
    let weights = [
        (b.weight(&[12, 3, 3, 3], 27), b.uniform(&[12], -0.3, 0.3)),
        (b.weight(&[16, 12, 3, 3], 108), b.uniform(&[16], -0.3, 0.3)),
        (b.weight(&[14, 16], 16), b.uniform(&[14], -0.3, 0.3)),
    ];
    let mut tower = |input: &str| {
        let mut made = input.to_owned();
        for (weight, bias) in &weights[..2] {
            let attributes = vec![ints("pads", &[1, 1, 1, 1])];
            made = b.node("Conv", &[&made, weight, bias], attributes);
            made = b.node("Relu", &[&made], vec![]);
        }
        let made = b.node("GlobalAveragePool", &[&made], vec![]);
        let made = b.node("Flatten", &[&made], vec![]);
        let (weight, bias) = &weights[2];
        let made = b.node("Gemm", &[&made, weight, bias], vec![int("transB", 1)]);
        b.node("Relu", &[&made], vec![])
    };
    let (left, right) = (tower(&halves[0]), tower(&halves[1]));
    let apart = b.node("Sub", &[&left, &right], vec![]);
    b.node("Abs", &[&apart], vec![])
}

#[test]
fn towers_stay_equal_and_are_stored_once() {
    let mut b = Builder::new(13);
    let apart = siamese(&mut b);
    let (weight, bias) = (b.weight(&[3, 14], 14), b.uniform(&[3], -0.3, 0.3));
    let made = b.node("Gemm", &[&apart, &weight, &bias], vec![int("transB", 1)]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [12, 16, 14], "{:?}", found.frozen());
    found.check();
    let stays = found.plan(|_, at| at % 3 == 0);
    let data = batch(&found.model, SEEN, 4);
    let models = pruned(&found, &stays, &data);
    // Both halves of a sample are the same: then so is what the towers make of them.
    let equal = |(name, tensor): &(String, Tensor)| {
        let mut values = tensor.to_f32().unwrap();
        for mut sample in values.outer_iter_mut() {
            let (left, mut right) = sample.view_mut().split_at(ndarray::Axis(0), 3);
            right.assign(&left);
        }
        let values = values.iter().copied().collect();
        (
            name.clone(),
            Tensor::from_f32(&tensor.shape, values).unwrap(),
        )
    };
    let equal: Batch = data.iter().map(equal).collect();
    for model in &models {
        assert_eq!(stored(model) as f64, promised(&found, &stays));
        assert_eq!(
            graph(model).initializer.len(),
            graph(&found.model).initializer.len()
        );
        let outputs = run(model, &equal)[0].to_f32().unwrap();
        let first = outputs.index_axis(ndarray::Axis(0), 0).to_owned();
        assert!(
            outputs.outer_iter().all(|row| row == first),
            "the towers differ"
        );
    }
    let [none, once, all] = models.map(|model| error(&found, &model, &data));
    assert!(once < 0.9 * none, "{none} then {once}");
    assert!(all < 1.02 * once, "{once} then {all}");
}

/// A head of two convolutions on three levels, which stand at different depths and have different
/// sizes.
fn detector() -> Found {
    let mut b = Builder::new(13);
    b.input("x", &[3, 16, 16]);
    let strided = |b: &mut Builder, input: &str, [out, inputs]: [usize; 2]| {
        let attributes = vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])];
        let made = b.conv(input, [out, inputs, 3, 3], attributes);
        b.node("Relu", &[&made], vec![])
    };
    let one = strided(&mut b, "x", [10, 3]);
    let two = strided(&mut b, &one, [12, 10]);
    let three = strided(&mut b, &two, [14, 12]);
    let levels = [(one, 10), (two, 12), (three, 14)];
    let lateral = levels.map(|(level, width)| b.pointwise(&level, width, 9));
    let head = [
        (b.weight(&[11, 9, 3, 3], 81), b.uniform(&[11], -0.3, 0.3)),
        (b.weight(&[13, 11, 3, 3], 99), b.uniform(&[13], -0.3, 0.3)),
        (b.weight(&[4, 13, 1, 1], 13), b.uniform(&[4], -0.3, 0.3)),
    ];
    for level in lateral {
        let mut made = level;
        for (number, (weight, bias)) in head.iter().enumerate() {
            let attributes = match number {
                2 => vec![],
                _ => vec![ints("pads", &[1, 1, 1, 1])],
            };
            made = b.node("Conv", &[&made, weight, bias], attributes);
            if number < 2 {
                made = b.node("Relu", &[&made], vec![]);
            }
        }
        b.output(&made, 4);
    }
    find(b.finish())
}

#[test]
fn a_head_on_three_levels_is_fitted_once() {
    let found = detector();
    // Three levels of the backbone, what the head reads, and what is inside it.
    let mut free = found.free();
    free.sort_unstable();
    assert_eq!(free, [9, 10, 11, 12, 13, 14], "{:?}", found.frozen());
    found.check();
    let stays = found.plan(|_, at| at % 3 == 0);
    let data = batch(&found.model, SEEN, 4);
    let models = pruned(&found, &stays, &data);
    for model in &models {
        assert_eq!(stored(model) as f64, promised(&found, &stays));
        let weights = read(model, "Conv", 1);
        assert_eq!((weights.len(), different(&weights)), (15, 9));
    }
    let [none, once, all] = models.map(|model| error(&found, &model, &data));
    assert!(once < 0.9 * none, "{none} then {once}");
    assert!(all < 0.9 * once, "{once} then {all}");
}

/// The outputs of all nodes of an operator, row by row, as ONNX Runtime makes them.
fn rows_of(model: &Model, operator: &str, data: &Batch) -> Vec<Array1<f64>> {
    let mut shown = model.clone();
    let main = shown.proto.graph.as_mut().unwrap();
    let nodes = main.node.iter().filter(|node| node.op_type() == operator);
    let outputs = nodes.map(|node| crate::builder::open(&node.output[0], 2));
    main.output = outputs.collect();
    let rows = |tensor: &Tensor| {
        let rows = tensor.to_f64().unwrap();
        let rows = rows.into_dimensionality::<ndarray::Ix2>().unwrap();
        let rows = rows.outer_iter().map(|row| row.to_owned());
        rows.collect::<Vec<_>>()
    };
    run(&shown, data).iter().flat_map(rows).collect()
}

/// The weight and, at the end, the bias that least squares fit to targets, by the normal equations.
fn least_squares(rows: &[Array1<f64>], targets: &[f64]) -> Vec<f64> {
    let count = rows[0].len() + 1;
    let mut normal = faer::Mat::<f64>::zeros(count, count);
    let mut right = faer::Mat::<f64>::zeros(count, 1);
    for (row, target) in rows.iter().zip(targets) {
        let x: Vec<f64> = row.iter().copied().chain([1.0]).collect();
        for i in 0..count {
            right[(i, 0)] += x[i] * target;
            for j in 0..count {
                normal[(i, j)] += x[i] * x[j];
            }
        }
    }
    use faer::linalg::solvers::Solve;
    let solved = normal.partial_piv_lu().solve(&right);
    solved.col_as_slice(0).to_vec()
}

/// The least squares fit of one weight to two consumers, by the normal equations of all their rows.
#[test]
fn one_fit_is_that_of_the_rows_of_all_uses() {
    let mut b = Builder::new(13);
    b.input("x", &[5]);
    b.input("y", &[5]);
    let weight = b.weight(&[4, 6], 6);
    let mut ends = Vec::new();
    for input in ["x", "y"] {
        let (own, bias) = (b.weight(&[6, 5], 5), b.uniform(&[6], -1.0, 1.0));
        let made = b.node("Gemm", &[input, &own, &bias], vec![int("transB", 1)]);
        let made = b.node("Tanh", &[&made], vec![]);
        let made = b.node("Gemm", &[&made, &weight], vec![int("transB", 1)]);
        b.output(&made, 2);
        ends.push(made);
    }
    let found = find(b.finish());
    assert_eq!(found.free(), [6], "{:?}", found.frozen());
    let stays = found.plan(|_, at| at == 2);
    const MANY: usize = 4000;
    let data = batch(&found.model, MANY, 4);
    let (graph, groups) = (&found.graph, &found.groups);
    let options = GatherOptions {
        samples: MANY,
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let batches = std::iter::once(Ok(data.clone()));
    let statistics = Statistics::gather(&found.model, graph, groups, runtime(), batches, &options);
    let repaired = repair::repair(graph, groups, &statistics.unwrap(), &stays).unwrap();
    let weight = graph.values[graph.find(&weight).unwrap()].constant.as_ref();
    let weight = weight.unwrap().to_f64().unwrap();
    let is_fitted = |&node: &NodeId| graph.nodes[node].inputs.len() == 2;
    let nodes = groups.consumers.iter().map(|consumer| consumer.node);
    let nodes: Vec<NodeId> = nodes.filter(is_fitted).collect();
    assert_eq!(nodes.len(), 2);
    // The rows that the weight sees, of both; their channel 2 leaves.
    let rows = rows_of(&found.model, "Tanh", &data);
    let kept = [0, 1, 3, 4, 5];
    let left: Vec<Array1<f64>> = rows.iter().map(|row| row.select(Axis(0), &kept)).collect();
    for output in 0..4 {
        let whole = weight.index_axis(Axis(0), output).to_owned();
        let whole = whole.into_dimensionality::<ndarray::Ix1>().unwrap();
        let targets: Vec<f64> = rows.iter().map(|row| row.dot(&whole)).collect();
        let truth = least_squares(&left, &targets);
        for &node in &nodes {
            let fitted = repaired.inputs[&(node, 1)].to_f64().unwrap();
            let bias = repaired.inputs[&(node, 2)].to_f64().unwrap();
            for at in 0..5 {
                let (ours, truth) = (fitted[[output, at]], truth[at]);
                assert!((ours - truth).abs() < 0.02, "{ours} is not {truth}");
            }
            assert!((bias[output] - truth[5]).abs() < 0.02);
        }
    }
    let [first, second] = [nodes[0], nodes[1]];
    for slot in [1, 2] {
        assert_eq!(
            repaired.inputs[&(first, slot)],
            repaired.inputs[&(second, slot)]
        );
    }
}

#[test]
fn a_block_that_is_applied_in_a_row_stays_one() {
    let mut b = Builder::new(13);
    b.input("x", &[4, 8, 8]);
    let made = b.pointwise("x", 4, 12);
    let mut made = b.node("Relu", &[&made], vec![]);
    let inner = (b.weight(&[16, 12, 1, 1], 12), b.uniform(&[16], -0.3, 0.3));
    let outer = (b.weight(&[12, 16, 1, 1], 16), b.uniform(&[12], -0.3, 0.3));
    for _ in 0..3 {
        let wide = b.node("Conv", &[&made, &inner.0, &inner.1], vec![]);
        let wide = b.node("Relu", &[&wide], vec![]);
        let narrow = b.node("Conv", &[&wide, &outer.0, &outer.1], vec![]);
        let sum = b.node("Add", &[&made, &narrow], vec![]);
        made = b.node("Relu", &[&sum], vec![]);
    }
    let made = b.pointwise(&made, 12, 5);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [12, 16], "{:?}", found.frozen());
    found.check();
    let stays = found.plan(|_, at| at % 4 == 0);
    let data = batch(&found.model, SEEN, 4);
    let models = pruned(&found, &stays, &data);
    for model in &models {
        assert_eq!(stored(model) as f64, promised(&found, &stays));
        assert_eq!(different(&read(model, "Conv", 1)), 4);
    }
    let [none, once, all] = models.map(|model| error(&found, &model, &data));
    assert!(once < none, "{none} then {once}");
    assert!(all < 1.02 * once, "{once} then {all}");
}

#[test]
fn a_table_that_is_the_last_layer_too_stays_one() {
    const WORDS: usize = 20;
    let mut b = Builder::new(13);
    b.input("x", &[7]);
    // Numbers of words from floats.
    let size = b.floats(&[], vec![5.0]);
    let numbers = b.node("Mul", &["x", &size], vec![]);
    let numbers = b.node("Abs", &[&numbers], vec![]);
    let numbers = b.node("Cast", &[&numbers], vec![int("to", INT64)]);
    let table = b.weight(&[WORDS, 12], 2);
    let made = b.node("Gather", &[&table, &numbers], vec![]);
    let weight = b.weight(&[12, 16], 12);
    let inner = b.node("MatMul", &[&made, &weight], vec![]);
    let inner = b.node("Relu", &[&inner], vec![]);
    let weight = b.weight(&[16, 12], 16);
    let inner = b.node("MatMul", &[&inner, &weight], vec![]);
    let made = b.node("Add", &[&made, &inner], vec![]);
    let turned = b.node("Transpose", &[&table], vec![ints("perm", &[1, 0])]);
    let words = b.node("MatMul", &[&made, &turned], vec![]);
    b.output(&words, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [12, 16], "{:?}", found.frozen());
    found.check();
    let stays = found.plan(|_, at| at % 3 == 0);
    let data = batch(&found.model, SEEN, 4);
    for model in pruned(&found, &stays, &data) {
        let tables = graph(&model).initializer.iter();
        let tables = tables.filter(|t| t.dims.contains(&(WORDS as i64)) && t.dims.len() == 2);
        assert_eq!(
            tables.map(|t| t.name()).collect::<Vec<_>>(),
            [table.as_str()]
        );
        let bias: i64 = graph(&model)
            .initializer
            .iter()
            .map(|t| t.dims.iter().product::<i64>())
            .sum();
        // Repair adds a bias behind each product.
        assert!(bias as f64 <= promised(&found, &stays) + 1.0 + (WORDS + 11 + 8) as f64);
    }
}

/// Two layers side by side, which read these constants in these slots.
fn side_by_side(constants: impl Fn(&mut Builder, usize) -> (String, String)) -> Found {
    let mut b = Builder::new(13);
    b.input("x", &[4, 6, 6]);
    let mut ends = Vec::new();
    for tower in 0..2 {
        let (weight, bias) = constants(&mut b, tower);
        let made = b.node("Conv", &["x", &weight, &bias], vec![]);
        let made = b.node("Tanh", &[&made], vec![]);
        ends.push(b.pointwise(&made, 8, 3));
    }
    for end in ends {
        b.output(&end, 4);
    }
    find(b.finish())
}

/// What the nodes that read the input read in a slot.
fn of_input(model: &Model, slot: usize) -> Vec<String> {
    let nodes = graph(model).node.iter().filter(|node| node.input[0] == "x");
    nodes.map(|node| node.input[slot].clone()).collect()
}

#[test]
fn equal_biases_do_not_tie_layers() {
    let shared = std::cell::RefCell::new(None);
    let found = side_by_side(|b, _| {
        let weight = b.weight(&[8, 4, 1, 1], 4);
        let bias = shared.borrow_mut();
        let mut bias = bias;
        let bias = bias
            .get_or_insert_with(|| b.uniform(&[8], -1.0, 1.0))
            .clone();
        (weight, bias)
    });
    assert_eq!(found.free(), [8, 8]);
    let stays = found.plan(|group, at| at == 1 + group || at == 5);
    let model = found.check_plan(&stays);
    assert_eq!(different(&of_input(&model, 2)), 2);
    found.check();
}

#[test]
fn weights_of_equal_slices_do_not_tie_layers() {
    // Such as zeros, or an average over all inputs: an exporter may have found them equal.
    let shared = std::cell::RefCell::new(None);
    let found = side_by_side(|b, _| {
        let mut weight = shared.borrow_mut();
        let weight = weight
            .get_or_insert_with(|| b.floats(&[8, 4, 1, 1], vec![0.25; 32]))
            .clone();
        (weight, b.uniform(&[8], -1.0, 1.0))
    });
    assert_eq!(found.free(), [8, 8]);
    let model = found.check_plan(&found.plan(|group, at| at == 1 + group || at == 5));
    // As many are left in both, so one tensor still serves them.
    assert_eq!(different(&of_input(&model, 1)), 1);
}

#[test]
fn a_weight_ties_and_its_bias_follows() {
    let shared = std::cell::RefCell::new(None);
    let found = side_by_side(|b, _| {
        let mut weight = shared.borrow_mut();
        let weight = weight
            .get_or_insert_with(|| b.weight(&[8, 4, 1, 1], 4))
            .clone();
        (weight, b.uniform(&[8], -1.0, 1.0))
    });
    assert_eq!(found.free(), [8]);
    let model = found.check();
    assert_eq!(different(&of_input(&model, 1)), 1);
    assert_eq!(different(&of_input(&model, 2)), 2);
}

#[test]
fn a_weight_that_one_layer_needs_whole_stays() {
    // On the input, whose channels never leave, and on what it made.
    let mut b = Builder::new(13);
    b.input("x", &[6, 6, 6]);
    let (weight, bias) = (b.weight(&[6, 6, 1, 1], 6), b.uniform(&[6], -1.0, 1.0));
    let made = b.node("Conv", &["x", &weight, &bias], vec![]);
    let made = b.node("Tanh", &[&made], vec![]);
    let made = b.node("Conv", &[&made, &weight, &bias], vec![]);
    let made = b.pointwise(&made, 6, 7);
    let made = b.pointwise(&made, 7, 3);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [7]);
    assert!(
        found.is_frozen_by(6, "of which it needs all"),
        "{:?}",
        found.frozen()
    );
    found.check();
}
