//! Split, Slice, Gather and Pad.

use super::*;
use crate::builder::{float, int, text};

/// Two convolutions on two parts, whose sum is the output.
fn summed(mut b: Builder, parts: [(&str, usize); 2]) -> Found {
    let left = b.pointwise(parts[0].0, parts[0].1, 5);
    let right = b.pointwise(parts[1].0, parts[1].1, 5);
    let made = b.node("Add", &[&left, &right], vec![]);
    b.output(&made, 4);
    find(b.finish())
}

#[test]
fn unequal_parts_follow_an_attribute() {
    let mut b = Builder::new(11);
    let made = stem(&mut b, 8);
    let attributes = vec![int("axis", 1), ints("split", &[3, 5])];
    let parts = b.nodes("Split", &[&made], 2, attributes);
    let found = summed(b, [(&parts[0], 3), (&parts[1], 5)]);
    assert_eq!(found.free(), [3, 5]);
    let pruned = found.check();
    assert_eq!(attribute(only(&pruned, "Split"), "split"), Some(vec![2, 3]));
}

#[test]
fn unequal_parts_follow_an_input() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let sizes = b.ints(&[6, 2]);
    let parts = b.nodes("Split", &[&made, &sizes], 2, vec![int("axis", -3)]);
    let found = summed(b, [(&parts[0], 6), (&parts[1], 2)]);
    assert_eq!(found.free(), [6, 2]);
    found.check();
}

#[test]
fn equal_parts_may_become_unequal() {
    for (opset, attributes) in [
        (11, vec![int("axis", 1)]),
        (13, vec![int("axis", 1)]),
        (20, vec![int("axis", 1), int("num_outputs", 2)]),
    ] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 8);
        let parts = b.nodes("Split", &[&made], 2, attributes);
        let found = summed(b, [(&parts[0], 4), (&parts[1], 4)]);
        assert_eq!(found.free(), [4, 4], "opset {opset}");
        found.check();
        found.check_plan(&found.plan(|group, at| group == 0 && at == 2));
    }
}

#[test]
fn parts_along_space_stay_as_they_are() {
    let mut b = Builder::new(20);
    let made = stem(&mut b, 6);
    let made = b.node("MaxPool", &[&made], vec![ints("kernel_shape", &[2, 2])]);
    // 5 rows as 2, 2 and 1.
    let attributes = vec![int("axis", 2), int("num_outputs", 3)];
    let parts = b.nodes("Split", &[&made], 3, attributes);
    let found = summed(b, [(&parts[0], 6), (&parts[2], 6)]);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn parts_that_meet_are_tied() {
    // A gated unit: the halves of one convolution are multiplied.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 10);
    let parts = b.nodes("Split", &[&made], 2, vec![int("axis", 1)]);
    let gate = b.node("Sigmoid", &[&parts[1]], vec![]);
    let made = b.node("Mul", &[&parts[0], &gate], vec![]);
    let found = head(b, &made, 5);
    assert_eq!(found.free(), [5]);
    found.check();
}

#[test]
fn slices_by_attribute_count_from_either_end() {
    let mut b = Builder::new(9);
    let made = stem(&mut b, 9);
    let attributes = |starts: &[i64], ends: &[i64]| {
        vec![
            ints("axes", &[1]),
            ints("starts", starts),
            ints("ends", ends),
        ]
    };
    let first = b.node("Slice", &[&made], attributes(&[0], &[-5]));
    let second = b.node("Slice", &[&made], attributes(&[-5], &[i64::from(i32::MAX)]));
    let found = summed(b, [(&first, 4), (&second, 5)]);
    assert_eq!(found.free(), [4, 5]);
    found.check();
}

#[test]
fn slices_by_input_may_overlap_and_skip() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 9);
    let slice = |b: &mut Builder, start: i64, end: i64| {
        let (starts, ends) = (b.ints(&[1, start]), b.ints(&[-1, end]));
        let (axes, steps) = (b.ints(&[2, -3]), b.ints(&[1, 1]));
        b.node("Slice", &[&made, &starts, &ends, &axes, &steps], vec![])
    };
    let first = slice(&mut b, 1, 6);
    let second = slice(&mut b, 3, i64::MAX);
    let found = summed(b, [(&first, 5), (&second, 6)]);
    // Channel 0 is read by none of the two.
    assert_eq!(found.free(), [2, 3, 3]);
    assert!(found.is_frozen_by(1, "nothing tells what they are worth"));
    found.check();
}

#[test]
fn slices_in_steps_freeze() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let (starts, ends) = (b.ints(&[0]), b.ints(&[8]));
    let (axes, steps) = (b.ints(&[1]), b.ints(&[2]));
    let made = b.node("Slice", &[&made, &starts, &ends, &axes, &steps], vec![]);
    let found = head(b, &made, 4);
    assert!(found.is_frozen_by(8, "it takes the channels in steps or backwards"));
    assert!(found.free().is_empty());
}

#[test]
fn slices_of_space_in_steps_do_not() {
    // The focus layer of YOLOv5 on a hidden tensor.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let mut parts = Vec::new();
    for start in [0, 1] {
        let (starts, ends) = (b.ints(&[start]), b.ints(&[i64::MAX]));
        let (axes, steps) = (b.ints(&[2]), b.ints(&[2]));
        parts.push(b.node("Slice", &[&made, &starts, &ends, &axes, &steps], vec![]));
    }
    let made = b.node("Concat", &[&parts[0], &parts[1]], vec![int("axis", 1)]);
    let found = head(b, &made, 12);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn constant_indices_permute_and_repeat_channels() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let order = b.ints(&[5, 3, 1, 0, 2, 4]);
    let permuted = b.node("Gather", &[&made, &order], vec![int("axis", 1)]);
    let some = b.ints(&[1, -1, 1]);
    let repeated = b.node("Gather", &[&made, &some], vec![int("axis", 1)]);
    let found = summed(b, [(&permuted, 6), (&repeated, 3)]);
    // Channel 1 is read thrice, channel 5 twice, the others once.
    assert_eq!(found.free(), [4, 1, 1]);
    found.check();
    // Two groups of one channel each cannot get narrower.
    assert_eq!(found.plan(|_, _| true).iter().filter(|&&s| !s).count(), 3);
}

#[test]
fn a_channel_read_by_its_number_stays() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let third = b.index(3);
    let plane = b.node("Gather", &[&made, &third], vec![int("axis", 1)]);
    b.output(&plane, 3);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [5]);
    assert!(found.is_frozen_by(1, "it reads the channel by its number"));
    found.check();
}

#[test]
fn computed_indices_freeze() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let mean = pooled(&mut b, &made);
    let best = b.node("ArgMax", &[&mean], vec![int("axis", 0), int("keepdims", 0)]);
    let made = b.node("Gather", &[&made, &best], vec![int("axis", 1)]);
    let found = head(b, &made, 6);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(6, "is computed while the model runs"));
}

fn padded(opset: i64) -> Found {
    // BlazeFace widens a shortcut by zeros.
    let mut b = Builder::new(opset);
    let made = stem(&mut b, 6);
    let wide = b.pointwise(&made, 6, 9);
    let pads = [0, 1, 0, 0, 0, 2, 0, 0];
    let made = if opset < 11 {
        b.node(
            "Pad",
            &[&made],
            vec![ints("pads", &pads), float("value", 0.5)],
        )
    } else {
        let (pads, value) = (b.ints(&pads), b.floats(&[], vec![0.5]));
        b.node(
            "Pad",
            &[&made, &pads, &value],
            vec![text("mode", "constant")],
        )
    };
    let made = b.node("Add", &[&made, &wide], vec![]);
    head(b, &made, 9)
}

#[test]
fn channels_added_by_padding_can_leave() {
    for opset in [9, 13] {
        let found = padded(opset);
        // The stem's channels are read twice; those of the padding only in the sum.
        assert_eq!(found.free().iter().sum::<usize>(), 9, "opset {opset}");
        found.check();
        found.check_plan(&found.plan(|_, at| at > 0));
    }
}

#[test]
fn padding_of_some_axes_follows() {
    let mut b = Builder::new(20);
    let made = stem(&mut b, 6);
    let (pads, axes) = (b.ints(&[2, 1, 1, 0]), b.ints(&[1, -1]));
    let made = b.node("Pad", &[&made, &pads, "", &axes], vec![]);
    let found = head(b, &made, 9);
    assert_eq!(found.free().iter().sum::<usize>(), 9);
    found.check();
}

#[test]
fn padding_of_space_leaves_channels_alone() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let pads = b.ints(&[0, 0, 1, 2, 0, 0, 2, 1]);
    let made = b.node("Pad", &[&made, &pads], vec![text("mode", "reflect")]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn padding_that_repeats_channels_freezes() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let pads = b.ints(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let made = b.node("Pad", &[&made, &pads], vec![text("mode", "edge")]);
    let found = head(b, &made, 8);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(6, "it repeats channels"));
}
