//! Nodes that other stages add to a model: they exist in every opset that ONNX Runtime runs.

use crate::groups::{Attribute, BackwardGraph};
use crate::onnx::DataType;
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Length};
use crate::onnx::proto::type_proto::{Tensor as TensorType, Value};
use crate::onnx::proto::{
    AttributeProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto,
};

/// A graph input of positions: int64 of one free dimension.
#[must_use]
pub fn positions_input(name: &str) -> ValueInfoProto {
    tensor_input(name, DataType::Int64.code(), Some(&[None]))
}

/// A graph input of the element type with that code and of that shape, where it is known; sizes may
/// be open.
#[must_use]
pub fn tensor_input(name: &str, elem_type: i32, shape: Option<&[Option<i64>]>) -> ValueInfoProto {
    let dimension = |size: &Option<i64>| Dimension {
        value: size.map(Length::DimValue),
        ..Default::default()
    };
    let tensor = TensorType {
        elem_type: Some(elem_type),
        shape: shape.map(|shape| TensorShapeProto {
            dim: shape.iter().map(dimension).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An output of which ONNX Runtime finds type and shape.
#[must_use]
pub fn bare_output(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

/// `source` in another shape.
#[must_use]
pub fn reshape_node(source: &str, shape: &str, output: &str) -> NodeProto {
    node("Reshape", &[source, shape], output)
}

/// Reshape `source` to `shape` and gather `positions` along `axis` as `output`.
#[must_use]
pub fn gather_nodes(
    source: &str,
    shape: &str,
    positions: &str,
    output: &str,
    axis: i64,
) -> [NodeProto; 2] {
    let flat = format!("{output}/flat");
    let mut gather = node("Gather", &[&flat, positions], output);
    gather.attribute.push(int_attribute("axis", axis));
    [reshape_node(source, shape, &flat), gather]
}

/// `source` under another name.
#[must_use]
pub fn identity_node(source: &str, output: &str) -> NodeProto {
    node("Identity", &[source], output)
}

/// The positions along `axis` of `source` whose indices are in the constant `positions`.
#[must_use]
pub fn pick_node(source: &str, positions: &str, axis: i64, output: &str) -> NodeProto {
    let mut gather = node("Gather", &[source, positions], output);
    gather.attribute.push(int_attribute("axis", axis));
    gather
}

/// `weight` times the mean over `count` elements of the squared difference of `value` and `target`,
/// and its gradient by `value`.
pub(crate) fn squared_error(
    made: &mut BackwardGraph,
    (value, target): (&str, &str),
    weight: f64,
    count: usize,
) -> (String, String) {
    let slope = made.number(2.0 * weight / count.max(1) as f64);
    let weight = made.number(weight);
    let difference = made.node("Sub", &[value, target], &[]);
    let square = made.node("Mul", &[&difference, &difference], &[]);
    let mean = made.node("ReduceMean", &[&square], &[Attribute::Int("keepdims", 0)]);
    let error = made.node("Mul", &[&mean, &weight], &[]);
    (error, made.node("Mul", &[&difference, &slope], &[]))
}

/// The sum of tensors of one shape.
pub(crate) fn sum(made: &mut BackwardGraph, parts: &[String]) -> Option<String> {
    match parts {
        [] => None,
        [one] => Some(one.clone()),
        all => {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            Some(made.node("Sum", &all, &[]))
        }
    }
}

/// The [pointwise](crate::groups::Operator::pointwise) `node` on some `positions` of what it reads.
/// `shapes` are names of those of its input with the positions along one axis, of what is gathered
/// of it with the axes of the input, and of `output`.
#[must_use]
pub fn pointwise_nodes(
    node: &NodeProto,
    shapes: [&str; 3],
    positions: &str,
    output: &str,
) -> Vec<NodeProto> {
    let named = |what: &str| format!("{output}/{what}");
    let source = node.input.first().map_or("", String::as_str);
    let (gathered, inputs, made) = (named("gathered"), named("inputs"), named("made"));
    let mut nodes = gather_nodes(source, shapes[0], positions, &gathered, 2).to_vec();
    nodes.push(self::node("Reshape", &[&gathered, shapes[1]], &inputs));
    let mut again = node.clone();
    again.name = Some(made.clone());
    again.output = vec![made.clone()];
    if let Some(input) = again.input.first_mut() {
        *input = inputs;
    }
    nodes.push(again);
    nodes.push(self::node("Reshape", &[&made, shapes[2]], output));
    nodes
}

/// `source` with its axes in another order.
#[must_use]
pub fn transpose_node(source: &str, output: &str, perm: Vec<i64>) -> NodeProto {
    let mut made = node("Transpose", &[source], output);
    made.attribute.push(AttributeProto {
        name: Some("perm".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: perm,
        ..Default::default()
    });
    made
}

/// `left + right`, the node that carries a bias where the operator before has none.
#[must_use]
pub fn add_node(left: &str, right: &str, output: &str) -> NodeProto {
    node("Add", &[left, right], output)
}

/// Numbers, their scales and maybe zero points as floats; the scales may lie along an axis.
#[must_use]
pub fn dequantize_node(inputs: &[String], output: &str, axis: Option<i64>) -> NodeProto {
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut made = node("DequantizeLinear", &inputs, output);
    made.attribute
        .extend(axis.map(|axis| int_attribute("axis", axis)));
    made
}

fn int_attribute(name: &str, int: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(int),
        ..Default::default()
    }
}

/// The shape of a tensor, as data.
#[must_use]
pub fn shape_node(source: &str, output: &str) -> NodeProto {
    node("Shape", &[source], output)
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        name: Some(output.to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}
