//! Concat and the sums that meet it.

use super::*;
use crate::builder::int;
use onnx_mipp::graph::GroupId;

#[test]
fn a_chain_of_concats_lays_groups_end_to_end() {
    let mut b = Builder::new(17);
    let mut all = stem(&mut b, 4);
    for (width, grown) in [(4, 3), (7, 5)] {
        let more = b.pointwise(&all, width, grown);
        all = b.node("Concat", &[&all, &more], vec![int("axis", 1)]);
    }
    let found = head(b, &all, 12);
    assert_eq!(found.free(), [4, 3, 5]);
    let readers: Vec<usize> = found
        .groups
        .groups
        .iter()
        .map(|g| g.consumers.len())
        .collect();
    assert_eq!(readers[..3], [3, 2, 1]);
    found.check();
}

#[test]
fn a_tensor_may_be_joined_with_itself() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 5);
    let made = b.node("Concat", &[&made, &made], vec![int("axis", -3)]);
    let found = head(b, &made, 10);
    assert_eq!(found.free(), [5]);
    found.check();
}

#[test]
fn constant_channels_can_leave() {
    let mut b = Builder::new(17);
    b.ir = 8;
    b.input("x", &[4, 6, 6]);
    let weight = b.weight(&[5, 4, 1, 1], 4);
    let made = b.node("Conv", &["x", &weight], vec![]);
    // Space is summed away, so that a constant of batch 1 can stand beside the channels.
    let made = b.node("ReduceMean", &[&made], vec![ints("axes", &[0])]);
    let rest = b.uniform(&[1, 3, 6, 6], 0.5, 1.0);
    let made = b.node("Concat", &[&made, &rest], vec![int("axis", 1)]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [5, 3]);
    let pruned = found.check();
    let rest = constant_shape(&pruned, only(&pruned, "Concat"), 1);
    assert_eq!(rest, [1, 2, 6, 6]);
}

#[test]
fn channels_of_the_input_stay_beside_others() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let made = b.node("Concat", &["x", &made], vec![int("axis", 1)]);
    let found = head(b, &made, 10);
    assert_eq!(found.free(), [6]);
    assert!(found.is_frozen_by(4, "they come from 'x', which is not pruned"));
    found.check();
}

#[test]
fn a_concat_along_space_ties_channels() {
    let mut b = Builder::new(17);
    let left = stem(&mut b, 6);
    let right = b.pointwise("x", 4, 6);
    let made = b.node("Concat", &[&left, &right], vec![int("axis", 3)]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    assert_eq!(found.groups.groups[GroupId::from(0)].producers.len(), 2);
    found.check();
}

#[test]
fn a_concat_along_space_with_the_input_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 4);
    let made = b.node("Concat", &[&made, "x"], vec![int("axis", 2)]);
    let found = head(b, &made, 4);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(4, "it joins the channels with 'x'"));
}

#[test]
fn a_sum_with_the_input_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 4);
    let made = b.node("Add", &["x", &made], vec![]);
    let found = head(b, &made, 4);
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(4, "it combines the channels with 'x', which is not pruned"));
}

#[test]
fn groups_that_meet_in_parts_only_keep_their_parts() {
    // 6 channels meet 2 and 4 others: two groups of 2 and 4.
    let mut b = Builder::new(17);
    let whole = stem(&mut b, 6);
    let (first, second) = (b.pointwise("x", 4, 2), b.pointwise("x", 4, 4));
    let joined = b.node("Concat", &[&first, &second], vec![int("axis", 1)]);
    let made = b.node("Add", &[&whole, &joined], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [2, 4]);
    found.check();
}
