//! A small model for the tests of the program, and calibration data for it.

use std::path::Path;

use onnx_mipp::onnx::proto::{type_proto::Value, *};
use onnx_mipp::onnx::{Model, Tensor};

/// x [N, 3, 8, 8] -> Conv "first" (16 channels, 3x3) -> Relu -> Conv "second" (8, 1x1) -> y: a
/// group of 16 channels that can be pruned, and the frozen one of the output.
pub fn model() -> Model {
    let graph = GraphProto {
        name: Some("small".to_owned()),
        node: vec![
            with_pads(node("Conv", "first", &["x", "w1", "b1"], "a")),
            node("Relu", "relu", &["a"], "r"),
            node("Conv", "second", &["r", "w2", "b2"], "y"),
        ],
        initializer: vec![
            weights("w1", &[16, 3, 3, 3]),
            weights("b1", &[16]),
            weights("w2", &[8, 16, 1, 1]),
            weights("b2", &[8]),
        ],
        input: vec![value("x", &[None, Some(3), Some(8), Some(8)])],
        output: vec![value("y", &[None, Some(8), Some(8), Some(8)])],
        ..GraphProto::default()
    };
    Model {
        proto: ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(17),
            }],
            graph: Some(graph),
            ..ModelProto::default()
        },
    }
}

pub fn graph(model: &mut Model) -> &mut GraphProto {
    model.proto.graph.as_mut().unwrap()
}

/// The model's bytes as prost writes them, without the checks of saving.
pub fn write(model: &Model, path: &Path) {
    use prost::Message;
    std::fs::write(path, model.proto.encode_to_vec()).unwrap();
}

pub fn node(op_type: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: Some(name.to_owned()),
        op_type: Some(op_type.to_owned()),
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn with_pads(mut node: NodeProto) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some("pads".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: vec![1; 4],
        ..AttributeProto::default()
    });
    node
}

pub fn value(name: &str, shape: &[Option<i64>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension};
    let dim = |size: &Option<i64>| Dimension {
        value: Some(match size {
            Some(size) => dimension::Value::DimValue(*size),
            None => dimension::Value::DimParam("N".to_owned()),
        }),
        ..Dimension::default()
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(Value::TensorType(type_proto::Tensor {
                elem_type: Some(1),
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn weights(name: &str, shape: &[usize]) -> TensorProto {
    let values = noise(
        shape.iter().product(),
        name.len() as u64 + shape.len() as u64,
    );
    Tensor::from_f32(shape, values).unwrap().to_proto(name)
}

/// Numbers between -0.5 and 0.5 that always are the same.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Writes a .npy file.
pub fn npy(path: &Path, dtype: &str, shape: &[usize], bytes: &[u8]) {
    let sizes: String = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Magic, version, length and header fill a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    file.extend(bytes);
    std::fs::write(path, file).unwrap();
}

pub fn npy_f32(path: &Path, shape: &[usize], values: &[f32]) {
    npy(path, "<f4", shape, bytemuck::cast_slice(values));
}

/// Calibration data that fit the model.
pub fn calibration(path: &Path) {
    npy_f32(path, &[24, 3, 8, 8], &noise(24 * 3 * 64, 7));
}
