//! Gemm and MatMul.

use super::*;
use crate::builder::{float, int};

#[test]
fn flatten_gives_every_channel_its_positions() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let flat = b.node("Flatten", &[&made], vec![]);
    let (weight, bias) = (b.weight(&[7, 216], 216), b.uniform(&[7], -1.0, 1.0));
    let made = b.node("Gemm", &[&flat, &weight, &bias], vec![int("transB", 1)]);
    let (weight, bias) = (b.weight(&[7, 5], 7), b.uniform(&[5], -1.0, 1.0));
    let made = b.node("Gemm", &[&made, &weight, &bias], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    let pruned = found.check();
    let first = &pruned.proto.graph.as_ref().unwrap().node[3];
    assert_eq!(constant_shape(&pruned, first, 1), [4, 144]);
}

#[test]
fn factors_and_biases_of_any_shape_follow() {
    // The bias per row is one number; the last is per batch and channel, (1, 7).
    for shape in [vec![7], vec![1, 7], vec![1], vec![], vec![1, 1]] {
        let mut b = Builder::new(13);
        let made = stem(&mut b, 6);
        let flat = pooled(&mut b, &made);
        let (weight, bias) = (b.weight(&[7, 6], 6), b.uniform(&shape, 0.5, 1.0));
        let attributes = vec![float("alpha", 0.7), float("beta", 1.5), int("transB", 1)];
        let made = b.node("Gemm", &[&flat, &weight, &bias], attributes);
        let weight = b.weight(&[7, 5], 7);
        let made = b.node("MatMul", &[&made, &weight], vec![]);
        b.output(&made, 2);
        let found = find(b.finish());
        assert_eq!(found.free(), [6, 7], "bias {shape:?}");
        found.check();
    }
}

#[test]
fn a_transposed_input_freezes() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let flat = pooled(&mut b, &made);
    let turned = b.node("Transpose", &[&flat], vec![]);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("Gemm", &[&turned, &weight], vec![int("transA", 1)]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert!(found.is_frozen_by(6, "it transposes its input (transA)"));
}

#[test]
fn a_constant_matrix_on_the_right_maps_the_last_axis() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let last = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 3, 1])]);
    let (weight, bias) = (b.weight(&[6, 7], 6), b.uniform(&[7], -1.0, 1.0));
    let made = b.node("MatMul", &[&last, &weight], vec![]);
    let made = b.node("Add", &[&bias, &made], vec![]);
    let made = b.node("Tanh", &[&made], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 3, 1, 2])]);
    let found = head(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    let pruned = found.check();
    assert_eq!(constant_shape(&pruned, only(&pruned, "Add"), 0), [4]);
}

#[test]
fn a_constant_matrix_on_the_left_maps_the_axis_before_the_last() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[0, 6, -1]);
    let rows = b.node("Reshape", &[&made, &shape], vec![]);
    let weight = b.weight(&[7, 6], 6);
    let made = b.node("MatMul", &[&weight, &rows], vec![]);
    let made = b.node("LeakyRelu", &[&made], vec![]);
    let weight = b.weight(&[5, 7], 7);
    let made = b.node("MatMul", &[&weight, &made], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn a_product_over_space_passes_channels_on() {
    // A mixer: the matrix maps positions, which may leave too.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[0, 6, -1]);
    let rows = b.node("Reshape", &[&made, &shape], vec![]);
    let weight = b.weight(&[36, 8], 36);
    let mixed = b.node("MatMul", &[&rows, &weight], vec![]);
    let mixed = b.node("Tanh", &[&mixed], vec![]);
    let weight = b.weight(&[8, 4], 8);
    let mixed = b.node("MatMul", &[&mixed, &weight], vec![]);
    let weight = b.weight(&[5, 6], 6);
    let made = b.node("MatMul", &[&weight, &mixed], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 8]);
    found.check();
}

#[test]
fn a_product_of_two_computed_factors_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[0, 0, -1]);
    let rows = b.node("Reshape", &[&made, &shape], vec![]);
    let turned = b.node("Transpose", &[&rows], vec![ints("perm", &[0, 2, 1])]);
    let made = b.node("MatMul", &[&rows, &turned], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(6, "both factors are computed while the model runs"));
}

#[test]
fn a_stack_of_matrices_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let weight = b.weight(&[6, 6, 3], 6);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 4);
    let found = find(b.finish());
    assert!(found.is_frozen_by(6, "its constant factor is not a matrix"));
}
