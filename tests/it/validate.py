"""Checks JSON files against the schemas of docs/reference/schemas: validate.py SCHEMA.json FILE.json ...

What the schemas do not describe is an error here, so that they describe every field. So is a field of a file that the
schema lets have another type, or lets be left out but for OPTIONAL. With --refused first, no file may fit.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import fastjsonschema

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas"
#: Left out of plans where they say nothing.
OPTIONAL = {"combined", "inputs", "module", "tensors"}


def closed(schema):
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return inner | ({"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {})


@cache
def check(name):
    return fastjsonschema.compile(closed(json.loads((SCHEMAS / name).read_text(encoding="utf-8"))))


def problem(name, content):
    """Why the content does not fit the schema; None where it does."""
    try:
        check(name)(content)
    except fastjsonschema.JsonSchemaValueException as error:
        return str(error)
    return None


def fields(value, path="") -> Iterator[tuple[dict, str, str]]:
    """The fields inside a value, of lists those of the first entry, with the objects that they are in."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key, f"{path}/{key}"
            yield from fields(value[key], f"{path}/{key}")
    elif isinstance(value, list) and value:
        yield from fields(value[0], f"{path}/0")


def gaps(name, content):
    """Changes of the content that the schema should see and does not."""
    is_optional = name.startswith("config")
    for parent, key, path in fields(content):
        whole = dict(parent)
        parent[key] = "wrong" if isinstance(whole[key], dict) else {"wrong": 1}
        if problem(name, content) is None:
            yield f"{path} may be of any type"
        del parent[key]
        if problem(name, content) is None and not is_optional and key not in OPTIONAL:
            yield f"{path} may be left out"
        parent.clear()
        parent.update(whole)


words = sys.argv[1:]
is_refused = words[0] == "--refused"
if is_refused:
    words = words[1:]
for name, file in zip(words[::2], words[1::2], strict=True):
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    found = problem(name, content)
    if is_refused:
        if found is None:
            sys.exit(f"{file} fits {name}")
        continue
    if found is not None:
        sys.exit(f"{file} does not fit {name}: {found}")
    for gap in gaps(name, content):
        sys.exit(f"{name}: {gap}")
