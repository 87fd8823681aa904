//! One small model per operator rule: which groups it gives, what is frozen and why, and that a
//! cut equals the masked dense model.

mod attention;
mod constants;
mod einsum;
mod empty;
mod frozen;
mod functions;
mod fused;
mod heads;
mod joins;
mod layers;
mod lengths;
mod linear;
mod nhwc;
mod norms;
mod parts;
mod quantized;
mod recurrent;
mod reshapes;
mod stacks;
mod storage;
mod stored;
mod unfused;
mod vision;
mod whole;

use crate::builder::{Builder, ints};
use crate::masked::{Found, find};
use onnx_mipp::onnx::{Model, proto::NodeProto};

/// Input of 4 channels of 6 by 6, and a convolution to `channels`.
fn stem(b: &mut Builder, channels: usize) -> String {
    b.input("x", &[4, 6, 6]);
    let made = b.conv("x", [channels, 4, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
    b.node("LeakyRelu", &[&made], vec![])
}

/// A convolution to 5 channels, which are the output of the model.
fn head(mut b: Builder, input: &str, channels: usize) -> Found {
    let made = b.pointwise(input, channels, 5);
    b.output(&made, 4);
    let found = find(b.finish());
    assert!(
        found.is_frozen_by(5, "is an output of the model"),
        "{:?}",
        found.frozen()
    );
    found
}

/// Mean over space, as (N, C).
fn pooled(b: &mut Builder, input: &str) -> String {
    let mean = b.node("GlobalAveragePool", &[input], vec![]);
    b.node("Flatten", &[&mean], vec![])
}

/// The only node of that operator.
fn only<'a>(model: &'a Model, op: &str) -> &'a NodeProto {
    let nodes = &model.proto.graph.as_ref().unwrap().node;
    let mut found = nodes.iter().filter(|node| node.op_type() == op);
    let node = found.next().unwrap();
    assert!(found.next().is_none(), "one {op} only");
    node
}

fn attribute(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    let found = node.attribute.iter().find(|a| a.name() == name)?;
    Some(found.i.map_or_else(|| found.ints.clone(), |i| vec![i]))
}

/// Shape of the initializer that a node reads.
fn constant_shape(model: &Model, node: &NodeProto, slot: usize) -> Vec<i64> {
    let stored = &model.proto.graph.as_ref().unwrap().initializer;
    let found = stored.iter().find(|t| t.name() == node.input[slot]);
    found.unwrap().dims.clone()
}
