//! Einsum as a product with a constant weight and as attention.

use super::*;
use crate::builder::{int, text};
use crate::masked::find_with;
use onnx_mipp::groups::{Heads, Scope};
use onnx_mipp::onnx::proto::ModelProto;

fn equation(text_of: &str) -> Vec<onnx_mipp::onnx::proto::AttributeProto> {
    vec![text("equation", text_of)]
}

/// Attention written with Einsum throughout: 3 heads of 4.
fn attention() -> ModelProto {
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let weight = b.weight(&[8, 3, 4], 8);
        let bias = b.uniform(&[3, 4], -0.5, 0.5);
        let made = b.node("Einsum", &["x", &weight], equation("abc,cde->abde"));
        parts.push(b.node("Add", &[&made, &bias], vec![]));
    }
    let scores = b.node(
        "Einsum",
        &[&parts[1], &parts[0]],
        equation("aecd,abcd->acbe"),
    );
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("Einsum", &[&scores, &parts[2]], equation("acbe,aecd->abcd"));
    let weight = b.weight(&[3, 4, 6], 12);
    let made = b.node("Einsum", &[&made, &weight], equation("abcd,cde->abe"));
    let made = b.node("Tanh", &[&made], vec![]);
    let weight = b.weight(&[5, 6], 6);
    let made = b.node("Einsum", &[&weight, &made], equation("oe, abe -> abo"));
    b.output(&made, 3);
    b.finish()
}

#[test]
fn heads_leave_whole() {
    let found = find(attention());
    assert_eq!(found.free(), [3, 6]);
    let pruned = found.check();
    let nodes = &pruned.proto.graph.as_ref().unwrap().node;
    assert_eq!(constant_shape(&pruned, &nodes[0], 1), [8, 2, 4]);
}

#[test]
fn channels_inside_the_heads_leave_when_asked() {
    let scope = Scope {
        heads: Heads::Inside,
        ..Scope::default()
    };
    let found = find_with(attention(), scope);
    assert_eq!(found.free(), [4, 4, 6]);
    found.check();
}

#[test]
fn an_equation_without_an_arrow_has_its_output_implied() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let flat = pooled(&mut b, &made);
    let weight = b.weight(&[6, 7], 6);
    let made = b.node("Einsum", &[&flat, &weight], equation("bi,ij"));
    let weight = b.weight(&[7, 5], 7);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn other_equations_freeze() {
    let cases = [
        ("bihw,ij->bjh", "an output"),
        ("b...,...->b...", "ellipsis"),
        ("bijj,jk->bik", "takes a diagonal"),
    ];
    for (text_of, reason) in cases {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 6);
        let shape: &[usize] = if text_of.contains('.') {
            &[6, 6, 6]
        } else {
            &[6, 6]
        };
        let weight = b.weight(shape, 6);
        let made = b.node("Einsum", &[&made, &weight], equation(text_of));
        let rank = if text_of.contains('.') { 4 } else { 3 };
        b.output(&made, rank);
        let found = find(b.finish());
        let held = found.is_frozen_by(6, reason);
        assert!(held, "{text_of}: {:?}", found.frozen());
    }
}

#[test]
fn a_sum_over_channels_alone_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("Einsum", &[&made, &weight], equation("bihw,hj->bwj"));
    b.output(&made, 3);
    let found = find(b.finish());
    assert!(found.is_frozen_by(6, "it reduces over the channels"));
}
