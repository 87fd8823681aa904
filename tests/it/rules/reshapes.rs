//! Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand and Resize with constant targets.

use super::*;
use crate::builder::{floats, int, text};

/// The output of a Reshape of the stem's 6 channels, through a matrix to the model's output.
fn reshaped(target: &[i64], inputs: usize, rank: usize) -> Found {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let target = b.ints(target);
    let made = b.node("Reshape", &[&made, &target], vec![]);
    let weight = b.weight(&[inputs, 5], inputs);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, rank);
    find(b.finish())
}

#[test]
fn reshape_follows_numbers_zeros_and_ones_to_be_inferred() {
    for (target, rank) in [([0, -1], 2), ([0, 216], 2), ([-1, 216], 2)] {
        let found = reshaped(&target, 216, rank);
        assert_eq!(found.free(), [6], "{target:?}");
        found.check();
    }
    for target in [[0, 0, -1], [0, 6, 36], [-1, 6, 36]] {
        let found = reshaped(&target, 36, 3);
        // The channels pass the first product; the positions that it makes are the output.
        assert!(found.is_frozen_by(6, "is an output of the model"));
        assert!(found.free().is_empty());
    }
}

#[test]
fn a_reshape_that_merges_channels_with_the_batch_keeps_track_of_them() {
    let found = reshaped(&[-1, 36], 36, 2);
    assert!(found.is_frozen_by(6, "is an output of the model"));
}

#[test]
fn a_reshape_that_mixes_samples_freezes() {
    let found = reshaped(&[-1, 16], 16, 2);
    assert!(found.is_frozen_by(6, "it merges the channels with the batch"));
}

#[test]
fn a_reshape_across_channels_and_space_ties_what_it_must() {
    // 6 channels of 36 become 2 rows of 108: each third of a row is every third channel.
    let found = reshaped(&[0, 2, 108], 108, 3);
    assert_eq!(found.free(), [3]);
    found.check();
    // 4 rows of 54 cut channels in two: each half of the rows is one, and the rows are the output.
    let found = reshaped(&[0, 4, 54], 54, 3);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(2, "is an output of the model"));
}

#[test]
fn a_zero_that_copies_another_axis_does_not_follow() {
    // The last axis has the channels, and the zero copies the axis before it, of equal length.
    let mut b = Builder::new(17);
    b.input("x", &[2, 6, 6]);
    let weight = b.weight(&[6, 6], 6);
    let made = b.node("MatMul", &["x", &weight], vec![]);
    let made = b.node("Tanh", &[&made], vec![]);
    let target = b.ints(&[0, -1, 0]);
    let made = b.node("Reshape", &[&made, &target], vec![]);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn a_zero_that_copies_the_channels_for_another_axis_holds_them() {
    let mut b = Builder::new(17);
    b.input("x", &[2, 6, 6]);
    let weight = b.weight(&[6, 6], 6);
    let made = b.node("MatMul", &[&weight, "x"], vec![]);
    let target = b.ints(&[0, -1, 0]);
    let made = b.node("Reshape", &[&made, &target], vec![]);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert!(
        found.free().iter().all(|&width| width < 6),
        "{:?}",
        found.frozen()
    );
    assert!(found.is_frozen_by(6, "gives a tensor that is not pruned the same length"));
}

#[test]
fn a_shuffle_keeps_whole_rows() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let (apart, back) = (b.ints(&[0, 2, 4, 6, 6]), b.ints(&[0, 8, 6, 6]));
    let made = b.node("Reshape", &[&made, &apart], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3, 4])]);
    let made = b.node("Reshape", &[&made, &back], vec![]);
    let found = head(b, &made, 8);
    // Four columns of two channels each.
    assert_eq!(found.free(), [4]);
    found.check();
}

#[test]
fn a_shuffle_between_grouped_convolutions_follows_their_groups() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let made = b.conv(&made, [12, 4, 1, 1], vec![int("group", 3)]);
    let (apart, back) = (b.ints(&[0, 3, 4, 6, 6]), b.ints(&[0, -1, 6, 6]));
    let made = b.node("Reshape", &[&made, &apart], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3, 4])]);
    let made = b.node("Reshape", &[&made, &back], vec![]);
    let made = b.conv(&made, [12, 1, 3, 3], vec![int("group", 12)]);
    let found = head(b, &made, 12);
    assert_eq!(found.free(), [4, 4]);
    found.check();
}

#[test]
fn space_to_depth_repeats_channels() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let (apart, back) = (b.ints(&[0, 6, 3, 2, 3, 2]), b.ints(&[0, 24, 3, 3]));
    let made = b.node("Reshape", &[&made, &apart], vec![]);
    let perm = [0, 3, 5, 1, 2, 4];
    let made = b.node("Transpose", &[&made], vec![ints("perm", &perm)]);
    let made = b.node("Reshape", &[&made, &back], vec![]);
    let found = head(b, &made, 24);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn heads_leave_whole() {
    // 12 channels as 4 heads of 3, which a matrix per head's inner axis would read.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let flat = pooled(&mut b, &made);
    let weight = b.weight(&[12, 12], 12);
    let made = b.node("MatMul", &[&flat, &weight], vec![]);
    let (apart, back) = (b.ints(&[0, 4, 3]), b.ints(&[0, 12]));
    let heads = b.node("Reshape", &[&made, &apart], vec![]);
    let heads = b.node("Softmax", &[&heads], vec![int("axis", -1)]);
    let made = b.node("Reshape", &[&heads, &back], vec![]);
    let weight = b.weight(&[12, 5], 12);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [12, 4]);
    found.check();
}

#[test]
fn axes_of_length_one_come_and_go() {
    for opset in [11, 13] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 6);
        let mean = b.node("GlobalAveragePool", &[&made], vec![]);
        let with = |b: &mut Builder, op: &str, input: &str, axes: &[i64]| {
            if opset < 13 {
                return b.node(op, &[input], vec![ints("axes", axes)]);
            }
            let axes = b.ints(axes);
            b.node(op, &[input, &axes], vec![])
        };
        let flat = with(&mut b, "Squeeze", &mean, &[2, 3]);
        let back = with(&mut b, "Unsqueeze", &flat, &[-1, 2]);
        let made = b.node("Mul", &[&back, &made], vec![]);
        let found = head(b, &made, 6);
        assert_eq!(found.free(), [6], "opset {opset}");
        found.check();
    }
}

#[test]
fn expansion_repeats_space_but_not_channels() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let mean = b.node("GlobalAveragePool", &[&made], vec![]);
    // Targets that name the channels, and that leave them as they are.
    let (whole, ones) = (b.ints(&[1, 6, 6, 6]), b.ints(&[1, 6, 6]));
    let first = b.node("Expand", &[&mean, &whole], vec![]);
    let second = b.node("Expand", &[&mean, &ones], vec![]);
    let made = b.node("Sum", &[&first, &second, &made], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn one_channel_expanded_to_many_is_no_group_of_many() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let plane = b.pointwise(&made, 6, 1);
    let target = b.ints(&[1, 4, 6, 6]);
    let wide = b.node("Expand", &[&plane, &target], vec![]);
    let found = head(b, &wide, 4);
    assert_eq!(found.free(), [6]);
    assert!(found.is_frozen_by(1, "it repeats the channel"));
    found.check();
}

#[test]
fn resizing_by_scales_keeps_channels() {
    for opset in [11, 13, 18] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 6);
        let roi = b.floats(&[0], vec![]);
        let scales = b.floats(&[4], vec![1.0, 1.0, 2.0, 1.5]);
        let attributes = vec![text("mode", "nearest")];
        let made = b.node("Resize", &[&made, &roi, &scales], attributes);
        let found = head(b, &made, 6);
        assert_eq!(found.free(), [6], "opset {opset}");
        found.check();
    }
    let mut b = Builder::new(9);
    let made = stem(&mut b, 6);
    let scales = b.floats(&[4], vec![1.0, 1.0, 2.0, 2.0]);
    let made = b.node("Upsample", &[&made, &scales], vec![text("mode", "nearest")]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn resizing_to_sizes_of_some_axes_keeps_channels() {
    let mut b = Builder::new(18);
    let made = stem(&mut b, 6);
    let sizes = b.ints(&[9, 6, 12]);
    let attributes = vec![text("mode", "linear"), ints("axes", &[-1, 1, 2])];
    let made = b.node("Resize", &[&made, "", "", &sizes], attributes);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn resizing_channels_freezes() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let scales = b.floats(&[4], vec![1.0, 2.0, 1.0, 1.0]);
    let attributes = vec![text("mode", "nearest")];
    let made = b.node("Resize", &[&made, "", &scales], attributes);
    let found = head(b, &made, 12);
    assert!(found.is_frozen_by(6, "it resizes along the channels"));
}

#[test]
fn an_old_upsample_has_its_scales_as_attribute() {
    let mut b = Builder::new(8);
    let made = stem(&mut b, 6);
    let attributes = vec![
        text("mode", "nearest"),
        floats("scales", &[1.0, 1.0, 2.0, 2.0]),
    ];
    let made = b.node("Upsample", &[&made], attributes);
    for stored in b.graph.initializer.clone() {
        let shape: Vec<usize> = stored.dims.iter().map(|&d| d as usize).collect();
        b.graph
            .input
            .push(crate::builder::stated(stored.name(), &shape));
    }
    b.ir = 8;
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

/// 7 channels, and 6 made of them that lie along two axes, as `merge` makes them one of `length`;
/// read by a matrix.
fn merged(length: usize, merge: impl FnOnce(&mut Builder, &str) -> String) -> Found {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 7);
    let made = b.pointwise(&made, 7, 6);
    let made = merge(&mut b, &made);
    let weight = b.weight(&[length, 5], length);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    find(b.finish())
}

/// Products of channels with channels, (N, 6, `others`).
fn products(b: &mut Builder, made: &str, others: usize) -> String {
    let other = match others {
        6 => made.to_owned(),
        _ => b.pointwise(made, 6, others),
    };
    let target = b.ints(&[0, 0, -1]);
    let left = b.node("Reshape", &[made, &target], vec![]);
    let right = b.node("Reshape", &[&other, &target], vec![]);
    let right = b.node("Transpose", &[&right], vec![ints("perm", &[0, 2, 1])]);
    b.node("MatMul", &[&left, &right], vec![])
}

#[test]
fn two_axes_of_channels_made_one_hold_their_channels() {
    const REASON: &str = "it merges two axes of channels";
    // The channels with themselves, as a Gram matrix has them, and with those of another layer.
    for others in [6, 4] {
        let found = merged(6 * others, |b, made| {
            let made = products(b, made, others);
            b.node("Flatten", &[&made], vec![])
        });
        assert_eq!(found.free(), [7], "{:?}", found.frozen());
        assert!(found.is_frozen_by(6, REASON), "{:?}", found.frozen());
        found.check();
        let found = merged(6 * others, |b, made| {
            let made = products(b, made, others);
            let target = b.ints(&[-1, 6 * others as i64]);
            b.node("Reshape", &[&made, &target], vec![])
        });
        assert_eq!(found.free(), [7], "{:?}", found.frozen());
        found.check();
    }
    // Whatever else the model holds: an axis that is split elsewhere, before or behind.
    let found = merged(36, |b, made| {
        let (apart, back) = (b.ints(&[0, 2, 3, 36]), b.ints(&[0, 6, 6, 6]));
        let split = b.node("Reshape", &[made, &apart], vec![]);
        let split = b.node("Relu", &[&split], vec![]);
        let made = b.node("Reshape", &[&split, &back], vec![]);
        let made = products(b, &made, 6);
        b.node("Flatten", &[&made], vec![])
    });
    assert_eq!(found.free(), [7], "{:?}", found.frozen());
    found.check();
}

#[test]
fn channels_of_many_elements_are_not_lost() {
    // More elements than are looked at one by one where it is open which axis carries the channels
    // on.
    let mut b = Builder::new(17);
    b.input("x", &[4, 380, 380]);
    let made = b.pointwise("x", 4, 8);
    let target = b.ints(&[0, 2, -1]);
    let halves = b.node("Reshape", &[&made, &target], vec![]);
    let halves = b.node("GlobalAveragePool", &[&halves], vec![]);
    let weight = b.weight(&[5, 2, 1], 2);
    let halves = b.node("Conv", &[&halves, &weight], vec![]);
    let whole = b.node("GlobalMaxPool", &[&made], vec![]);
    let whole = b.pointwise(&whole, 8, 3);
    b.output(&halves, 3);
    b.output(&whole, 4);
    let found = find(b.finish());
    // Halves of 4 channels lie along the axis of the most channels, which the pool needs whole.
    assert!(found.free().is_empty(), "{:?}", found.free());
    assert!(
        found.is_frozen_by(4, "it pools along the tracked axis"),
        "{:?}",
        found.frozen()
    );
}
