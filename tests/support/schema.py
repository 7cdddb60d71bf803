"""Checks a JSON value against the part of JSON Schema that abi/schema uses: type, required,
properties, additionalProperties, items, enum and minimum. Keys that a schema does not name are a
failure, too, so that no listing outgrows its schema."""

from instance import expect

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float),
         "integer": int, "null": type(None)}


def is_a(value, kind):
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def check(value, schema, where="$"):
    kind = schema.get("type")
    if kind:
        kinds = kind if isinstance(kind, list) else [kind]
        expect(any(is_a(value, one) for one in kinds), f"{where}: {value!r} is not of type {kind}")
        if value is None:
            return
    if "enum" in schema:
        expect(value in schema["enum"], f"{where}: {value!r} is none of {schema['enum']}")
    if "minimum" in schema:
        expect(value >= schema["minimum"], f"{where}: {value!r} is below {schema['minimum']}")
    for key in schema.get("required", []):
        expect(key in value, f"{where}: lacks '{key}'")
    if "properties" in schema:
        for key, item in value.items():
            others = schema.get("additionalProperties")
            named = schema["properties"].get(key, others if isinstance(others, dict) else None)
            expect(named is not None, f"{where}: has '{key}', which its schema lacks")
            check(item, named, f"{where}.{key}")
    if "items" in schema:
        for number, item in enumerate(value):
            check(item, schema["items"], f"{where}[{number}]")
