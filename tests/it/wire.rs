//! The wire format against two independent truths: the schema in PyPI's onnx package, and the
//! reader of the onnx-protobuf crate.

use onnx_mipp::onnx::{Model, Tensor, decode, proto::*};
use protobuf::{
    Enum, Message,
    descriptor::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet},
};
use serde_json::{Map, Value, json};
use std::{env, path::PathBuf, process::Command};

/// The onnx release whose schema proto/onnx.proto follows.
const ONNX_RELEASE: &str = "1.23.";

#[test]
fn schema_is_that_of_the_onnx_package() {
    let theirs = package_schema();
    let version = theirs["version"].as_str().unwrap();
    assert!(
        version.starts_with(ONNX_RELEASE),
        "the schema is compared with onnx {ONNX_RELEASE}x, found {version}: install that release"
    );
    let ours = our_schema();
    for kind in ["messages", "enums"] {
        let (ours, theirs) = (
            ours[kind].as_object().unwrap(),
            theirs[kind].as_object().unwrap(),
        );
        let names = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(ours), names(theirs), "{kind}");
        for (name, theirs) in theirs {
            assert_eq!(&ours[name], theirs, "{name}");
        }
    }
    assert!(
        ours["messages"]["onnx.TypeProto.Opaque"].is_object(),
        "nested messages are compared"
    );
}

fn package_schema() -> Value {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = env::var_os("ONNX_MIPP_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| root.join(".venv/bin/python"));
    let help = "set ONNX_MIPP_PYTHON to a Python with onnx installed, or make .venv in the root";
    let output = Command::new(&python)
        .arg(root.join("tests/it/schema.py"))
        .output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {}: {e}: {help}", python.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} schema.py failed: {help}\n{errors}",
        python.display()
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The schema that build.rs compiled, as schema.py prints its own.
fn our_schema() -> Value {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/onnx.fds"));
    let files = FileDescriptorSet::parse_from_bytes(bytes).unwrap();
    let (mut messages, mut enums) = (Map::new(), Map::new());
    let file = &files.file[0];
    for message in &file.message_type {
        add_message(file.package(), message, &mut messages, &mut enums);
    }
    for declared in &file.enum_type {
        add_enum(file.package(), declared, &mut enums);
    }
    json!({ "messages": messages, "enums": enums })
}

fn add_message(
    scope: &str,
    message: &DescriptorProto,
    messages: &mut Map<String, Value>,
    enums: &mut Map<String, Value>,
) {
    let name = format!("{scope}.{}", message.name());
    for inner in &message.nested_type {
        add_message(&name, inner, messages, enums);
    }
    for declared in &message.enum_type {
        add_enum(&name, declared, enums);
    }
    let fields = message
        .field
        .iter()
        .map(|f| (f.name().to_owned(), field(message, f)));
    messages.insert(name, Value::Object(fields.collect()));
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
    let oneof = field
        .oneof_index
        .map(|i| message.oneof_decl[i as usize].name());
    json!({
        "number": field.number(),
        "label": field.label().value(),
        "type": field.type_().value(),
        "type_name": field.type_name(),
        "packed": field.options.packed(),
        "oneof": oneof,
    })
}

fn add_enum(scope: &str, declared: &EnumDescriptorProto, enums: &mut Map<String, Value>) {
    let values = declared
        .value
        .iter()
        .map(|v| (v.name().to_owned(), json!(v.number())));
    enums.insert(
        format!("{scope}.{}", declared.name()),
        Value::Object(values.collect()),
    );
}

/// A model in which no field is set to its default: the other reader's schema is of syntax
/// proto3, which does not tell a default from an absent field.
fn model() -> Model {
    let weight = Tensor::from_f32(&[2, 3], (1..7).map(|v| v as f32).collect()).unwrap();
    let bias = TensorProto {
        name: Some("b".to_owned()),
        dims: vec![3],
        data_type: Some(1),
        float_data: vec![0.5, -1.0, 2.0],
        ..TensorProto::default()
    };
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(1),
                shape: Some(TensorShapeProto {
                    dim: vec![size(2), size(3)],
                }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let gemm = NodeProto {
        name: Some("gemm".to_owned()),
        op_type: Some("Gemm".to_owned()),
        input: ["x", "w", "b"].map(str::to_owned).to_vec(),
        output: vec!["y".to_owned()],
        attribute: vec![AttributeProto {
            name: Some("alpha".to_owned()),
            r#type: Some(1),
            f: Some(0.25),
            ints: vec![1, -2, i64::MAX],
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: Some("main".to_owned()),
        node: vec![gemm],
        initializer: vec![weight.to_proto("w"), bias],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    Model {
        proto: ModelProto {
            ir_version: Some(9),
            producer_name: Some("test".to_owned()),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(17),
            }],
            graph: Some(graph),
            ..ModelProto::default()
        },
    }
}

fn size(size: i64) -> tensor_shape_proto::Dimension {
    tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    }
}

#[test]
fn an_independent_reader_reads_our_bytes() {
    let model = model();
    let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&model.encode().unwrap()).unwrap();
    assert_eq!((theirs.ir_version, theirs.opset_import[0].version), (9, 17));
    let graph = &theirs.graph;
    let weight = &graph.initializer[0];
    assert_eq!(
        (weight.name.as_str(), weight.dims.as_slice()),
        ("w", &[2, 3][..])
    );
    let expected: Vec<u8> = (1..7).flat_map(|v| (v as f32).to_le_bytes()).collect();
    assert_eq!(weight.raw_data, expected);
    assert_eq!(graph.initializer[1].float_data, [0.5, -1.0, 2.0]);
    let node = &graph.node[0];
    assert_eq!((node.op_type.as_str(), node.input.len()), ("Gemm", 3));
    assert_eq!(node.attribute[0].ints, [1, -2, i64::MAX]);
    // What it writes of what it read is the same model: it missed nothing.
    let back = theirs.write_to_bytes().unwrap();
    assert_eq!(decode(back.into(), None).unwrap(), model);
}

#[test]
fn fields_of_another_schema_are_refused() {
    let mut theirs =
        onnx_protobuf::ModelProto::parse_from_bytes(&model().encode().unwrap()).unwrap();
    let node = &mut theirs.graph.as_mut().unwrap().node[0];
    node.special_fields.mut_unknown_fields().add_varint(99, 1);
    let error = decode(theirs.write_to_bytes().unwrap().into(), None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("field 99 of onnx.NodeProto"), "{text}");
    assert!(text.contains("IR version 14"), "{text}");
}
