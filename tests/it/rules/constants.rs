//! What follows from constants alone is a constant, whatever computes it.

use super::*;
use crate::builder::{int, open, subgraph};
use onnx_mipp::onnx::proto::GraphProto;
use onnx_mipp::onnx::{DataType, Tensor};
use onnx_mipp::select::CostModel;

/// A model whose second convolution has the weight of 6 outputs and 7 inputs that `compute` makes
/// of a constant of that shape.
fn weighed(opset: i64, compute: impl FnOnce(&mut Builder, &str) -> String) -> Found {
    let mut b = Builder::new(opset);
    let made = stem(&mut b, 7);
    let weight = b.weight(&[6, 7, 1, 1], 7);
    let weight = compute(&mut b, &weight);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    head(b, &made, 6)
}

fn is_cut(found: &Found) {
    assert_eq!(found.free(), [7, 6], "{:?}", found.frozen());
    let widths = found.groups.widths();
    let macs = CostModel::macs(&found.graph, &found.groups).total(&widths);
    assert_eq!(macs, 36.0 * (7.0 * 4.0 * 9.0 + 6.0 * 7.0 + 5.0 * 6.0));
    found.check();
}

#[test]
fn scattered_weights_are_constant() {
    is_cut(&weighed(17, |b, weight| {
        let at = b.store(&Tensor::from_i64(&[1, 1], &[2]).unwrap());
        let new = b.weight(&[1, 7, 1, 1], 7);
        b.node("ScatterND", &[weight, &at, &new], vec![])
    }));
}

#[test]
fn weights_on_an_identity_are_constant() {
    is_cut(&weighed(17, |b, weight| {
        let zeros = b.floats(&[6, 7], vec![0.0; 42]);
        let ones = b.node("EyeLike", &[&zeros], vec![]);
        let axes = b.ints(&[2, 3]);
        let ones = b.node("Unsqueeze", &[&ones, &axes], vec![]);
        b.node("Add", &[weight, &ones], vec![])
    }));
}

#[test]
fn normalised_weights_in_pieces_are_constant() {
    is_cut(&weighed(17, |b, weight| {
        let gain = b.uniform(&[6, 1, 1, 1], 0.8, 1.5);
        // Of an operator that only ONNX Runtime knows.
        let mut flat = b.node("Flatten", &[weight], vec![]);
        flat = b.node("BiasGelu", &[&flat, "bias"], vec![]);
        b.in_domain("com.microsoft");
        let bias = Tensor::from_f32(&[7], vec![0.1; 7]).unwrap();
        b.graph.initializer.push(bias.to_proto("bias"));
        let target = b.ints(&[6, 7, 1, 1]);
        let weight = b.node("Reshape", &[&flat, &target], vec![]);
        let norm = b.node("ReduceL2", &[&weight], vec![ints("axes", &[1, 2, 3])]);
        let unit = b.node("Div", &[&weight, &norm], vec![]);
        b.node("Mul", &[&unit, &gain], vec![])
    }));
}

#[test]
fn a_branch_that_a_constant_takes_is_constant() {
    is_cut(&weighed(17, |b, weight| {
        let yes = Tensor {
            dtype: DataType::Bool,
            shape: vec![],
            bytes: vec![1].into(),
        };
        let yes = b.store(&yes);
        let branch = |name: &str, op: &str| {
            let mut inner = Builder::new(17);
            inner.node(op, &[weight], vec![]);
            inner.graph.node[0].output = vec![name.to_owned()];
            GraphProto {
                name: Some(name.to_owned()),
                output: vec![open(name, 4)],
                ..inner.graph
            }
        };
        let branches = vec![
            subgraph("then_branch", branch("kept", "Neg")),
            subgraph("else_branch", branch("other", "Abs")),
        ];
        b.node("If", &[&yes], branches)
    }));
}

#[test]
fn what_is_drawn_is_no_constant() {
    let found = weighed(17, |b, weight| {
        b.node("RandomNormalLike", &[weight], vec![int("dtype", 1)])
    });
    assert_eq!(found.free(), Vec::<usize>::new());
    assert!(found.is_frozen_by(7, "its weight is computed while the model runs"));
}
