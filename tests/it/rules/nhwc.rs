//! Channels last, as TensorFlow has them: Transposes around each convolution, weights that other
//! nodes turn.

use super::*;
use crate::builder::int;

const TO_FIRST: [i64; 4] = [0, 3, 1, 2];
const TO_LAST: [i64; 4] = [0, 2, 3, 1];

/// A convolution of channels last whose weight is stored as height, width, inputs, outputs.
fn conv(b: &mut Builder, input: &str, [inputs, outputs]: [usize; 2]) -> String {
    let weight = b.weight(&[3, 3, inputs, outputs], 9 * inputs);
    let weight = b.node("Transpose", &[&weight], vec![ints("perm", &[3, 2, 0, 1])]);
    let data = b.node("Transpose", &[input], vec![ints("perm", &TO_FIRST)]);
    let attributes = vec![ints("pads", &[1, 1, 1, 1])];
    let made = b.node("Conv", &[&data, &weight], attributes);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &TO_LAST)]);
    let bias = b.uniform(&[outputs], -0.5, 0.5);
    b.node("Add", &[&made, &bias], vec![])
}

/// A depthwise convolution whose weight is stored as height, width, channels, 1.
fn depthwise(b: &mut Builder, input: &str, channels: usize) -> String {
    let weight = b.weight(&[3, 3, channels, 1], 9);
    let weight = b.node("Transpose", &[&weight], vec![ints("perm", &[2, 3, 0, 1])]);
    let target = b.ints(&[channels as i64, 1, 3, 3]);
    let weight = b.node("Reshape", &[&weight, &target], vec![]);
    let data = b.node("Transpose", &[input], vec![ints("perm", &TO_FIRST)]);
    let attributes = vec![int("group", channels as i64), ints("pads", &[1, 1, 1, 1])];
    let made = b.node("Conv", &[&data, &weight], attributes);
    b.node("Transpose", &[&made], vec![ints("perm", &TO_LAST)])
}

#[test]
fn channels_last_are_followed_through_every_turn() {
    let mut b = Builder::new(13);
    b.input("x", &[6, 6, 4]);
    let made = conv(&mut b, "x", [4, 8]);
    let left = b.node("Relu", &[&made], vec![]);
    let made = depthwise(&mut b, &left, 8);
    let made = conv(&mut b, &made, [8, 8]);
    let made = b.node("Add", &[&made, &left], vec![]);
    // Padded by channels of zeros, as where a residual connection gets wider.
    let pads = b.ints(&[0, 0, 0, 0, 0, 0, 0, 4]);
    let made = b.node("Pad", &[&made, &pads], vec![]);
    let attributes = vec![ints("axes", &[1, 2]), int("keepdims", 0)];
    let made = b.node("ReduceMean", &[&made], attributes);
    let weight = b.weight(&[12, 5], 12);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [8, 4], "{:?}", found.frozen());
    found.check();
}
