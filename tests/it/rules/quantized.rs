//! Weights in few bits: integers with scales, and floats of 16 bits.

use super::*;
use crate::builder::int;
use onnx_mipp::onnx::{DataType, Tensor};
use onnx_mipp::surgery::{self, Repaired};

const FLOAT16: i64 = 10;
const BFLOAT16: i64 = 16;

fn integers(b: &mut Builder, dtype: DataType, shape: &[usize], values: &[i64]) -> String {
    let size = dtype.size().unwrap();
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec());
    let tensor = Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.collect::<Vec<u8>>().into(),
    };
    b.store(&tensor)
}

/// Numbers that look like chance, of at most `limit`.
fn spread(count: usize, limit: i64) -> Vec<i64> {
    let number = |at: usize| (at as i64 * 7919 + 31) % 1009 * (2 * limit + 1) / 1009 - limit;
    (0..count).map(number).collect()
}

/// `input` through a quantiser of activations and back.
fn rounded(b: &mut Builder, input: &str) -> String {
    let scale = b.floats(&[], vec![1.0 / 32.0]);
    let zero = integers(b, DataType::Uint8, &[], &[128]);
    let made = b.node("QuantizeLinear", &[input, &scale, &zero], vec![]);
    b.node("DequantizeLinear", &[&made, &scale, &zero], vec![])
}

/// A convolution with weights of 7 bits, one scale for each output or one for all.
fn quantised_conv(b: &mut Builder, input: &str, [out, inputs]: [usize; 2], many: bool) -> String {
    let count = if many { out } else { 1 };
    let shape: &[usize] = if many { &[out] } else { &[] };
    let scales: Vec<f32> = (0..count).map(|i| (1.0 + i as f32 / 8.0) / 128.0).collect();
    let biased = scales.iter().map(|s| s / 32.0).collect();
    let numbers = integers(
        b,
        DataType::Int8,
        &[out, inputs, 3, 3],
        &spread(out * inputs * 9, 63),
    );
    let (scale, bias_scale) = (b.floats(shape, scales), b.floats(shape, biased));
    let zero = integers(b, DataType::Int8, shape, &vec![0; count]);
    let weight = b.node(
        "DequantizeLinear",
        &[&numbers, &scale, &zero],
        vec![int("axis", 0)],
    );
    let bias = integers(b, DataType::Int32, &[out], &spread(out, 900));
    let bias = b.node(
        "DequantizeLinear",
        &[&bias, &bias_scale],
        vec![int("axis", 0)],
    );
    let attributes = vec![ints("pads", &[1, 1, 1, 1])];
    b.node("Conv", &[input, &weight, &bias], attributes)
}

fn quantised(many: bool) -> Found {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let mut made = rounded(&mut b, "x");
    for [out, inputs] in [[8, 4], [7, 8]] {
        let conv = quantised_conv(&mut b, &made, [out, inputs], many);
        let active = b.node("Relu", &[&conv], vec![]);
        made = rounded(&mut b, &active);
    }
    head(b, &made, 7)
}

fn stored<'a>(model: &'a Model, name: &str) -> Option<&'a onnx_mipp::onnx::proto::TensorProto> {
    let stored = &model.proto.graph.as_ref().unwrap().initializer;
    stored.iter().find(|t| t.name() == name)
}

/// The nodes that unpack what a convolution reads in a slot.
fn unpacking(model: &Model, conv: usize, slot: usize) -> &NodeProto {
    let nodes = &model.proto.graph.as_ref().unwrap().node;
    let convs: Vec<&NodeProto> = nodes.iter().filter(|n| n.op_type() == "Conv").collect();
    let name = &convs[conv].input[slot];
    nodes.iter().find(|n| n.output.contains(name)).unwrap()
}

#[test]
fn quantised_weights_are_cut_with_their_scales() {
    for many in [true, false] {
        let found = quantised(many);
        assert_eq!(found.free(), [8, 7], "{:?}", found.frozen());
        let pruned = found.check();
        for (slot, dtype, shape) in [
            (1, DataType::Int8, vec![5, 4, 3, 3]),
            (2, DataType::Int32, vec![5]),
        ] {
            let node = unpacking(&pruned, 0, slot);
            assert_eq!(node.op_type(), "DequantizeLinear");
            let data = Tensor::from_proto(stored(&pruned, &node.input[0]).unwrap()).unwrap();
            assert_eq!(data.dtype, dtype);
            let shape = if slot == 1 { vec![5, 4, 3, 3] } else { shape };
            assert_eq!(data.shape, shape);
            let scales = stored(&pruned, &node.input[1]).unwrap();
            assert_eq!(scales.dims, if many { vec![5] } else { vec![] });
        }
    }
}

#[test]
fn repaired_weights_get_new_scales_and_their_biases_too() {
    for many in [true, false] {
        let found = quantised(many);
        let convs = found.graph.nodes.entries();
        let mut convs = convs.filter(|(_, node)| node.op_type == "Conv");
        let (first, _) = convs.next().unwrap();
        let view = found.graph.view(first);
        let moved = |slot: usize| {
            let values = view.constant(slot).unwrap().to_f64().unwrap();
            Tensor::from_f64(DataType::Float, &values.mapv(|v| v * 3.1)).unwrap()
        };
        let mut repaired = Repaired::default();
        for slot in [1, 2] {
            repaired.inputs.insert((first, slot), moved(slot));
        }
        let stays = vec![true; found.groups.channel_count];
        let model = surgery::prune(&found.model, &found.graph, &found.groups, &stays, &repaired);
        let model = model.unwrap();
        let parts = |slot: usize| {
            let node = unpacking(&model, 0, slot);
            let part = |at: usize| Tensor::from_proto(stored(&model, &node.input[at]).unwrap());
            [0, 1].map(|at| part(at).unwrap().to_f64().unwrap())
        };
        let [data, scales] = parts(1);
        // As many bits as before, all of them used.
        assert_eq!(data.iter().fold(0.0, |m: f64, q| m.max(q.abs())), 63.0);
        let wanted = repaired.inputs[&(first, 1)].to_f64().unwrap();
        for (at, (q, w)) in data.iter().zip(&wanted).enumerate() {
            let scale = scales.iter().nth(if many { at / 36 } else { 0 }).unwrap();
            assert!((q * scale - w).abs() <= 0.501 * scale);
        }
        let [_, of_bias] = parts(2);
        for (weight, bias) in scales.iter().zip(&of_bias) {
            assert!((bias - weight / 32.0).abs() < 1e-6 * bias);
        }
        crate::masked::run(&model, &crate::masked::batch(&model, 2, 1));
    }
}

/// Whole numbers all the way, so that 16 bits round nothing.
fn half(b: &mut Builder, to: i64) -> Found {
    let dtype = DataType::from_code(to as i32);
    let numbers = |b: &mut Builder, shape: &[usize]| {
        let values = spread(shape.iter().product(), 2);
        let values = values.iter().map(|&v| v as f64).collect();
        let values = ndarray::ArrayD::from_shape_vec(shape, values).unwrap();
        b.store(&Tensor::from_f64(dtype, &values).unwrap())
    };
    b.input("x", &[4, 6, 6]);
    let eight = b.floats(&[], vec![2.0]);
    let made = b.node("Mul", &["x", &eight], vec![]);
    let mut made = b.node("Floor", &[&made], vec![]);
    let computes = to == FLOAT16;
    if computes {
        made = b.node("Cast", &[&made], vec![int("to", to)]);
    }
    for [out, inputs] in [[6, 4], [5, 6]] {
        let mut weight = numbers(b, &[out, inputs, 1, 1]);
        if !computes {
            weight = b.node("Cast", &[&weight], vec![int("to", 1)]);
        }
        made = b.node("Conv", &[&made, &weight], vec![]);
        made = b.node("Relu", &[&made], vec![]);
    }
    if computes {
        made = b.node("Cast", &[&made], vec![int("to", 1)]);
    }
    b.output(&made, 4);
    let b = std::mem::replace(b, Builder::new(17));
    find(b.finish())
}

#[test]
fn models_of_16_bits_are_cut() {
    let found = half(&mut Builder::new(17), FLOAT16);
    assert_eq!(found.free(), [6], "{:?}", found.frozen());
    let pruned = found.check();
    let weights = &pruned.proto.graph.as_ref().unwrap().initializer;
    let halves = weights
        .iter()
        .filter(|t| i64::from(t.data_type()) == FLOAT16);
    assert_eq!(halves.count(), 2);
}

#[test]
fn weights_stored_in_16_bits_stay_so() {
    let found = half(&mut Builder::new(17), BFLOAT16);
    assert_eq!(found.free(), [6], "{:?}", found.frozen());
    let pruned = found.check();
    let weights = &pruned.proto.graph.as_ref().unwrap().initializer;
    let halves = weights
        .iter()
        .filter(|t| i64::from(t.data_type()) == BFLOAT16);
    assert_eq!(halves.count(), 2);
}

/// Real numbers as integers that span them, with their scale and zero point.
fn spanned(b: &mut Builder, input: &str) -> [String; 3] {
    let made = b.node("DynamicQuantizeLinear", &[input], vec![]);
    let [scale, zero] = ["scale", "zero"].map(|part| format!("{made}/{part}"));
    let node = b.graph.node.last_mut().unwrap();
    node.output.extend([scale.clone(), zero.clone()]);
    [made, scale, zero]
}

/// Sums of integers as real numbers.
fn scaled(b: &mut Builder, sums: &str, scale: &str, own: f32) -> String {
    let own = b.floats(&[], vec![own]);
    let scale = b.node("Mul", &[scale, &own], vec![]);
    let sums = b.node("Cast", &[sums], vec![int("to", 1)]);
    b.node("Mul", &[&sums, &scale], vec![])
}

/// A convolution as onnxruntime's dynamic quantisation writes it: the bias is quantised with the
/// scale of the data, and added as an integer.
fn dynamic_conv(b: &mut Builder, input: &str, [out, inputs]: [usize; 2]) -> String {
    const TO_INT32: i64 = 6;
    let [data, scale, zero] = spanned(b, input);
    let shape = [out, inputs, 3, 3];
    let numbers: Vec<i64> = spread(out * inputs * 9, 60)
        .iter()
        .map(|n| n + 117)
        .collect();
    let weight = integers(b, DataType::Uint8, &shape, &numbers);
    let weight_zero = integers(b, DataType::Uint8, &[], &[117]);
    let made = b.node(
        "ConvInteger",
        &[&data, &weight, &zero, &weight_zero],
        vec![ints("pads", &[1, 1, 1, 1])],
    );
    let own = b.floats(&[], vec![1.0 / 96.0]);
    let both = b.node("Mul", &[&scale, &own], vec![]);
    let bias = b.uniform(&[out], -1.0, 1.0);
    let bias = b.node("Div", &[&bias, &both], vec![]);
    let bias = b.node("Floor", &[&bias], vec![]);
    let bias = b.node("Cast", &[&bias], vec![int("to", TO_INT32)]);
    let target = b.ints(&[1, out as i64, 1, 1]);
    let bias = b.node("Reshape", &[&bias, &target], vec![]);
    let made = b.node("Add", &[&made, &bias], vec![]);
    scaled(b, &made, &scale, 1.0 / 96.0)
}

#[test]
fn dynamically_quantised_models_are_cut() {
    let mut b = Builder::new(12);
    let made = stem(&mut b, 6);
    let made = dynamic_conv(&mut b, &made, [8, 6]);
    let made = b.node("Relu", &[&made], vec![]);
    let made = pooled(&mut b, &made);
    // A zero point for each column.
    let [data, scale, zero] = spanned(&mut b, &made);
    let weight = integers(&mut b, DataType::Int8, &[8, 7], &spread(56, 90));
    let zeros = integers(&mut b, DataType::Int8, &[7], &spread(7, 5));
    let made = b.node("MatMulInteger", &[&data, &weight, &zero, &zeros], vec![]);
    let made = scaled(&mut b, &made, &scale, 1.0 / 128.0);
    let made = b.node("Relu", &[&made], vec![]);
    let [data, scale, zero] = spanned(&mut b, &made);
    let weight = integers(
        &mut b,
        DataType::Uint8,
        &[7, 5],
        &spread(35, 60).iter().map(|n| n + 60).collect::<Vec<_>>(),
    );
    let made = b.node("MatMulInteger", &[&data, &weight, &zero], vec![]);
    let made = scaled(&mut b, &made, &scale, 1.0 / 128.0);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 8, 7]);
    found.check();
}

#[test]
fn integers_that_no_quantiser_makes_freeze() {
    let mut b = Builder::new(12);
    let made = stem(&mut b, 6);
    let [data, scale, zero] = spanned(&mut b, &made);
    let data = b.node("MaxPool", &[&data], vec![ints("kernel_shape", &[2, 2])]);
    let weight = integers(
        &mut b,
        DataType::Uint8,
        &[5, 6, 1, 1],
        &spread(30, 60).iter().map(|n| n + 60).collect::<Vec<_>>(),
    );
    let made = b.node("ConvInteger", &[&data, &weight, &zero], vec![]);
    let made = scaled(&mut b, &made, &scale, 1.0 / 96.0);
    b.output(&made, 4);
    assert!(find(b.finish()).is_frozen_by(6, "no quantiser makes"));
}
