//! Gemm and MatMul.

use super::*;
use crate::builder::{float, int};
use crate::program::{mipp, text};
use crate::small;
use onnx_mipp::onnx;

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

/// A Gemm of the constant and (6, N) or (N, 6) data, and back to (N, outputs).
fn gemm(turn_data: bool, constant_first: bool, turn_constant: bool, beta: f32) {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let mut data = pooled(&mut b, &made);
    if turn_data != constant_first {
        data = b.node("Transpose", &[&data], vec![]);
    }
    let shape = if turn_constant == constant_first {
        [6, 7]
    } else {
        [7, 6]
    };
    let weight = b.weight(&shape, 6);
    let bias = if constant_first {
        vec![7, 1]
    } else {
        vec![1, 7]
    };
    let bias = b.uniform(&bias, 0.5, 1.0);
    let turned = |turned: bool| i64::from(turned);
    let attributes = |a: bool, c: bool| {
        let turns = [int("transA", turned(a)), int("transB", turned(c))];
        [&turns[..], &[float("alpha", 0.7), float("beta", beta)]].concat()
    };
    let mut made = if constant_first {
        let given = attributes(turn_constant, turn_data);
        b.node("Gemm", &[&weight, &data, &bias], given)
    } else {
        let given = attributes(turn_data, turn_constant);
        b.node("Gemm", &[&data, &weight, &bias], given)
    };
    made = b.node("Tanh", &[&made], vec![]);
    if constant_first {
        made = b.node("Transpose", &[&made], vec![]);
    }
    let weight = b.weight(&[7, 5], 7);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn gemm_in_every_form() {
    for form in 0..8 {
        for beta in [1.5, 0.0] {
            gemm(form & 1 == 1, form & 2 == 2, form & 4 == 4, beta);
        }
    }
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
fn stacks_of_one_matrix_are_matrices() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[0, 1, 6, -1]);
    let rows = b.node("Reshape", &[&made, &shape], vec![]);
    let weight_of_one = b.weight(&[1, 7, 6], 6);
    let made = b.node("MatMul", &[&weight_of_one, &rows], vec![]);
    let made = b.node("Tanh", &[&made], vec![]);
    let last = b.weight(&[1, 1, 5, 7], 7);
    let made = b.node("MatMul", &[&last, &made], vec![]);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn a_stack_of_matrices_takes_its_stack_along() {
    // Each of 6 channels has a matrix of its own over space.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let weight = b.weight(&[6, 6, 6], 6);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn a_stack_of_matrices_over_the_channels_is_followed() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let last = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 3, 1])]);
    let weight = b.weight(&[6, 6, 3], 6);
    let made = b.node("MatMul", &[&last, &weight], vec![]);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn matrices_behind_an_axis_of_length_one_are_judged_and_repaired() {
    let mut b = Builder::new(17);
    let x = b.input("x", &[5, 6]);
    let weight = b.weight(&[1, 6, 16], 6);
    let made = b.node("MatMul", &[&x, &weight], vec![]);
    let made = b.node("Relu", &[&made], vec![]);
    let weight = b.weight(&[1, 16, 3], 16);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 3);
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.onnx", "out.onnx"].map(|name| folder.path().join(name));
    let model = Model { proto: b.finish() };
    small::write(&model, &input);
    mipp([text(&input), text(&output), "--macs", "0.6", "--align", "1"]).done();
    let pruned = onnx::load(&output).unwrap();
    let last = &pruned.proto.graph.as_ref().unwrap().node[2];
    assert_eq!(constant_shape(&pruned, last, 1), [1, 9, 3]);
}
