//! Convolutions, normalisation, pooling and element-wise layers.

use super::*;
use crate::builder::{float, int, text};
use onnx_mipp::graph::GroupId;

#[test]
fn a_residual_stream_is_one_group() {
    let mut b = Builder::new(17);
    let mut stream = stem(&mut b, 8);
    for _ in 0..2 {
        let narrow = b.pointwise(&stream, 8, 6);
        let active = b.node("Relu", &[&narrow], vec![]);
        let back = b.pointwise(&active, 6, 8);
        stream = b.node("Add", &[&stream, &back], vec![]);
    }
    let found = head(b, &stream, 8);
    assert_eq!(found.free(), [8, 6, 6]);
    let stream = &found.groups.groups[GroupId::from(0)];
    assert_eq!((stream.producers.len(), stream.consumers.len()), (3, 3));
    found.check();
}

#[test]
fn strides_dilations_and_automatic_padding_stay() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let attributes = vec![
        ints("strides", &[2, 1]),
        ints("dilations", &[1, 2]),
        ints("pads", &[1, 0, 1, 2]),
    ];
    let made = b.conv(&made, [7, 6, 3, 3], attributes);
    let attributes = vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])];
    let made = b.conv(&made, [4, 7, 2, 2], attributes);
    let found = head(b, &made, 4);
    assert_eq!(found.free(), [6, 7, 4]);
    found.check();
}

#[test]
fn a_depthwise_convolution_ties_its_outputs_to_its_inputs() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let deep = b.conv(&made, [12, 1, 3, 3], vec![int("group", 6)]);
    let found = head(b, &deep, 12);
    assert_eq!(found.free(), [6]);
    let pruned = found.check();
    let nodes = &pruned.proto.graph.as_ref().unwrap().node;
    let deep = nodes
        .iter()
        .find(|n| attribute(n, "group").is_some())
        .unwrap();
    assert_eq!(attribute(deep, "group"), Some(vec![4]));
    assert_eq!(constant_shape(&pruned, deep, 1), [8, 1, 3, 3]);
    assert_eq!(constant_shape(&pruned, deep, 2), [8]);
}

#[test]
fn a_depthwise_convolution_may_be_left_with_one_channel() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 4);
    let deep = b.conv(&made, [4, 1, 3, 3], vec![int("group", 4)]);
    let found = head(b, &deep, 4);
    found.check_plan(&found.plan(|_, at| at > 0));
}

#[test]
fn a_grouped_convolution_ties_the_same_place_of_every_group() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let made = b.conv(&made, [6, 4, 3, 3], vec![int("group", 2)]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [4, 3]);
    let pruned = found.check();
    let nodes = &pruned.proto.graph.as_ref().unwrap().node;
    let node = nodes
        .iter()
        .find(|n| attribute(n, "group").is_some())
        .unwrap();
    assert_eq!(attribute(node, "group"), Some(vec![2]));
    assert_eq!(constant_shape(&pruned, node, 1), [4, 2, 3, 3]);
}

#[test]
fn a_grouped_convolution_may_read_the_input() {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let made = b.conv("x", [8, 2, 3, 3], vec![int("group", 2)]);
    let deep = b.conv("x", [8, 1, 3, 3], vec![int("group", 4)]);
    let made = b.node("Concat", &[&made, &deep], vec![int("axis", 1)]);
    let found = head(b, &made, 16);
    assert_eq!(found.free(), [4]);
    found.check();
}

fn transposed(shape: [usize; 4], group: usize, outputs: usize) -> Found {
    let mut b = Builder::new(17);
    let made = stem(&mut b, shape[0]);
    let weight = b.weight(&shape, shape[0] / group);
    let bias = b.uniform(&[outputs], -0.5, 0.5);
    let attributes = vec![
        ints("strides", &[2, 2]),
        int("group", group as i64),
        ints("output_padding", &[1, 0]),
    ];
    let made = b.node("ConvTranspose", &[&made, &weight, &bias], attributes);
    head(b, &made, outputs)
}

#[test]
fn a_transposed_convolution_reads_and_makes_channels() {
    let found = transposed([6, 7, 3, 3], 1, 7);
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn a_grouped_transposed_convolution_ties_its_groups() {
    let found = transposed([6, 4, 3, 3], 2, 8);
    assert_eq!(found.free(), [3, 4]);
    let pruned = found.check();
    let node = only(&pruned, "ConvTranspose");
    assert_eq!(attribute(node, "group"), Some(vec![2]));
    assert_eq!(constant_shape(&pruned, node, 1), [4, 2, 3, 3]);
}

#[test]
fn a_depthwise_transposed_convolution_ties_outputs_to_inputs() {
    let found = transposed([6, 2, 3, 3], 6, 12);
    assert_eq!(found.free(), [6]);
    let pruned = found.check();
    let node = only(&pruned, "ConvTranspose");
    assert_eq!(attribute(node, "group"), Some(vec![4]));
    assert_eq!(constant_shape(&pruned, node, 1), [4, 2, 3, 3]);
}

#[test]
fn a_convolution_over_one_axis_works_alike() {
    let mut b = Builder::new(17);
    b.input("x", &[3, 12]);
    let weight = b.weight(&[6, 3, 3], 9);
    let made = b.node("Conv", &["x", &weight], vec![ints("strides", &[2])]);
    let weight = b.weight(&[5, 6, 2], 12);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn convolutions_over_three_axes_work_alike() {
    let mut b = Builder::new(17);
    b.input("x", &[3, 5, 6, 4]);
    let weight = b.weight(&[6, 3, 3, 2, 1], 18);
    let attributes = vec![
        ints("strides", &[1, 2, 1]),
        ints("pads", &[1, 0, 0, 1, 0, 0]),
    ];
    let made = b.node("Conv", &["x", &weight], attributes);
    let made = b.node("MaxPool", &[&made], vec![ints("kernel_shape", &[1, 1, 2])]);
    let weight = b.weight(&[6, 7, 1, 2, 2], 24);
    let made = b.node("ConvTranspose", &[&made, &weight], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    let weight = b.weight(&[5, 7, 1, 1, 1], 7);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    b.output(&made, 5);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn normalisation_per_channel_is_cut_with_its_channels() {
    for (op, slots) in [("BatchNormalization", 4), ("InstanceNormalization", 2)] {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 7);
        let parameters: Vec<String> = (0..slots).map(|_| b.uniform(&[7], 0.5, 1.5)).collect();
        let mut inputs = vec![made.as_str()];
        inputs.extend(parameters.iter().map(String::as_str));
        let made = b.node(op, &inputs, vec![float("epsilon", 1e-3)]);
        let found = head(b, &made, 7);
        assert_eq!(found.free(), [7], "{op}");
        let pruned = found.check();
        for slot in 1..=slots {
            assert_eq!(constant_shape(&pruned, only(&pruned, op), slot), [4]);
        }
    }
}

#[test]
fn parameters_that_are_one_tensor_are_cut_once() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 7);
    let one = b.uniform(&[7], 0.5, 1.5);
    let inputs = [made.as_str(), &one, &one, &one, &one];
    let made = b.node("BatchNormalization", &inputs, vec![]);
    let found = head(b, &made, 7);
    let pruned = found.check();
    assert_eq!(only(&pruned, "BatchNormalization").input[4], one);
}

#[test]
fn pooling_and_reduction_over_space_keep_channels() {
    for (op, attributes) in [
        ("MaxPool", vec![ints("kernel_shape", &[2, 2])]),
        ("AveragePool", vec![ints("kernel_shape", &[3, 3])]),
        ("GlobalMaxPool", vec![]),
        ("GlobalAveragePool", vec![]),
        ("ReduceMean", vec![ints("axes", &[2, -1])]),
        ("ReduceMax", vec![ints("axes", &[-1])]),
    ] {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 6);
        let made = b.node(op, &[&made], attributes);
        let found = head(b, &made, 6);
        assert_eq!(found.free(), [6], "{op}");
        found.check();
    }
}

#[test]
fn reduction_may_drop_axes_and_take_them_from_an_input() {
    let mut b = Builder::new(18);
    let made = stem(&mut b, 6);
    let axes = b.ints(&[2, 3]);
    let mean = b.node("ReduceMean", &[&made, &axes], vec![int("keepdims", 0)]);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("MatMul", &[&mean, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn a_gate_ties_its_channels_to_those_it_scales() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let mean = b.node("GlobalAveragePool", &[&made], vec![]);
    let squeezed = b.pointwise(&mean, 8, 3);
    let squeezed = b.node("Relu", &[&squeezed], vec![]);
    let gate = b.pointwise(&squeezed, 3, 8);
    let gate = b.node("Sigmoid", &[&gate], vec![]);
    let made = b.node("Mul", &[&made, &gate], vec![]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [8, 3]);
    assert_eq!(found.groups.groups[GroupId::from(0)].producers.len(), 2);
    found.check();
}

#[test]
fn a_gate_of_one_channel_is_repeated_over_all() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let attention = b.pointwise(&made, 8, 1);
    let gate = b.node("Sigmoid", &[&attention], vec![]);
    let made = b.node("Mul", &[&made, &gate], vec![]);
    let found = head(b, &made, 8);
    assert!(found.free().contains(&8), "{:?}", found.free());
    found.check();
}

#[test]
fn constants_beside_channels_are_cut_and_scalars_are_not() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let slope = b.uniform(&[6, 1, 1], 0.1, 0.4);
    let made = b.node("PRelu", &[&made, &slope], vec![]);
    let (low, high) = (b.floats(&[], vec![-1.0]), b.floats(&[], vec![2.0]));
    let made = b.node("Clip", &[&made, &low, &high], vec![]);
    let scale = b.uniform(&[1, 6, 1, 1], 0.5, 2.0);
    let made = b.node("Mul", &[&scale, &made], vec![]);
    let shift = b.uniform(&[6, 6], -1.0, 1.0);
    let made = b.node("Add", &[&made, &shift], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    let pruned = found.check();
    assert_eq!(
        constant_shape(&pruned, only(&pruned, "PRelu"), 1),
        [4, 1, 1]
    );
    let scale = constant_shape(&pruned, only(&pruned, "Mul"), 0);
    assert_eq!(scale, [1, 4, 1, 1]);
    // It lies over space, which has as many positions as there are channels.
    assert_eq!(constant_shape(&pruned, only(&pruned, "Add"), 1), [6, 6]);
}
