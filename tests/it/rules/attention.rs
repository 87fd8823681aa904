//! Attention as many small nodes: heads leave whole, or channels inside them.

use super::*;
use crate::builder::{INT64, int};
use crate::masked::find_with;
use onnx_mipp::graph::GroupId;
use onnx_mipp::groups::{Heads, Scope};

pub(super) const HEAD_DIM: Scope = Scope {
    heads: Heads::Inside,
    normalized: false,
};
/// Positions, heads and the length of a head's inner axis.
pub(super) const LENGTH: usize = 5;
pub(super) const HEADS: i64 = 4;
pub(super) const INNER: i64 = 6;
pub(super) const WIDTH: usize = (HEADS * INNER) as usize;

/// Positions of 8 numbers as the model's input, and a matrix to `outputs` of them.
pub(super) fn rows(b: &mut Builder, input: &str, inputs: usize, outputs: usize) -> String {
    let weight = b.weight(&[inputs, outputs], inputs);
    let bias = b.uniform(&[outputs], -0.5, 0.5);
    let made = b.node("MatMul", &[input, &weight], vec![]);
    b.node("Add", &[&bias, &made], vec![])
}

/// (N, L, C) as (N, heads, L, inner).
pub(super) fn heads(b: &mut Builder, input: &str, heads: i64) -> String {
    let shape = b.ints(&[0, 0, heads, -1]);
    let apart = b.node("Reshape", &[input, &shape], vec![]);
    b.node("Transpose", &[&apart], vec![ints("perm", &[0, 2, 1, 3])])
}

/// The softmax of the scores times the values, with heads before positions.
pub(super) fn attend(b: &mut Builder, query: &str, key: &str, value: &str) -> String {
    let turned = b.node("Transpose", &[key], vec![ints("perm", &[0, 1, 3, 2])]);
    let scores = b.node("MatMul", &[query, &turned], vec![]);
    let scale = b.floats(&[], vec![0.4]);
    let scores = b.node("Mul", &[&scores, &scale], vec![]);
    let mask = b.uniform(&[1, 1, LENGTH, LENGTH], -2.0, 0.0);
    let scores = b.node("Add", &[&scores, &mask], vec![]);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    b.node("MatMul", &[&scores, value], vec![])
}

/// Heads side by side again and a matrix to the model's output.
pub(super) fn finish(mut b: Builder, heads: &str, width: usize, scope: Scope) -> Found {
    let back = b.node("Transpose", &[heads], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = b.ints(&[0, 0, width as i64]);
    let rejoined = b.node("Reshape", &[&back, &shape], vec![]);
    let made = rows(&mut b, &rejoined, width, 5);
    b.output(&made, 3);
    find_with(b.finish(), scope)
}

pub(super) fn separate(scope: Scope) -> Found {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let made = rows(&mut b, "x", 8, WIDTH);
        parts.push(heads(&mut b, &made, HEADS));
    }
    let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
    finish(b, &made, WIDTH, scope)
}

#[test]
fn heads_leave_whole() {
    let found = separate(Scope::default());
    assert_eq!(found.free(), [HEADS as usize]);
    let group = &found.groups.groups[GroupId::from(0)];
    assert_eq!(group.producers.len(), 3);
    assert_eq!(group.positions, INNER as usize);
    found.check();
}

#[test]
fn channels_inside_the_heads_leave_when_asked() {
    let found = separate(HEAD_DIM);
    // Those that the scores are summed over, and those of the values.
    assert_eq!(found.free(), [INNER as usize; 2]);
    found.check();
}

/// One matrix for queries, keys and values, cut by `cut` into three of (N, heads, L, inner).
pub(super) fn fused(scope: Scope, cut: impl Fn(&mut Builder, &str) -> Vec<String>) -> Found {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let all = rows(&mut b, "x", 8, 3 * WIDTH);
    let parts = cut(&mut b, &all);
    let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
    finish(b, &made, WIDTH, scope)
}

#[test]
fn a_fused_projection_that_is_split_keeps_its_parts_apart() {
    let split = |b: &mut Builder, all: &str| {
        let sizes = b.ints(&[WIDTH as i64; 3]);
        let parts = b.nodes("Split", &[all, &sizes], 3, vec![int("axis", -1)]);
        parts.iter().map(|part| heads(b, part, HEADS)).collect()
    };
    let found = fused(Scope::default(), split);
    assert_eq!(found.free(), [HEADS as usize]);
    found.check();
    let found = fused(HEAD_DIM, split);
    assert_eq!(found.free(), [INNER as usize; 2]);
    found.check();
}

#[test]
fn a_fused_projection_in_five_axes_stays_a_block() {
    let reshape = |b: &mut Builder, all: &str| {
        let shape = b.ints(&[0, 0, 3, HEADS, INNER]);
        let apart = b.node("Reshape", &[all, &shape], vec![]);
        let apart = b.node("Transpose", &[&apart], vec![ints("perm", &[2, 0, 3, 1, 4])]);
        let part = |b: &mut Builder, index| {
            let index = b.index(index);
            b.node("Gather", &[&apart, &index], vec![int("axis", 0)])
        };
        (0..3).map(|index| part(b, index)).collect()
    };
    let found = fused(Scope::default(), reshape);
    assert_eq!(found.free(), [HEADS as usize]);
    found.check();
    // Queries, keys and values share one tensor, whose inner axis is as long for all of them.
    let found = fused(HEAD_DIM, reshape);
    assert_eq!(found.free(), [INNER as usize]);
    found.check();
}

#[test]
fn heads_that_share_an_axis_with_the_batch_leave_whole() {
    // (L, N, C) as (L, N * heads, inner), with lengths from the run.
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let count = |b: &mut Builder, of: &str, axis: i64| {
        let shape = b.node("Shape", &[of], vec![]);
        let axis = b.ints(&[axis]);
        b.node("Gather", &[&shape, &axis], vec![])
    };
    let samples = count(&mut b, "x", 0);
    let factor = b.ints(&[HEADS]);
    let both = b.node("Mul", &[&samples, &factor], vec![]);
    let (length, inner) = (b.ints(&[LENGTH as i64]), b.ints(&[INNER]));
    let mut parts = Vec::new();
    for _ in 0..3 {
        let made = rows(&mut b, "x", 8, WIDTH);
        let made = b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]);
        let inputs = [length.as_str(), &both, &inner];
        let shape = b.node("Concat", &inputs, vec![int("axis", 0)]);
        let made = b.node("Reshape", &[&made, &shape], vec![]);
        parts.push(b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]));
    }
    let turned = b.node("Transpose", &[&parts[1]], vec![ints("perm", &[0, 2, 1])]);
    let scores = b.node("MatMul", &[&parts[0], &turned], vec![]);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("MatMul", &[&scores, &parts[2]], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]);
    // The width comes from another tensor that is as wide by chance.
    let other = rows(&mut b, "x", 8, WIDTH);
    let width = count(&mut b, &other, 2);
    let shape = b.node("Concat", &[&length, &samples, &width], vec![int("axis", 0)]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]);
    let made = rows(&mut b, &made, WIDTH, 5);
    let other = b.node("Tanh", &[&other], vec![]);
    let other = rows(&mut b, &other, WIDTH, 5);
    let made = b.node("Add", &[&made, &other], vec![]);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [HEADS as usize, WIDTH]);
    found.check();
}

#[test]
fn the_layers_of_an_exporter_that_shares_shapes_stay_apart() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let shape = b.node("Shape", &["x"], vec![]);
    let (zero, one) = (b.ints(&[0]), b.ints(&[1]));
    let samples = b.node("Gather", &[&shape, &zero], vec![]);
    let length = b.node("Gather", &[&shape, &one], vec![]);
    let (count, inner, width) = (b.ints(&[HEADS]), b.ints(&[INNER]), b.ints(&[WIDTH as i64]));
    let inputs = [samples.as_str(), &length, &count, &inner];
    let apart = b.node("Concat", &inputs, vec![int("axis", 0)]);
    let whole = b.node("Concat", &[&samples, &length, &width], vec![int("axis", 0)]);
    let (mut from, mut inputs) = ("x".to_owned(), 8);
    for _ in 0..2 {
        let mut parts = Vec::new();
        for _ in 0..3 {
            let made = rows(&mut b, &from, inputs, WIDTH);
            let made = b.node("Reshape", &[&made, &apart], vec![]);
            parts.push(b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]));
        }
        let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
        let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
        let made = b.node("Reshape", &[&made, &whole], vec![]);
        (from, inputs) = (rows(&mut b, &made, WIDTH, 5), 5);
    }
    b.output(&from, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [HEADS as usize, 5, HEADS as usize]);
    let stays = found.plan(|group, at| at % 3 == 0 && (group != 0 || at == 0));
    found.check_plan(&stays);
}

/// Four query heads for each of two heads of keys and values, which an Expand repeats.
#[test]
fn queries_leave_with_the_keys_that_they_share() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let query = rows(&mut b, "x", 8, 8 * 3);
    let query = heads(&mut b, &query, 8);
    let mut repeated = Vec::new();
    for _ in 0..2 {
        let made = rows(&mut b, "x", 8, 2 * 3);
        let made = heads(&mut b, &made, 2);
        let axis = b.ints(&[2]);
        let made = b.node("Unsqueeze", &[&made, &axis], vec![]);
        let target = b.ints(&[1, 2, 4, LENGTH as i64, 3]);
        let made = b.node("Expand", &[&made, &target], vec![]);
        let shape = b.ints(&[0, 8, LENGTH as i64, -1]);
        repeated.push(b.node("Reshape", &[&made, &shape], vec![]));
    }
    let made = attend(&mut b, &query, &repeated[0], &repeated[1]);
    let found = finish(b, &made, 24, Scope::default());
    assert_eq!(found.free(), [2]);
    found.check();
}

#[test]
fn a_target_of_an_expand_with_a_test_for_minus_one_is_followed() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let query = rows(&mut b, "x", 8, WIDTH);
    let query = heads(&mut b, &query, HEADS);
    let shape = b.node("Shape", &["x"], vec![]);
    let zero = b.ints(&[0]);
    let samples = b.node("Gather", &[&shape, &zero], vec![]);
    let rest = b.ints(&[HEADS, LENGTH as i64, INNER]);
    let target = b.node("Concat", &[&samples, &rest], vec![int("axis", 0)]);
    let minus = b.ints(&[-1; 4]);
    let test = b.node("Equal", &[&target, &minus], vec![]);
    let ones = b.ints(&[1; 4]);
    let target = b.node("Where", &[&test, &ones, &target], vec![]);
    let same = b.node("Expand", &[&query, &target], vec![]);
    let found = finish(b, &same, WIDTH, Scope::default());
    // No product of activations: the longer axis of the split, and no reason to hold either.
    assert_eq!(found.free(), [INNER as usize]);
    found.check();
}

#[test]
fn scores_that_leave_the_model_hold_the_heads() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let made = rows(&mut b, "x", 8, WIDTH);
        parts.push(heads(&mut b, &made, HEADS));
    }
    let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
    let scores = b.last().input[0].clone();
    b.output(&scores, 4);
    let found = finish(b, &made, WIDTH, Scope::default());
    assert!(found.is_frozen_by(HEADS as usize, "is an output of the model"));
}

#[test]
fn one_head_without_a_name_for_it_is_judged_by_its_scores() {
    // As in a non-local block: queries and keys meet over all their channels.
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let (query, key) = (rows(&mut b, "x", 8, 6), rows(&mut b, "x", 8, 6));
    let value = rows(&mut b, "x", 8, 7);
    let key = b.node("Transpose", &[&key], vec![ints("perm", &[0, 2, 1])]);
    let scores = b.node("MatMul", &[&query, &key], vec![]);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("MatMul", &[&scores, &value], vec![]);
    let made = rows(&mut b, &made, 7, 5);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    assert_eq!(found.groups.groups[GroupId::from(0)].consumers.len(), 2);
    found.check();
}

#[test]
fn a_product_with_something_that_is_not_pruned_holds_its_channels() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let query = rows(&mut b, "x", 8, 8);
    let turned = b.node("Transpose", &["x"], vec![ints("perm", &[0, 2, 1])]);
    let scores = b.node("MatMul", &[&query, &turned], vec![]);
    let made = rows(&mut b, &scores, LENGTH, 5);
    b.output(&made, 3);
    let found = find(b.finish());
    assert!(found.is_frozen_by(8, "it multiplies the channels with"));
}

#[test]
fn a_table_read_by_numbers_makes_channels() {
    // Token numbers, here computed from the input, and a matrix that reads the rows.
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let best = b.node("ArgMax", &["x"], vec![int("axis", -1), int("keepdims", 0)]);
    let ids = b.node("Cast", &[&best], vec![int("to", INT64)]);
    let table = b.uniform(&[8, 6], -1.0, 1.0);
    let made = b.node("Gather", &[&table, &ids], vec![]);
    let places = b.uniform(&[1, LENGTH, 6], -1.0, 1.0);
    let made = b.node("Add", &[&made, &places], vec![]);
    let made = rows(&mut b, &made, 6, 5);
    b.output(&made, 3);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    let pruned = found.check();
    assert_eq!(constant_shape(&pruned, only(&pruned, "Gather"), 0), [8, 4]);
}

/// One head of keys and values for all heads of queries, met by broadcasting or repeated by an
/// Expand.
pub(super) fn multi_query(repeats: bool) -> Builder {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let query = rows(&mut b, "x", 8, WIDTH);
    let query = heads(&mut b, &query, HEADS);
    let mut shared = Vec::new();
    for _ in 0..2 {
        let made = rows(&mut b, "x", 8, INNER as usize);
        let axis = b.ints(&[1]);
        let mut made = b.node("Unsqueeze", &[&made, &axis], vec![]);
        if repeats {
            let target = b.ints(&[1, HEADS, LENGTH as i64, INNER]);
            made = b.node("Expand", &[&made, &target], vec![]);
        }
        shared.push(made);
    }
    let made = attend(&mut b, &query, &shared[0], &shared[1]);
    let back = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = b.ints(&[0, 0, WIDTH as i64]);
    let rejoined = b.node("Reshape", &[&back, &shape], vec![]);
    let made = rows(&mut b, &rejoined, WIDTH, 5);
    b.output(&made, 3);
    b
}

#[test]
fn heads_of_queries_leave_alone_where_keys_have_one() {
    for repeats in [false, true] {
        let found = find(multi_query(repeats).finish());
        assert_eq!(found.free(), [HEADS as usize], "{:?}", found.frozen());
        assert!(found.is_frozen_by(INNER as usize, "it merges two axes of channels"));
        found.check();
    }
}

/// The same with an Expand of five axes, as exporters write it for any number of heads.
#[test]
fn one_head_repeated_as_several_would_be_leaves_the_queries_free() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let query = rows(&mut b, "x", 8, WIDTH);
    let query = heads(&mut b, &query, HEADS);
    let mut repeated = Vec::new();
    for _ in 0..2 {
        let made = rows(&mut b, "x", 8, INNER as usize);
        let made = heads(&mut b, &made, 1);
        let axis = b.ints(&[2]);
        let made = b.node("Unsqueeze", &[&made, &axis], vec![]);
        let target = b.ints(&[1, 1, HEADS, LENGTH as i64, INNER]);
        let made = b.node("Expand", &[&made, &target], vec![]);
        let shape = b.ints(&[0, HEADS, LENGTH as i64, INNER]);
        repeated.push(b.node("Reshape", &[&made, &shape], vec![]));
    }
    let made = attend(&mut b, &query, &repeated[0], &repeated[1]);
    let found = finish(b, &made, WIDTH, Scope::default());
    assert_eq!(found.free(), [HEADS as usize], "{:?}", found.frozen());
    found.check();
}
