//! Where weights are kept: shared, computed, in Constant nodes, listed as inputs.

use super::*;
use crate::builder::{dims, int, lengths, stated};

/// Two layers side by side with one bias, an initializer, and the sum of what they make.
fn of_one_bias(b: &mut Builder) -> (String, String) {
    b.input("x", &[4, 6, 6]);
    let bias = b.uniform(&[6], -1.0, 1.0);
    let mut layer = || {
        let weight = b.weight(&[6, 4, 1, 1], 4);
        let made = b.node("Conv", &["x", &weight, &bias], vec![]);
        let made = b.node("Tanh", &[&made], vec![]);
        b.pointwise(&made, 6, 6)
    };
    let (left, right) = (layer(), layer());
    (b.node("Add", &[&left, &right], vec![]), bias)
}

#[test]
fn a_bias_of_two_layers_is_unshared_where_their_cuts_differ() {
    let mut b = Builder::new(17);
    let (made, bias) = of_one_bias(&mut b);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6, 6, 6]);
    // Equal cuts share on, and different ones do not.
    let plan = |leaves: [usize; 3]| found.plan(move |group, at| at == leaves[group]);
    let biases = |model: &Model| {
        let nodes = model.proto.graph.as_ref().unwrap().node.iter();
        let reads = nodes.filter(|node| found.graph.find(&node.input[0]) == found.graph.find("x"));
        reads.map(|node| node.input[2].clone()).collect::<Vec<_>>()
    };
    let alike = biases(&found.check_plan(&plan([2, 2, 4])));
    assert_eq!(alike, [bias.clone(), bias.clone()]);
    let apart = biases(&found.check_plan(&plan([2, 3, 4])));
    assert!(!apart.contains(&bias));
    assert_ne!(apart[0], apart[1]);
    // A layer that is not cut keeps the tensor as it is.
    let one = found.check_plan(&found.plan(|group, at| group == 0 && at == 1));
    assert_eq!(biases(&one)[1], bias);
}

#[test]
fn weights_may_lie_in_constant_nodes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let (weight, bias) = (b.weight(&[7, 6, 1, 1], 6), b.uniform(&[7], -1.0, 1.0));
    let made = b.node("Conv", &[&made, &weight, &bias], vec![]);
    let target = b.ints(&[0, 7, -1]);
    let made = b.node("Reshape", &[&made, &target], vec![]);
    for name in [&weight, &bias, &target] {
        b.as_constant_node(name);
    }
    let back = b.ints(&[0, 0, 6, 6]);
    let made = b.node("Reshape", &[&made, &back], vec![]);
    let found = head(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    let pruned = found.check();
    let constants = &pruned.proto.graph.as_ref().unwrap().node;
    assert_eq!(
        constants
            .iter()
            .filter(|n| n.op_type() == "Constant")
            .count(),
        3
    );
}

#[test]
fn stated_shapes_of_constant_nodes_follow() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let weight = b.weight(&[7, 6, 1, 1], 6);
    b.as_constant_node(&weight);
    b.graph.value_info.push(stated(&weight, &[7, 6, 1, 1]));
    let made = b.node("Conv", &[&made, &weight], vec![]);
    let found = head(b, &made, 7);
    let pruned = found.check();
    let info = &pruned.proto.graph.as_ref().unwrap().value_info[0];
    assert_eq!(lengths(info), [Some(4), Some(4), Some(1), Some(1)]);
}

#[test]
fn weights_may_lie_behind_other_nodes() {
    const DOUBLE: i64 = 11;
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let flat = pooled(&mut b, &made);
    let weight = b.weight(&[7, 6], 6);
    let weight = b.node("Transpose", &[&weight], vec![ints("perm", &[1, 0])]);
    let made = b.node("MatMul", &[&flat, &weight], vec![]);
    let bias = b.uniform(&[7], -1.0, 1.0);
    let bias = b.node("Identity", &[&bias], vec![]);
    let made = b.node("Add", &[&made, &bias], vec![]);
    let weight = b.weight(&[7, 5], 7);
    let weight = b.node("Cast", &[&weight], vec![int("to", DOUBLE)]);
    let weight = b.node("Cast", &[&weight], vec![int("to", 1)]);
    let made = b.node("MatMul", &[&made, &weight], vec![]);
    b.output(&made, 2);
    let found = find(b.finish());
    assert_eq!(found.free(), [6, 7]);
    let pruned = found.check();
    let nodes = &pruned.proto.graph.as_ref().unwrap().node;
    let left = |op: &str| nodes.iter().filter(|n| n.op_type() == op).count();
    // What makes the weights of what is stored stays, and makes less.
    assert_eq!(
        (left("Transpose"), left("Identity"), left("Cast")),
        (1, 1, 2)
    );
}

#[test]
fn biases_may_be_computed_from_constants() {
    // Raw exports of the dynamo kind: a fill value, cast like the data and expanded.
    let mut b = Builder::new(18);
    let made = stem(&mut b, 6);
    let (half, shape) = (b.floats(&[], vec![0.5]), b.ints(&[7]));
    let half = b.node("CastLike", &[&half, &made], vec![]);
    let bias = b.node("Expand", &[&half, &shape], vec![]);
    let weight = b.weight(&[7, 6, 1, 1], 6);
    let made = b.node("Conv", &[&made, &weight, &bias], vec![]);
    let found = head(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    assert!(found.is_inferred);
    found.check();
}

#[test]
fn a_weight_that_is_an_output_too_keeps_its_shape() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let weight = b.weight(&[7, 6, 1, 1], 6);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    let shown = b.node("Identity", &[&weight], vec![]);
    b.output(&shown, 4);
    let found = head(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

#[test]
fn two_outputs_hold_their_own_channels_only() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let side = b.pointwise(&made, 8, 3);
    b.output(&side, 4);
    let made = b.pointwise(&made, 8, 6);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [8, 6]);
    assert!(found.is_frozen_by(3, "is an output of the model"));
    found.check();
}

#[test]
fn several_inputs_are_fine() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    b.input("y", &[3, 6, 6]);
    let other = b.pointwise("y", 3, 8);
    let made = b.node("Add", &[&made, &other], vec![]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [8]);
    found.check();
}

/// Lists all initializers as inputs, as files before IR version 4 must.
fn listed(mut b: Builder, made: &str, channels: usize) -> Found {
    b.ir = 3;
    let made = b.pointwise(made, channels, 5);
    b.output(&made, 4);
    for stored in b.graph.initializer.clone() {
        let shape: Vec<usize> = stored.dims.iter().map(|&d| d as usize).collect();
        b.graph.input.push(stated(stored.name(), &shape));
    }
    find(b.finish())
}

/// All initializers are listed with their shapes, and nothing else but the data.
fn check_listing(pruned: &Model, data: usize) {
    let main = pruned.proto.graph.as_ref().unwrap();
    assert_eq!(main.input.len(), main.initializer.len() + data);
    for stored in &main.initializer {
        let named = |info: &&onnx_mipp::onnx::proto::ValueInfoProto| info.name() == stored.name();
        let info = main.input.iter().find(named);
        let info = info.unwrap_or_else(|| panic!("{} is not listed", stored.name()));
        let dims: Vec<_> = stored.dims.iter().map(|&d| Some(d as usize)).collect();
        assert_eq!(lengths(info), dims, "{}", stored.name());
    }
}

#[test]
fn initializers_that_are_listed_as_inputs_follow() {
    let mut b = Builder::new(8);
    let made = stem(&mut b, 6);
    let made = b.pointwise(&made, 6, 7);
    let found = listed(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    check_listing(&found.check(), 1);
}

#[test]
fn unshared_initializers_are_listed_as_inputs_too() {
    let mut b = Builder::new(8);
    let (made, _) = of_one_bias(&mut b);
    let found = listed(b, &made, 6);
    check_listing(&found.check_plan(&found.plan(|group, at| at == group)), 1);
}

#[test]
fn stated_shapes_of_hidden_tensors_follow() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    b.graph.value_info.push(stated(&made, &[2, 6, 6, 6]));
    // The batch is open, as in the file.
    *dims(&mut b.graph.value_info[0]).first_mut().unwrap() = Default::default();
    let found = head(b, &made, 6);
    let pruned = found.check();
    let stated = &pruned.proto.graph.as_ref().unwrap().value_info[0];
    assert_eq!(lengths(stated), [None, Some(4), Some(6), Some(6)]);
}

#[test]
fn indices_shared_with_another_node_are_unshared() {
    // The same numbers cut channels in one place and space in another.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let order = b.ints(&[5, 3, 1, 0, 2, 4]);
    let made = b.node("Gather", &[&made, &order], vec![int("axis", 1)]);
    let made = b.node("Gather", &[&made, &order], vec![int("axis", 3)]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}
