//! What must stay whole, and the reason that the user reads.

use super::*;
use crate::builder::{INT64, float, int, open, subgraph};
use onnx_mipp::onnx::proto::{GraphProto, ValueInfoProto, type_proto};

/// A model whose second tensor of 6 channels is held by what `hold` makes of it; the stem's 7
/// channels must stay free.
fn held(opset: i64, reason: &str, hold: impl FnOnce(&mut Builder, &str) -> String) {
    let mut b = Builder::new(opset);
    let made = stem(&mut b, 7);
    let made = b.pointwise(&made, 7, 6);
    let made = hold(&mut b, &made);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [7], "{:?}", found.frozen());
    assert!(found.is_frozen_by(6, reason), "{:?}", found.frozen());
    found.check();
}

#[test]
fn softmax_over_channels_mixes_them() {
    held(17, "it mixes the channels", |b, made| {
        b.node("Softmax", &[made], vec![int("axis", 1)])
    });
    // Before opset 13, it runs over all axes from the one named on.
    held(11, "it mixes the channels", |b, made| {
        b.node("Softmax", &[made], vec![])
    });
}

#[test]
fn softmax_over_space_does_not() {
    for (opset, axis) in [(17, 3), (17, -2), (11, 2)] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 6);
        let made = b.node("Softmax", &[&made], vec![int("axis", axis)]);
        let found = head(b, &made, 6);
        assert_eq!(found.free(), [6], "opset {opset}, axis {axis}");
        found.check();
    }
}

#[test]
fn reductions_over_channels_need_them_all() {
    held(17, "it reduces over the channels", |b, made| {
        let mean = b.node("ReduceMean", &[made], vec![ints("axes", &[1])]);
        b.node("Mul", &[made, &mean], vec![])
    });
    held(17, "it reduces over the channels", |b, made| {
        let sum = b.node("ReduceMax", &[made], vec![]);
        b.node("Mul", &[made, &sum], vec![])
    });
    held(17, "it reduces over the channels", |b, made| {
        let best = b.node("ArgMax", &[made], vec![int("axis", -3)]);
        let best = b.node("Cast", &[&best], vec![int("to", 1)]);
        b.node("Mul", &[made, &best], vec![])
    });
}

#[test]
fn normalisation_over_channels_mixes_them() {
    held(17, "it mixes the channels", |b, made| {
        b.node("LRN", &[made], vec![int("size", 3)])
    });
    held(17, "it normalises over the channels", |b, made| {
        let (scale, bias) = (b.uniform(&[6, 6], 0.5, 1.0), b.uniform(&[6, 6], -1.0, 1.0));
        let last = b.node("Transpose", &[made], vec![ints("perm", &[0, 2, 3, 1])]);
        let inputs = [last.as_str(), &scale, &bias];
        let made = b.node("LayerNormalization", &inputs, vec![int("axis", 2)]);
        b.node("Transpose", &[&made], vec![ints("perm", &[0, 3, 1, 2])])
    });
    held(17, "it mixes the channels", |b, made| {
        b.node(
            "LpNormalization",
            &[made],
            vec![int("axis", 1), int("p", 2)],
        )
    });
}

#[test]
fn normalisation_over_space_does_not() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let (scale, bias) = (b.uniform(&[6], 0.5, 1.0), b.uniform(&[6], -1.0, 1.0));
    let inputs = [made.as_str(), &scale, &bias];
    let made = b.node("LayerNormalization", &inputs, vec![float("epsilon", 1e-3)]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn operators_without_a_rule_hold_what_they_touch() {
    held(17, "operator ScatterND has no rule", |b, made| {
        let (at, values) = (b.index(0), b.uniform(&[1, 6, 6, 6], -1.0, 1.0));
        let shape = b.ints(&[1, 1]);
        let at = b.node("Reshape", &[&at, &shape], vec![]);
        b.node("ScatterND", &[made, &at, &values], vec![])
    });
    held(
        17,
        "operator com.microsoft::Trilu has no rule",
        |b, made| {
            let made = b.node("Trilu", &[made], vec![]);
            b.in_domain("com.microsoft");
            made
        },
    );
}

/// The sum of an outer value with itself.
fn doubled(name: &str, outer: &str) -> GraphProto {
    let mut inner = Builder::new(17);
    let sum = inner.node("Add", &[outer, outer], vec![]);
    let mut graph = inner.graph;
    graph.name = Some(name.to_owned());
    graph.node[0].output = vec![format!("{name}_{sum}")];
    graph.output = vec![open(&format!("{name}_{sum}"), 4)];
    graph
}

fn branches(b: &mut Builder, left: &str, right: &str) -> String {
    let zero = b.floats(&[], vec![0.0]);
    // True, which only the run can tell.
    let sum = b.node("ReduceL1", &["x"], vec![int("keepdims", 0)]);
    let condition = b.node("Greater", &[&sum, &zero], vec![]);
    let attributes = vec![
        subgraph("then_branch", doubled("then", left)),
        subgraph("else_branch", doubled("else", right)),
    ];
    b.node("If", &[&condition], attributes)
}

#[test]
fn a_subgraph_holds_what_it_reads() {
    held(17, "a subgraph of the node reads the tensor", |b, made| {
        let other = b.pointwise("x", 4, 6);
        branches(b, made, &other)
    });
}

/// A body that adds the last of its inputs to `outer`, after what the node hands over by itself.
fn adding(inputs: Vec<ValueInfoProto>, kept: &[&str], outer: &str) -> GraphProto {
    let last = inputs.last().unwrap().name().to_owned();
    let mut nodes = vec![NodeProto {
        op_type: Some("Add".to_owned()),
        input: vec![last, outer.to_owned()],
        output: vec!["sum".to_owned()],
        ..Default::default()
    }];
    let mut outputs = Vec::new();
    for name in kept {
        let output = format!("{name}_kept");
        nodes.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            input: vec![(*name).to_owned()],
            output: vec![output.clone()],
            ..Default::default()
        });
        let mut info = inputs.iter().find(|i| i.name() == *name).unwrap().clone();
        info.name = Some(output);
        outputs.push(info);
    }
    outputs.push(open("sum", 4));
    GraphProto {
        name: Some("body".to_owned()),
        node: nodes,
        input: inputs,
        output: outputs,
        ..Default::default()
    }
}

fn scalar(name: &str, elem_type: i32) -> ValueInfoProto {
    let mut info = open(name, 0);
    if let Some(type_proto::Value::TensorType(tensor)) = &mut info.r#type.as_mut().unwrap().value {
        tensor.elem_type = Some(elem_type);
    }
    info
}

#[test]
fn loops_hold_what_they_read_and_carry() {
    const BOOL: i32 = 9;
    let mut b = Builder::new(13);
    let stem = stem(&mut b, 6);
    let read = b.pointwise(&stem, 6, 7);
    let carried = b.pointwise(&stem, 6, 7);
    let trips = b.index(2);
    let inputs = vec![
        scalar("step", INT64 as i32),
        scalar("go", BOOL),
        open("state", 4),
    ];
    let body = adding(inputs, &["go"], &read);
    let made = b.node(
        "Loop",
        &[&trips, "", &carried],
        vec![subgraph("body", body)],
    );
    let made = b.pointwise(&made, 7, 8);
    let made = b.node("Relu", &[&made], vec![]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [6, 8], "{:?}", found.frozen());
    assert!(found.is_frozen_by(7, "a subgraph of the node reads the tensor"));
    assert!(found.is_frozen_by(7, "operator Loop has no rule"));
    found.check();
}

#[test]
fn scans_hold_what_they_read_and_scan() {
    let mut b = Builder::new(13);
    let stem = stem(&mut b, 6);
    let read = b.pointwise(&stem, 6, 7);
    let scanned = b.pointwise(&stem, 6, 7);
    let axes = b.ints(&[0]);
    let stacked = b.node("Unsqueeze", &[&scanned, &axes], vec![]);
    let mut body = adding(vec![open("part", 4)], &[], &read);
    body.output = vec![open("sum", 4)];
    let attributes = vec![subgraph("body", body), int("num_scan_inputs", 1)];
    let made = b.node("Scan", &[&stacked], attributes);
    let made = b.node("Squeeze", &[&made, &axes], vec![]);
    let made = b.pointwise(&made, 7, 8);
    let made = b.node("Relu", &[&made], vec![]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [6, 8], "{:?}", found.frozen());
    assert!(found.is_frozen_by(7, "a subgraph of the node reads the tensor"));
    assert!(found.is_frozen_by(7, "operator Scan has no rule"));
    found.check();
}

#[test]
fn a_subgraph_holds_the_lengths_that_it_reads() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.node("Shape", &[&made], vec![]);
    let mean = b.node("ReduceMean", &["x"], vec![ints("axes", &[1, 2, 3])]);
    let taken = branches(&mut b, "x", "x");
    // Both branches fill the shape with a mean.
    for branch in &mut b.last().attribute {
        let node = &mut branch.g.as_mut().unwrap().node[0];
        node.op_type = Some("Expand".to_owned());
        node.input = vec![mean.clone(), shape.clone()];
    }
    let made = b.pointwise(&made, 6, 5);
    let taken = b.pointwise(&taken, 6, 5);
    let made = b.node("Add", &[&made, &taken], vec![]);
    let found = head(b, &made, 5);
    assert_eq!(found.free(), [5]);
    assert!(found.is_frozen_by(6, "a subgraph of the node reads the tensor"));
    found.check();
}

#[test]
fn outputs_of_the_model_stay() {
    held(17, "is an output of the model", |b, made| {
        b.output(made, 4);
        b.node("Relu", &[made], vec![])
    });
}

#[test]
fn channels_that_nothing_reads_linearly_have_no_measure() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.node("Shape", &[&made], vec![]);
    let first = b.index(0);
    let count = b.node("Gather", &[&shape, &first], vec![]);
    b.output_of(&count, INT64 as i32, 0);
    let made = b.pointwise("x", 4, 5);
    b.output(&made, 4);
    let found = find(b.finish());
    assert!(found.is_frozen_by(6, "nothing tells what they are worth"));
}

#[test]
fn weights_computed_while_the_model_runs_hold_their_layer() {
    held(
        17,
        "its weight is computed while the model runs",
        |b, made| {
            let weight = b.weight(&[6, 6, 1, 1], 6);
            let one = b.node("ReduceMax", &["x"], vec![int("keepdims", 0)]);
            let weight = b.node("Mul", &[&weight, &one], vec![]);
            b.node("Conv", &[made, &weight], vec![])
        },
    );
}
