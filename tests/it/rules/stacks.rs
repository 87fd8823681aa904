//! Constant stacks of matrices: experts, linear layers in groups.

use super::*;
use crate::builder::{int, text};

/// Three experts on 6 positions of 8 numbers, each with a bias of its own, that all read the same
/// and are added up; by MatMul or by Einsum.
pub(super) fn experts(by_einsum: bool) -> Builder {
    let mut b = Builder::new(17);
    b.input("x", &[6, 8]);
    let weight = b.weight(&[8, 8], 8);
    let x = b.node("MatMul", &["x", &weight], vec![]);
    let axis = b.ints(&[1]);
    let x = b.node("Unsqueeze", &[&x, &axis], vec![]);
    let (up, down) = (b.weight(&[3, 8, 12], 8), b.weight(&[3, 12, 7], 12));
    let product = |b: &mut Builder, x: &str, weight: &str, equation: &str| {
        if by_einsum {
            b.node("Einsum", &[x, weight], vec![text("equation", equation)])
        } else {
            b.node("MatMul", &[x, weight], vec![])
        }
    };
    let bias = b.uniform(&[3, 1, 12], -0.5, 0.5);
    let made = b.node("MatMul", &[&x, &up], vec![]);
    let made = b.node("Add", &[&made, &bias], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    let made = product(&mut b, &made, &down, "nesf,efd->nesd");
    let made = b.node("Tanh", &[&made], vec![]);
    let last = b.weight(&[3, 7, 5], 7);
    let made = product(&mut b, &made, &last, "nesd,edo->nseo");
    let axis = b.ints(&[if by_einsum { 2 } else { 1 }]);
    let made = b.node("ReduceSum", &[&made, &axis], vec![int("keepdims", 0)]);
    b.output(&made, 3);
    b
}

#[test]
fn a_place_in_the_width_leaves_from_all_matrices() {
    for by_einsum in [false, true] {
        let found = find(experts(by_einsum).finish());
        assert_eq!(found.free(), [8, 12, 7], "{:?}", found.frozen());
        let pruned = found.check();
        let nodes = &pruned.proto.graph.as_ref().unwrap().node;
        let product = nodes
            .iter()
            .position(|n| n.op_type() == "Unsqueeze")
            .unwrap()
            + 1;
        assert_eq!(constant_shape(&pruned, &nodes[product], 1), [3, 5, 8]);
    }
}

/// The same with a copy for each expert.
#[test]
fn matrices_that_read_copies_are_a_stack_too() {
    let mut b = Builder::new(17);
    b.input("x", &[6, 8]);
    let weight = b.weight(&[8, 7], 8);
    let made = b.node("MatMul", &["x", &weight], vec![]);
    let axis = b.ints(&[1]);
    let made = b.node("Unsqueeze", &[&made, &axis], vec![]);
    let target = b.ints(&[1, 3, 1, 1]);
    let made = b.node("Expand", &[&made, &target], vec![]);
    let (up, down) = (b.weight(&[3, 7, 9], 7), b.weight(&[3, 9, 5], 9));
    let made = b.node("MatMul", &[&made, &up], vec![]);
    let made = b.node("Sigmoid", &[&made], vec![]);
    let made = b.node("MatMul", &[&made, &down], vec![]);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [7, 9], "{:?}", found.frozen());
    found.check();
}

/// Tokens of all samples in one row, repeated for each expert along the first axis of everything.
#[test]
fn matrices_along_the_first_axis_are_a_stack_too() {
    let mut b = Builder::new(17);
    b.input("x", &[6, 8]);
    let weight = b.weight(&[8, 7], 8);
    let made = b.node("MatMul", &["x", &weight], vec![]);
    let shape = b.ints(&[1, -1, 7]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    let target = b.ints(&[3, 1, 7]);
    let made = b.node("Expand", &[&made, &target], vec![]);
    let (up, down) = (b.weight(&[3, 7, 9], 7), b.weight(&[3, 9, 8], 9));
    let made = b.node("MatMul", &[&made, &up], vec![]);
    let made = b.node("Sigmoid", &[&made], vec![]);
    let made = b.node("MatMul", &[&made, &down], vec![]);
    let axis = b.ints(&[0]);
    let made = b.node("ReduceSum", &[&made, &axis], vec![int("keepdims", 0)]);
    let shape = b.ints(&[-1, 6, 8]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [7, 9], "{:?}", found.frozen());
    found.check();
}

/// Channels along the axis of the stack leave with their matrices, as they did.
#[test]
fn heads_with_matrices_of_their_own_keep_them_apart() {
    let mut b = Builder::new(17);
    b.input("x", &[6, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let weight = b.weight(&[8, 12], 8);
        let made = b.node("MatMul", &["x", &weight], vec![]);
        let shape = b.ints(&[0, 0, 3, 4]);
        let made = b.node("Reshape", &[&made, &shape], vec![]);
        parts.push(b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]));
    }
    let own = b.weight(&[3, 4, 4], 4);
    let keys = b.node("MatMul", &[&parts[1], &own], vec![]);
    let keys = b.node("Transpose", &[&keys], vec![ints("perm", &[0, 1, 3, 2])]);
    let scores = b.node("MatMul", &[&parts[0], &keys], vec![]);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("MatMul", &[&scores, &parts[2]], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = b.ints(&[0, 0, 12]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    let weight = b.weight(&[12, 5], 12);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [3], "{:?}", found.frozen());
    found.check();
}
