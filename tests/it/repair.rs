//! Repair against a truth that needs no statistics: channels that are exact combinations of others
//! can leave without a change, whatever the input, if their readers are repaired.

use onnx_mipp::repair;
use std::ops::RangeInclusive;

use crate::builder::{Builder, float, int, ints};
use crate::masked::{Found, batch, distance, find, run, runtime};
use onnx_mipp::data::Batch;
use onnx_mipp::onnx::proto::AttributeProto;
use onnx_mipp::onnx::{Model, Tensor};
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::{ops, surgery};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f64 = 1e-4;
/// Channels, height and width of the input.
const INPUT: [usize; 3] = [8, 14, 14];
/// Channels of one block of the layer under test, and the one that is a combination of the others.
const BLOCK: usize = 4;
const REDUNDANT: usize = 1;

/// `blocks` times four channels, of which one is a combination of the three others of its block,
/// other in each block, plus `offset`.
fn redundant(b: &mut Builder, blocks: usize, offset: f32) -> String {
    b.input("x", &INPUT);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut numbers = |count| -> Vec<f32> {
        let numbers = (0..count).map(|_| random.random_range(-1.0..1.0));
        numbers.collect()
    };
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        let mut rows: Vec<Vec<f32>> = (0..BLOCK).map(|_| numbers(INPUT[0] + 1)).collect();
        let shares = numbers(BLOCK);
        let combined = |column: usize| {
            let others = (0..BLOCK).filter(|&row| row != REDUNDANT);
            others.map(|row| shares[row] * rows[row][column]).sum()
        };
        rows[REDUNDANT] = (0..=INPUT[0]).map(combined).collect();
        rows[REDUNDANT][INPUT[0]] += offset;
        for mut row in rows {
            bias.extend(row.pop());
            weight.extend(row);
        }
    }
    let weight = b.floats(&[blocks * BLOCK, INPUT[0], 1, 1], weight);
    let bias = b.floats(&[blocks * BLOCK], bias);
    b.node("Conv", &["x", &weight, &bias], vec![])
}

/// A model whose redundant channels one layer reads: `op` with a weight of that shape.
fn model(
    op: &str,
    blocks: usize,
    shape: &[usize],
    offset: f32,
    attributes: Vec<AttributeProto>,
) -> Found {
    let mut b = Builder::new(17);
    let read = redundant(&mut b, blocks, offset);
    let weight = b.weight(shape, BLOCK);
    let mut attributes = attributes;
    attributes.push(int("group", blocks as i64));
    let made = b.node(op, &[&read, &weight], attributes);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [BLOCK], "{:?}", found.frozen());
    found
}

/// Two samples that are the same: their statistics do not scatter, so nothing is shrunk.
fn twins(model: &Model) -> Batch {
    let twice = |(name, tensor): (String, Tensor)| {
        let values = tensor.to_f32().unwrap();
        let shape = [&[2], &tensor.shape[1..]].concat();
        let values = values.iter().chain(&values).copied().collect();
        (name, Tensor::from_f32(&shape, values).unwrap())
    };
    batch(model, 1, 11).into_iter().map(twice).collect()
}

/// The model without its redundant channels, repaired from the statistics of `data`.
fn repaired(found: &Found, data: &Batch) -> Model {
    let options = GatherOptions {
        samples: 2,
        seed: 1,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let (graph, groups) = (&found.graph, &found.groups);
    let batches = std::iter::once(Ok(data.clone()));
    let statistics = Statistics::gather(&found.model, graph, groups, runtime(), batches, &options);
    let stays = found.plan(|_, at| at == REDUNDANT);
    let repaired = repair::repair(graph, groups, &statistics.unwrap(), &stays).unwrap();
    surgery::prune(&found.model, graph, groups, &stays, &repaired).unwrap()
}

/// The repaired model must be the dense one on data that it never saw; the unrepaired must not.
fn is_exact(found: &Found) {
    let pruned = repaired(found, &twins(&found.model));
    let unseen = batch(&found.model, 3, 12);
    let dense = run(&found.model, &unseen);
    let error = distance(&dense, &run(&pruned, &unseen));
    assert!(error <= TOLERANCE, "repaired differs by {error:e}");
    let stays = found.plan(|_, at| at == REDUNDANT);
    let cut = surgery::prune(
        &found.model,
        &found.graph,
        &found.groups,
        &stays,
        &Default::default(),
    );
    let without = distance(&dense, &run(&cut.unwrap(), &unseen));
    assert!(
        without > 100.0 * TOLERANCE,
        "nothing to repair: {without:e}"
    );
}

#[test]
fn a_convolution_is_repaired_with_its_offset() {
    is_exact(&model("Conv", 1, &[5, 4, 3, 3], 0.7, vec![]));
}

#[test]
fn every_group_of_a_convolution_is_repaired_from_its_own_inputs() {
    let strides = vec![ints("strides", &[2, 1])];
    is_exact(&model("Conv", 2, &[6, 4, 3, 3], 0.7, strides));
    // Zeros of the padding fit a combination without offset. With fewer outputs than groups, whole
    // groups would leave instead.
    let padded = vec![ints("pads", &[1, 0, 1, 2])];
    is_exact(&model("Conv", 3, &[12, 4, 3, 3], 0.0, padded));
}

#[test]
fn a_transposed_convolution_is_repaired_at_every_position() {
    let attributes = || vec![ints("strides", &[2, 2]), ints("pads", &[1, 0, 0, 1])];
    is_exact(&model("ConvTranspose", 1, &[4, 5, 3, 2], 0.0, attributes()));
    is_exact(&model("ConvTranspose", 2, &[8, 3, 3, 2], 0.0, attributes()));
    // With one tap each input reaches one output, and an offset too is repaired everywhere.
    is_exact(&model("ConvTranspose", 2, &[8, 3, 1, 1], 0.7, vec![]));
}

/// Where every tap reads is another place in each run, but what holds between channels holds at
/// each. An offset that all places had would be missing where a tap reads beside the image.
#[test]
fn a_deformable_convolution_is_repaired_at_every_place() {
    let mut b = Builder::new(19);
    let read = redundant(&mut b, 1, 0.0);
    let offset = b.conv(&read, [18, 4, 3, 3], vec![]);
    let weight = b.weight(&[5, BLOCK, 3, 3], BLOCK);
    let attributes = vec![ints("kernel_shape", &[3, 3])];
    let made = b.node("DeformConv", &[&read, &weight, &offset], attributes);
    b.output(&made, 4);
    is_exact(&find(b.finish()));
}

/// Each matrix of a stack fits its own part of the data, or all the same.
#[test]
fn a_stack_of_matrices_is_repaired_matrix_by_matrix() {
    for own in [true, false] {
        let mut b = Builder::new(17);
        b.input("x", &[6, INPUT[0]]);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let stacks = if own { 3 } else { 1 };
        let rows = INPUT[0];
        let mut up = vec![0.0f32; stacks * rows * BLOCK];
        let mut bias = vec![0.0f32; stacks * BLOCK];
        for stack in 0..stacks {
            let shares: Vec<f32> = (0..BLOCK).map(|_| random.random_range(-1.0..1.0)).collect();
            for row in 0..=rows {
                let mut all: Vec<f32> =
                    (0..BLOCK).map(|_| random.random_range(-1.0..1.0)).collect();
                let others = (0..BLOCK).filter(|&at| at != REDUNDANT);
                all[REDUNDANT] = others.map(|at| shares[at] * all[at]).sum();
                for (at, value) in all.into_iter().enumerate() {
                    if row < rows {
                        up[(stack * rows + row) * BLOCK + at] = value
                    } else {
                        bias[stack * BLOCK + at] = value + f32::from(at == REDUNDANT)
                    }
                }
            }
        }
        let up = b.floats(&[stacks, rows, BLOCK], up);
        let bias = b.floats(&[stacks, 1, BLOCK], bias);
        let axis = b.ints(&[1]);
        let made = b.node("Unsqueeze", &["x", &axis], vec![]);
        let made = b.node("MatMul", &[&made, &up], vec![]);
        let made = b.node("Add", &[&made, &bias], vec![]);
        let down = b.weight(&[3, BLOCK, 5], BLOCK);
        let made = b.node("MatMul", &[&made, &down], vec![]);
        b.output(&made, 4);
        is_exact(&find(b.finish()));
    }
}

/// Where taps overlap or fall outside, an offset reaches each output another number of times; the
/// bias takes its mean over the outputs.
#[test]
fn the_bias_of_a_transposed_convolution_takes_the_mean_shift() {
    let cases = [
        vec![ints("strides", &[2, 2])],
        vec![ints("pads", &[2, 1, 1, 2])],
        vec![ints("strides", &[3, 2]), ints("output_padding", &[2, 1])],
        vec![ints("dilations", &[2, 3]), ints("pads", &[4, 3, 0, 1])],
        vec![
            ints("strides", &[2, 2]),
            ints("output_shape", &[25, 26]),
            crate::builder::text("auto_pad", "SAME_UPPER"),
        ],
        vec![ints("strides", &[2, 2]), ints("output_shape", &[25, 26])],
    ];
    for (number, attributes) in cases.into_iter().enumerate() {
        let found = model("ConvTranspose", 2, &[8, 3, 4, 3], 0.9, attributes);
        let data = twins(&found.model);
        let pruned = repaired(&found, &data);
        let (dense, ours) = (run(&found.model, &data), run(&pruned, &data));
        let means = |tensors: &[Tensor]| -> Vec<f64> {
            let values = tensors[0].to_f64().unwrap();
            let one = values.index_axis(ndarray::Axis(0), 0);
            let channels = one.outer_iter();
            channels.map(|channel| channel.mean().unwrap()).collect()
        };
        for (channel, (dense, ours)) in means(&dense).into_iter().zip(means(&ours)).enumerate() {
            assert!(
                (dense - ours).abs() <= TOLERANCE,
                "case {number}, channel {channel}: mean {dense} before, {ours} after"
            );
        }
    }
}

/// The interval that the last node of a model passes, after ONNX Runtime confirmed it.
fn passes(b: Builder, made: &str) -> Option<RangeInclusive<f64>> {
    let mut b = b;
    b.output(made, 4);
    let found = find(b.finish());
    let node = found.graph.nodes.ids().next_back()?;
    let interval = ops::of(&found.graph.nodes[node]).passes(found.graph.view(node))?;
    // Far enough to meet both ends.
    let wide = |(name, tensor): (String, Tensor)| {
        let values = tensor.to_f32().unwrap().iter().map(|x| 5.0 * x).collect();
        (name, Tensor::from_f32(&tensor.shape, values).unwrap())
    };
    let data: Batch = batch(&found.model, 2, 3).into_iter().map(wide).collect();
    let given = data[0].1.to_f32().unwrap().to_owned();
    let outputs = run(&found.model, &data);
    let output = outputs[0].to_f32().unwrap();
    for (x, y) in given.iter().zip(output.iter()) {
        let clamped = f64::from(*x).clamp(*interval.start(), *interval.end());
        assert!((clamped - f64::from(*y)).abs() < 1e-6, "{x} became {y}");
    }
    Some(interval)
}

#[test]
fn rectifiers_pass_what_onnx_runtime_passes() {
    let start = |opset| {
        let mut b = Builder::new(opset);
        b.input("x", &INPUT);
        b
    };
    let mut relu = start(17);
    let made = relu.node("Relu", &["x"], vec![]);
    assert_eq!(passes(relu, &made), Some(0.0..=f64::INFINITY));

    let mut old = start(10);
    let made = old.node("Clip", &["x"], vec![float("min", -0.5), float("max", 2.0)]);
    assert_eq!(passes(old, &made), Some(-0.5..=2.0));

    let mut new = start(17);
    let (low, high) = (new.floats(&[], vec![0.0]), new.floats(&[], vec![6.0]));
    let made = new.node("Clip", &["x", &low, &high], vec![]);
    assert_eq!(passes(new, &made), Some(0.0..=6.0));

    let mut open = start(17);
    let high = open.floats(&[], vec![1.0]);
    let made = open.node("Clip", &["x", "", &high], vec![]);
    assert_eq!(passes(open, &made), Some(f64::from(f32::MIN)..=1.0));

    for op in ["LeakyRelu", "HardSwish", "Sigmoid", "Abs"] {
        let mut other = start(17);
        let made = other.node(op, &["x"], vec![]);
        assert_eq!(passes(other, &made), None, "{op}");
    }
    let mut computed = start(17);
    let low = computed.node("ReduceMin", &["x"], vec![int("keepdims", 0)]);
    let made = computed.node("Clip", &["x", &low], vec![]);
    assert_eq!(passes(computed, &made), None);
}

/// Initializers, and nodes of the operator.
fn count(model: &Model, op: &str) -> [usize; 2] {
    let main = model.proto.graph.as_ref().unwrap();
    let nodes = main.node.iter().filter(|node| node.op_type() == op);
    [main.initializer.len(), nodes.count()]
}

/// A reader of redundant channels without a bias, and behind it what adds a constant anyway.
fn followed(behind: impl Fn(&mut Builder, &str) -> String) -> Found {
    let mut b = Builder::new(17);
    let read = redundant(&mut b, 1, 0.7);
    let weight = b.weight(&[5, 4, 1, 1], BLOCK);
    let made = b.node("Conv", &[&read, &weight], vec![]);
    let made = behind(&mut b, &made);
    let made = b.node("Relu", &[&made], vec![]);
    b.output(&made, 4);
    find(b.finish())
}

#[test]
fn a_new_bias_goes_into_what_is_added_behind() {
    let norm = |b: &mut Builder, made: &str| {
        let [scale, shift, mean] =
            [(0.5, 1.5), (-1.0, 1.0), (-1.0, 1.0)].map(|(low, high)| b.uniform(&[5], low, high));
        let variance = b.uniform(&[5], 0.5, 1.5);
        b.node(
            "BatchNormalization",
            &[made, &scale, &shift, &mean, &variance],
            vec![],
        )
    };
    let sum = |b: &mut Builder, made: &str| {
        let added = b.uniform(&[5, 1, 1], -1.0, 1.0);
        b.node("Add", &[&added, made], vec![])
    };
    let from_constant = |b: &mut Builder, made: &str| {
        let whole = b.uniform(&[1, 5, 1, 1], -1.0, 1.0);
        b.node("Sub", &[&whole, made], vec![])
    };
    for found in [followed(norm), followed(sum), followed(from_constant)] {
        is_exact(&found);
        let pruned = repaired(&found, &twins(&found.model));
        assert_eq!(count(&pruned, "Add"), count(&found.model, "Add"));
    }
}

#[test]
fn a_new_bias_stays_where_what_is_behind_cannot_take_it() {
    // One number for all channels, and two readers.
    let number = |b: &mut Builder, made: &str| {
        let added = b.uniform(&[1], -1.0, 1.0);
        b.node("Add", &[made, &added], vec![])
    };
    let twice = |b: &mut Builder, made: &str| {
        let added = b.uniform(&[5, 1, 1], -1.0, 1.0);
        let sum = b.node("Add", &[made, &added], vec![]);
        b.node("Mul", &[&sum, made], vec![])
    };
    for found in [followed(number), followed(twice)] {
        is_exact(&found);
        let pruned = repaired(&found, &twins(&found.model));
        assert_eq!(count(&pruned, "Add")[0], count(&found.model, "Add")[0] + 1);
    }
}
