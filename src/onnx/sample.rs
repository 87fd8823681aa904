//! A small model for the tests: weights in raw and typed fields, a subgraph, a function.

use super::{Model, Tensor, proto::*};

pub(crate) fn model() -> Model {
    let weight = Tensor::from_f32(&[3, 2, 1, 1], (0..6).map(|v| v as f32).collect());
    let bias = TensorProto {
        name: Some("b".to_owned()),
        dims: vec![3],
        data_type: Some(1),
        float_data: vec![0.5, -1.0, 2.0],
        ..TensorProto::default()
    };
    let flag = TensorProto {
        name: Some("flag".to_owned()),
        data_type: Some(9),
        int32_data: vec![1],
        ..TensorProto::default()
    };
    let branch = |name: &str| attribute_graph(name, branch(name));
    let mut choice = node("If", &["flag"], &["y"]);
    choice.attribute = vec![branch("then_branch"), branch("else_branch")];
    let graph = GraphProto {
        name: Some("main".to_owned()),
        node: vec![node("Conv", &["x", "w", "b", ""], &["c"]), choice],
        initializer: vec![weight.unwrap().to_proto("w"), bias, flag],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let function = FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["d".to_owned()],
        node: vec![node("Add", &["a", "a"], &["d"])],
        ..FunctionProto::default()
    };
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(graph),
        functions: vec![function],
        ..ModelProto::default()
    };
    Model { proto }
}

/// Adds a constant to the outer value "c".
fn branch(name: &str) -> GraphProto {
    let constant = Tensor::from_f32(&[1], vec![3.0]).unwrap().to_proto("");
    let mut source = node("Constant", &[], &["k"]);
    source.attribute = vec![AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Tensor as i32),
        t: Some(constant),
        ..AttributeProto::default()
    }];
    GraphProto {
        name: Some(name.to_owned()),
        node: vec![source, node("Add", &["c", "k"], &["s"])],
        output: vec![value("s")],
        ..GraphProto::default()
    }
}

fn attribute_graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_proto::AttributeType::Graph as i32),
        g: Some(graph),
        ..AttributeProto::default()
    }
}

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        name: Some(format!("{op_type}_1")),
        op_type: Some(op_type.to_owned()),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

pub(crate) fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    }
}

/// The dense initializer number `i` of the main graph.
pub(crate) fn initializer(model: &mut Model, i: usize) -> &mut TensorProto {
    &mut model.proto.graph.as_mut().unwrap().initializer[i]
}

/// The tensor of the Constant in the first branch of the If.
pub(crate) fn constant(model: &mut Model) -> &mut TensorProto {
    let graph = model.proto.graph.as_mut().unwrap();
    let body = graph.node[1].attribute[0].g.as_mut().unwrap();
    body.node[0].attribute[0].t.as_mut().unwrap()
}

/// Marks a tensor as external; its data moves to raw_data.
pub(crate) fn mark(tensor: &mut TensorProto) {
    Tensor::from_proto(tensor).unwrap().store(tensor);
    tensor.data_location = Some(tensor_proto::DataLocation::External as i32);
}
