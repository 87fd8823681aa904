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
