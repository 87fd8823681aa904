"""Checks JSON files against the schemas of docs/reference/schemas: validate.py SCHEMA.json FILE.json ...

What the schemas do not describe is an error here, so that they describe every field.
"""

import json
import sys
from pathlib import Path

import fastjsonschema

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas"


def closed(schema):
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return inner | ({"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {})


def load(name):
    return closed(json.loads((SCHEMAS / name).read_text()))


for name, file in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    check = fastjsonschema.compile(load(name), handlers={"": load})
    try:
        check(json.loads(Path(file).read_text()))
    except fastjsonschema.JsonSchemaValueException as error:
        sys.exit(f"{file} does not fit {name}: {error}")
