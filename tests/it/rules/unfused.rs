//! What ONNX Runtime fused, or a quantiser wrote on integers, is taken apart and pruned as what it
//! was.

use super::*;
use crate::builder::{float, floats, int, text};
use crate::masked::{batch, distance, run};
use crate::program;
use onnx_mipp::onnx::proto::{AttributeProto, ModelProto};
use onnx_mipp::onnx::{DataType, Tensor, decode};
use onnx_mipp::ops;

const MICROSOFT: &str = "com.microsoft";

/// The model taken apart, which must give what ONNX Runtime's own kernels give, up to `tolerance`.
fn apart(proto: ModelProto, tolerance: f64, names: &[&str]) -> Found {
    let bytes = Model { proto }.encode().unwrap();
    let original = decode(bytes.into(), None).unwrap();
    let (model, found) = ops::unfused(original.clone());
    assert_eq!(found, names);
    model.check().unwrap();
    let data = batch(&original, 3, 5);
    let error = distance(&run(&original, &data), &run(&model, &data));
    assert!(error <= tolerance, "differs by {error:e}");
    find(model.proto)
}

fn fused_conv(
    b: &mut Builder,
    inputs: &[&str],
    [out, channels]: [usize; 2],
    activation: &str,
    params: &[f32],
) -> String {
    let weight = b.weight(&[out, channels, 3, 3], 9 * channels);
    let bias = b.uniform(&[out], -0.3, 0.3);
    let mut all = vec![inputs[0], &weight, &bias];
    all.extend(&inputs[1..]);
    let mut attributes = vec![text("activation", activation), ints("pads", &[1, 1, 1, 1])];
    if !params.is_empty() {
        attributes.push(floats("activation_params", params));
    }
    let made = b.node("FusedConv", &all, attributes);
    b.in_domain(MICROSOFT);
    made
}

#[test]
fn an_activation_inside_a_convolution_comes_behind_it() {
    let kinds: [(&str, &[f32]); 6] = [
        ("Relu", &[]),
        ("Sigmoid", &[]),
        ("Tanh", &[]),
        ("LeakyRelu", &[0.2]),
        ("HardSigmoid", &[0.3, 0.4]),
        ("Clip", &[-0.4, 0.9]),
    ];
    for opset in [10, 17] {
        for (kind, params) in kinds {
            let mut b = Builder::new(opset);
            b.input("x", &[4, 6, 6]);
            let made = fused_conv(&mut b, &["x"], [8, 4], kind, params);
            let made = fused_conv(&mut b, &[&made], [6, 8], kind, params);
            let made = b.pointwise(&made, 6, 5);
            b.output(&made, 4);
            let found = apart(b.finish(), 1e-6, &["FusedConv"]);
            assert_eq!(found.free(), [8, 6], "{kind}: {:?}", found.frozen());
            found.check();
        }
    }
}

/// Two residual blocks whose second convolution has the sum and the activation inside.
pub(super) fn residual() -> Builder {
    let mut b = Builder::new(17);
    let mut made = stem(&mut b, 6);
    for _ in 0..2 {
        let inner = fused_conv(&mut b, &[&made], [8, 6], "Clip", &[0.0, 6.0]);
        made = fused_conv(&mut b, &[&inner, &made], [6, 8], "Relu", &[]);
    }
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    b
}

#[test]
fn a_sum_inside_a_convolution_ties_its_channels() {
    let found = apart(residual().finish(), 1e-6, &["FusedConv"]);
    assert_eq!(found.free(), [6, 8, 8]);
    found.check();
}

#[test]
fn an_activation_inside_a_gemm_comes_behind_it() {
    let kinds: [(&str, Vec<AttributeProto>); 4] = [
        ("Relu", vec![]),
        ("Elu", vec![float("activation_alpha", 0.7)]),
        ("LeakyRelu", vec![float("activation_alpha", 0.3)]),
        (
            "HardSigmoid",
            vec![
                float("activation_alpha", 0.3),
                float("activation_beta", 0.4),
            ],
        ),
    ];
    for (kind, attributes) in kinds {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 6);
        let made = pooled(&mut b, &made);
        let (weight, bias) = (b.weight(&[8, 6], 6), b.uniform(&[8], -0.5, 0.5));
        let mut all = vec![
            text("activation", kind),
            int("transB", 1),
            float("alpha", 1.3),
        ];
        all.extend(attributes);
        let made = b.node("FusedGemm", &[&made, &weight, &bias], all);
        b.in_domain(MICROSOFT);
        let (weight, bias) = (b.weight(&[8, 5], 8), b.uniform(&[5], -0.5, 0.5));
        let made = b.node("Gemm", &[&made, &weight, &bias], vec![]);
        b.output(&made, 2);
        let found = apart(b.finish(), 1e-6, &["FusedGemm"]);
        assert_eq!(found.free(), [6, 8], "{kind}");
        found.check();
    }
}

fn integers(b: &mut Builder, dtype: DataType, shape: &[usize], limit: i64) -> String {
    let size = dtype.size().unwrap();
    let count: usize = shape.iter().product();
    let number = |at: usize| (at as i64 * 7919 + 31) % 1009 * (2 * limit + 1) / 1009 - limit;
    let bytes = (0..count).flat_map(|at| number(at).to_le_bytes()[..size].to_vec());
    b.store(&Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.collect::<Vec<u8>>().into(),
    })
}

/// A scale and a zero point of data.
fn scaled(b: &mut Builder, scale: f32, zero: u8) -> [String; 2] {
    let zero = Tensor {
        dtype: DataType::Uint8,
        shape: vec![],
        bytes: vec![zero].into(),
    };
    [b.floats(&[], vec![scale]), b.store(&zero)]
}

/// QLinearConv with a scale for each output, or one for all.
fn integer_conv(
    b: &mut Builder,
    data: [&str; 3],
    [out, inputs]: [usize; 2],
    made: &[String; 2],
    many: bool,
) -> String {
    let weight = integers(b, DataType::Int8, &[out, inputs, 3, 3], 63);
    let (count, shape): (usize, &[usize]) = if many { (out, &[out]) } else { (1, &[]) };
    let scales = (0..count).map(|i| (1.0 + i as f32 / 8.0) / 128.0).collect();
    let scale = b.floats(shape, scales);
    let zero = integers(b, DataType::Int8, shape, 0);
    let bias = integers(b, DataType::Int32, &[out], 900);
    let [x, x_scale, x_zero] = data;
    let inputs = [
        x, x_scale, x_zero, &weight, &scale, &zero, &made[0], &made[1], &bias,
    ];
    b.node("QLinearConv", &inputs, vec![ints("pads", &[1, 1, 1, 1])])
}

/// A residual network on integers, as ONNX Runtime's extended optimisers write one.
fn integer_net(opset: i64, many: bool) -> ModelProto {
    let mut b = Builder::new(opset);
    b.input("x", &[4, 6, 6]);
    let [input, inner, sums] = [
        scaled(&mut b, 1.0 / 64.0, 128),
        scaled(&mut b, 1.0 / 32.0, 0),
        scaled(&mut b, 1.0 / 16.0, 3),
    ];
    let x = b.node("QuantizeLinear", &["x", &input[0], &input[1]], vec![]);
    let left = integer_conv(&mut b, [&x, &input[0], &input[1]], [8, 4], &inner, many);
    let data = [left.as_str(), &inner[0], &inner[1]];
    let right = integer_conv(&mut b, data, [6, 8], &inner, many);
    let data = [right.as_str(), &inner[0], &inner[1]];
    let right = integer_conv(&mut b, data, [8, 6], &inner, many);
    let read = [
        &left, &inner[0], &inner[1], &right, &inner[0], &inner[1], &sums[0], &sums[1],
    ];
    let made = b.node("QLinearAdd", &read.map(String::as_str), vec![]);
    b.in_domain(MICROSOFT);
    let read = [&made, &sums[0], &sums[1], &inner[0], &inner[1]];
    let made = b.node(
        "QLinearGlobalAveragePool",
        &read.map(String::as_str),
        vec![int("channels_last", 0)],
    );
    b.in_domain(MICROSOFT);
    let flat = b.node("Flatten", &[&made], vec![]);
    let weight = integers(&mut b, DataType::Int8, &[5, 8], 63);
    let (scale, zero) = (
        b.floats(&[], vec![1.0 / 128.0]),
        integers(&mut b, DataType::Int8, &[], 0),
    );
    let bias = integers(&mut b, DataType::Int32, &[5], 900);
    let read = [&flat, &inner[0], &inner[1], &weight, &scale, &zero, &bias];
    let attributes = vec![int("transB", 1), float("alpha", 1.0)];
    let made = b.node("QGemm", &read.map(String::as_str), attributes);
    b.in_domain(MICROSOFT);
    b.output(&made, 2);
    b.finish()
}

#[test]
fn operators_on_integers_become_quantisers_around_real_ones() {
    const NAMES: [&str; 4] = [
        "QGemm",
        "QLinearAdd",
        "QLinearConv",
        "QLinearGlobalAveragePool",
    ];
    for many in [true, false] {
        // A step of the last quantiser may come out the other way.
        let found = apart(integer_net(17, many), 0.01, &NAMES);
        assert_eq!(found.free(), [8, 6], "{:?}", found.frozen());
        let stays = found.plan(|_, at| at % 3 == 0);
        found.cut(&stays);
    }
}

#[test]
fn scales_along_channels_stay_where_the_opset_has_no_axis_for_them() {
    let bytes = Model {
        proto: integer_net(10, true),
    }
    .encode()
    .unwrap();
    let original = decode(bytes.into(), None).unwrap();
    let (model, names) = ops::unfused(original);
    assert!(!names.contains(&"QLinearConv".to_owned()), "{names:?}");
    let found = find(model.proto);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(6, "it computes with integers"));
}

#[test]
fn a_product_that_quantises_its_data_is_one_of_integers() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 4]);
    let mut made = "x".to_owned();
    for (inputs, outputs, many) in [(4, 8, true), (8, 5, false)] {
        let weight = integers(&mut b, DataType::Int8, &[inputs, outputs], 63);
        let shape: &[usize] = if many { &[outputs] } else { &[] };
        let scales = vec![1.0 / 64.0; shape.iter().product()];
        let scale = b.floats(shape, scales);
        let zero = integers(&mut b, DataType::Int8, shape, 0);
        let bias = b.uniform(&[outputs], -0.5, 0.5);
        let read = [&made, &weight, &scale, &zero, &bias];
        made = b.node("DynamicQuantizeMatMul", &read.map(String::as_str), vec![]);
        b.in_domain(MICROSOFT);
        made = b.node("Tanh", &[&made], vec![]);
    }
    b.output(&made, 3);
    let found = apart(b.finish(), 1e-5, &["DynamicQuantizeMatMul"]);
    assert_eq!(found.free(), [8], "{:?}", found.frozen());
    found.cut(&found.plan(|_, at| at % 3 == 0));
}

#[test]
fn a_product_of_integers_with_scales_is_taken_apart() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 4]);
    let first = b.weight(&[4, 8], 4);
    let made = b.node("MatMul", &["x", &first], vec![]);
    let parts = b.nodes("DynamicQuantizeLinear", &[&made], 3, vec![]);
    let weight = integers(&mut b, DataType::Int8, &[8, 5], 63);
    let scale = b.floats(&[], vec![1.0 / 64.0]);
    let read = [&parts[0], &weight, &parts[1], &scale, &parts[2]];
    let made = b.node("MatMulIntegerToFloat", &read.map(String::as_str), vec![]);
    b.in_domain(MICROSOFT);
    b.output(&made, 3);
    let found = apart(b.finish(), 1e-5, &["MatMulIntegerToFloat"]);
    assert_eq!(found.free(), [8], "{:?}", found.frozen());
    found.cut(&found.plan(|_, at| at % 3 == 0));
}

#[test]
fn a_model_without_fused_nodes_stays_as_it_is() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    let model = Model { proto: b.finish() };
    let (same, names) = ops::unfused(model.clone());
    assert_eq!((same, names.len()), (model, 0));
}

#[test]
fn a_model_of_which_nothing_leaves_keeps_its_fused_operators() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.onnx", "out.onnx"].map(|name| folder.path().join(name));
    let model = Model {
        proto: residual().finish(),
    };
    onnx_mipp::onnx::save(&model, &input).unwrap();
    let [from, to] = [&input, &output].map(|path| program::text(path));
    program::mipp([from, to, "--macs", "1"]).done();
    let [before, after] = [input, output].map(|path| std::fs::read(path).unwrap());
    assert!(before == after);
}
