//! Model-local functions: their bodies are pruned like the rest.

use super::*;
use crate::builder::float;
use crate::masked::runtime;
use onnx_mipp::onnx::{decode, proto::*};

fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

fn function(name: &str, inputs: &[&str], output: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("local".to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        node: nodes,
        opset_import: vec![import("", 17), import("local", 1)],
        ..Default::default()
    }
}

/// An attribute that takes the value of the caller's attribute `slope`.
fn referring(name: &str) -> AttributeProto {
    let mut made = float(name, 0.0);
    made.f = None;
    made.ref_attr_name = Some("slope".to_owned());
    made
}

/// `Block(x, w)`: a convolution and `Act`, which is a LeakyRelu whose slope the caller gives.
fn model(given: Option<f32>, opset_inside: i64) -> ModelProto {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let mut made = made;
    for (inputs, outputs) in [(6, 7), (7, 6)] {
        let weight = b.weight(&[outputs, inputs, 1, 1], inputs);
        let attributes = given
            .map(|slope| float("slope", slope))
            .into_iter()
            .collect();
        made = b.node("Block", &[&made, &weight], attributes);
        b.in_domain("local");
    }
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    let mut proto = b.finish();
    let mut inner = node("LeakyRelu", "", &["x"], &["y"]);
    inner.attribute.push(referring("alpha"));
    let mut act = function("Act", &["x"], "y", vec![inner]);
    act.attribute_proto.push(float("slope", 0.3));
    let mut called = node("Act", "local", &["t"], &["y"]);
    called.attribute.push(referring("slope"));
    let conv = node("Conv", "", &["x", "w"], &["t"]);
    let mut block = function("Block", &["x", "w"], "y", vec![conv, called]);
    block.attribute_proto.push(float("slope", 0.6));
    block.opset_import[0].version = Some(opset_inside);
    proto.functions = vec![act, block];
    proto
}

#[test]
fn bodies_of_functions_are_pruned() {
    for given in [None, Some(0.05)] {
        let proto = model(given, 17);
        let bytes = Model {
            proto: proto.clone(),
        }
        .encode()
        .unwrap();
        let original = decode(bytes.into(), None).unwrap();
        let inlined = original.inlined();
        assert!(inlined.proto.functions.is_empty());
        let found = find(inlined.proto.clone());
        assert_eq!(found.free(), [6, 7, 6]);
        found.check();
        // The truth about the bodies: ONNX Runtime, which inlines functions on its own.
        let values: Vec<f32> = (0..144).map(|i| (i as f32 * 0.7).sin()).collect();
        let data = onnx_mipp::onnx::Tensor::from_f32(&[1, 4, 6, 6], values).unwrap();
        let batch = vec![("x".to_owned(), data)];
        let run = |model: &Model| {
            let mut session = runtime().session(model).unwrap();
            let outputs = session.outputs();
            session
                .run(&batch, &outputs)
                .unwrap()
                .remove(0)
                .to_f64()
                .unwrap()
        };
        let (left, right) = (run(&original), run(&inlined));
        assert!(left.iter().zip(&right).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn a_function_of_another_opset_stays_an_operator() {
    let proto = model(None, 13);
    let inlined = Model { proto }.inlined();
    assert_eq!(inlined.proto.functions.len(), 2);
    let found = find(inlined.proto);
    assert!(found.is_frozen_by(6, "operator local::Block has no rule"));
}

#[test]
fn bodies_without_names_are_put_in_place() {
    let mut b = Builder::new(17);
    let mut made = stem(&mut b, 6);
    for _ in 0..2 {
        made = b.node("Soft", &[&made], vec![]);
        b.in_domain("local");
    }
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    let mut proto = b.finish();
    proto.opset_import.truncate(2);
    // Three nodes without a name, called by nodes with one.
    let nodes = vec![
        node("Tanh", "", &["x"], &["t"]),
        node("Tanh", "", &["t"], &["u"]),
        node("Add", "", &["t", "u"], &["y"]),
    ];
    proto.functions = vec![function("Soft", &["x"], "y", nodes)];
    let inlined = Model { proto }.inlined();
    let found = find(inlined.proto);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn what_branches_of_a_body_make_hides_nothing_of_the_model() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    // A value of the main graph with the name that a branch gives one of its own.
    let own = b.node("Relu", &[&made], vec![]);
    b.last().output = vec!["inner".to_owned()];
    b.last().name = Some("main_relu".to_owned());
    let _ = own;
    let mut made = "inner".to_owned();
    for _ in 0..2 {
        made = b.node("Choose", &[&made], vec![]);
        b.in_domain("local");
    }
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    let mut proto = b.finish();
    proto.opset_import.truncate(2);
    let branch = |op: &str| GraphProto {
        name: Some("branch".to_owned()),
        node: vec![
            node(op, "", &["x"], &["inner"]),
            node("Identity", "", &["inner"], &["result"]),
        ],
        output: vec![crate::builder::open("result", 4)],
        ..Default::default()
    };
    let mut sum = node("ReduceSum", "", &["x"], &["sum"]);
    sum.attribute.push(crate::builder::int("keepdims", 0));
    let mut choice = node("If", "", &["condition"], &["y"]);
    choice.attribute = vec![
        crate::builder::subgraph("then_branch", branch("Tanh")),
        crate::builder::subgraph("else_branch", branch("Sigmoid")),
    ];
    let nodes = vec![
        sum,
        node("Greater", "", &["sum", "sum"], &["condition"]),
        choice,
    ];
    proto.functions = vec![function("Choose", &["x"], "y", nodes)];
    let original = Model { proto };
    let inlined = original.inlined();
    let main = inlined.proto.graph.as_ref().unwrap();
    let own: Vec<&String> = main.node.iter().flat_map(|node| &node.output).collect();
    let choices = main.node.iter().filter(|node| node.op_type() == "If");
    let bodies = choices.flat_map(|node| node.attribute.iter().filter_map(|a| a.g.as_ref()));
    let mut count = 0;
    for name in bodies
        .flat_map(|body| &body.node)
        .flat_map(|node| &node.output)
    {
        assert!(!own.contains(&name), "{name}");
        count += 1;
    }
    assert_eq!(count, 8);
    let data = crate::masked::batch(&original, 2, 5);
    let [before, after] = [&original, &inlined].map(|model| crate::masked::run(model, &data));
    assert!(crate::masked::distance(&before, &after) < 1e-6);
}
