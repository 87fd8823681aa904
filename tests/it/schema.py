"""Prints the schema of the installed onnx package as JSON, in the form that wire.rs makes of ours."""

import json

import onnx
from google.protobuf import descriptor_pb2

file = descriptor_pb2.FileDescriptorProto()
onnx.onnx_ml_pb2.DESCRIPTOR.CopyToProto(file)
messages, enums = {}, {}


def add_enum(scope, enum):
    enums[f"{scope}.{enum.name}"] = {value.name: value.number for value in enum.value}


def add_message(scope, message):
    name = f"{scope}.{message.name}"
    messages[name] = {
        field.name: {
            "number": field.number,
            "label": field.label,
            "type": field.type,
            "type_name": field.type_name,
            "packed": field.options.packed,
            "oneof": message.oneof_decl[field.oneof_index].name
            if field.HasField("oneof_index")
            else None,
        }
        for field in message.field
    }
    for inner in message.nested_type:
        add_message(name, inner)
    for enum in message.enum_type:
        add_enum(name, enum)


for message in file.message_type:
    add_message(file.package, message)
for enum in file.enum_type:
    add_enum(file.package, enum)
print(json.dumps({"version": onnx.__version__, "messages": messages, "enums": enums}))
