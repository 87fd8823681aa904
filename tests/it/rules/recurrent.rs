//! LSTM, GRU and RNN: hidden units, and the channels that the gates read.

use super::*;
use crate::builder::{int, text};
use crate::masked::{batch, runtime};
use onnx_mipp::repair;
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery;

const STEPS: usize = 5;
const READ: usize = 6;
const UNITS: usize = 9;

/// Weights of a recurrent node: input, recurrence and biases.
fn weights(b: &mut Builder, gates: usize, directions: usize) -> [String; 3] {
    let rows = gates * UNITS;
    [
        b.weight(&[directions, rows, READ], READ),
        b.weight(&[directions, rows, UNITS], UNITS),
        b.uniform(&[directions, 2 * rows], -0.4, 0.4),
    ]
}

/// Steps of 6 numbers made by a matrix from (N, steps, 4), with the steps first.
fn steps(b: &mut Builder) -> String {
    b.input("x", &[STEPS, 4]);
    let weight = b.weight(&[4, READ], 4);
    let made = b.node("MatMul", &["x", &weight], vec![]);
    b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])])
}

/// The states of all directions side by side, and a matrix that reads them.
fn readers(mut b: Builder, states: &str, directions: usize) -> Found {
    let made = b.node("Transpose", &[states], vec![ints("perm", &[0, 2, 1, 3])]);
    let target = b.ints(&[0, 0, -1]);
    let made = b.node("Reshape", &[&made, &target], vec![]);
    let weight = b.weight(&[directions * UNITS, 5], directions * UNITS);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]);
    b.output(&made, 3);
    find(b.finish())
}

fn directed(directions: usize) -> Vec<onnx_mipp::onnx::proto::AttributeProto> {
    let name = if directions == 2 {
        "bidirectional"
    } else {
        "forward"
    };
    vec![int("hidden_size", UNITS as i64), text("direction", name)]
}

#[test]
fn hidden_units_leave_with_all_their_gates() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for directions in [1, 2] {
            let mut b = Builder::new(17);
            let input = steps(&mut b);
            let [w, r, bias] = weights(&mut b, gates, directions);
            let states = b.node(op, &[&input, &w, &r, &bias], directed(directions));
            let found = readers(b, &states, directions);
            assert_eq!(found.free(), [READ, UNITS], "{op} {:?}", found.frozen());
            let pruned = found.check();
            let node = only(&pruned, op);
            assert_eq!(attribute(node, "hidden_size"), Some(vec![6]));
            let dirs = directions as i64;
            let rows = 6 * gates as i64;
            assert_eq!(constant_shape(&pruned, node, 1), [dirs, rows, 4]);
            assert_eq!(constant_shape(&pruned, node, 2), [dirs, rows, 6]);
            assert_eq!(constant_shape(&pruned, node, 3), [dirs, 2 * rows]);
        }
    }
}

#[test]
fn last_states_and_peepholes_follow_and_first_states_that_are_constant() {
    let mut b = Builder::new(17);
    let input = steps(&mut b);
    let [w, r, bias] = weights(&mut b, 4, 1);
    let peepholes = b.uniform(&[1, 3 * UNITS], -0.5, 0.5);
    let inputs = [&input, &w, &r, &bias, "", "", "", &peepholes];
    let made = b.nodes("LSTM", &inputs, 3, directed(1));
    b.last().output[0].clear();
    let states = b.node("Concat", &[&made[1], &made[2]], vec![int("axis", 2)]);
    let axes = b.ints(&[0]);
    let flat = b.node("Squeeze", &[&states, &axes], vec![]);
    let weight = b.weight(&[2 * UNITS, 5], 2 * UNITS);
    let made = b.node("MatMul", &[&flat, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [READ, UNITS], "{:?}", found.frozen());
    found.check();
}

/// Zeros of as many samples as the input has, as exporters write them.
fn zeros(b: &mut Builder, op: &str) -> String {
    let shape = b.node("Shape", &["x"], vec![]);
    let (index, axes) = (b.index(0), b.ints(&[0]));
    let count = b.node("Gather", &[&shape, &index], vec![]);
    let count = b.node("Unsqueeze", &[&count, &axes], vec![]);
    let (one, units) = (b.ints(&[1]), b.ints(&[UNITS as i64]));
    let target = b.node("Concat", &[&one, &count, &units], vec![int("axis", 0)]);
    if op == "ConstantOfShape" {
        return b.node(op, &[&target], vec![]);
    }
    let zero = b.floats(&[1, 1, UNITS], vec![0.0; UNITS]);
    b.node(op, &[&zero, &target], vec![])
}

#[test]
fn first_states_of_a_computed_shape_follow() {
    for op in ["ConstantOfShape", "Expand"] {
        let mut b = Builder::new(17);
        let input = steps(&mut b);
        let [w, r, bias] = weights(&mut b, 3, 1);
        let state = zeros(&mut b, op);
        let inputs = [&input, &w, &r, &bias, "", &state];
        let states = b.node("GRU", &inputs, directed(1));
        let found = readers(b, &states, 1);
        assert_eq!(found.free(), [READ, UNITS], "{op} {:?}", found.frozen());
        found.check();
    }
}

#[test]
fn a_first_state_that_is_given_holds_the_units() {
    let mut b = Builder::new(17);
    let input = steps(&mut b);
    b.input("h", &[1, UNITS]);
    let state = b.node("Transpose", &["h"], vec![ints("perm", &[1, 0, 2])]);
    let [w, r, bias] = weights(&mut b, 3, 1);
    let inputs = [&input, &w, &r, &bias, "", &state];
    let states = b.node("GRU", &inputs, directed(1));
    let found = readers(b, &states, 1);
    assert_eq!(found.free(), [READ]);
    assert!(found.is_frozen_by(UNITS, "it starts from"));
    found.check();
}

/// Numbers that are combinations of others leave without a change if the gates are repaired.
#[test]
fn gates_are_repaired() {
    let mut b = Builder::new(17);
    b.input("x", &[STEPS, 4]);
    // The last two of six columns are sums of others.
    let column = |row: usize, at: usize| ((row * 7 + at * 5) % 11) as f32 / 11.0 - 0.4;
    let row = |row: usize| {
        let own: Vec<f32> = (0..4).map(|at| column(row, at)).collect();
        let sums = [own[0] + own[1], own[2] - 0.5 * own[3]];
        own.into_iter().chain(sums)
    };
    let weight = b.floats(&[4, READ], (0..4).flat_map(row).collect());
    let made = b.node("MatMul", &["x", &weight], vec![]);
    let shift = b.uniform(&[READ], -0.5, 0.5);
    let made = b.node("Add", &[&made, &shift], vec![]);
    let input = b.node("Transpose", &[&made], vec![ints("perm", &[1, 0, 2])]);
    let [w, r, _] = weights(&mut b, 4, 1);
    let states = b.node("LSTM", &[&input, &w, &r], directed(1));
    let found = readers(b, &states, 1);
    let stays = found.plan(|group, at| group == 0 && at >= 4);
    // As many as leave the covariance unshrunk, two by two: the steps come first.
    assert_eq!(found.groups.batch, Some(2));
    let data = (0..200).map(|seed| Ok(batch(&found.model, 2, 11 + seed)));
    let options = GatherOptions {
        samples: 400,
        seed: 0,
        estimator: Estimator::Gaussian,
        progress: &|_| {},
    };
    let statistics = Statistics::gather(
        &found.model,
        &found.graph,
        &found.groups,
        runtime(),
        data,
        &options,
    );
    let repaired =
        repair::repair(&found.graph, &found.groups, &statistics.unwrap(), &stays).unwrap();
    let pruned = surgery::prune(&found.model, &found.graph, &found.groups, &stays, &repaired);
    let other = batch(&found.model, 3, 5);
    let [dense, ours] = [&found.model, &pruned.unwrap()].map(|m| crate::masked::run(m, &other));
    let error = crate::masked::distance(&dense, &ours);
    assert!(error < 0.02, "differs by {error:e}");
}
