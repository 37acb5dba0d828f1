"""Data against a JSON schema: as much of the standard as `result.schema.json` uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    *("$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "anyOf", "minimum"),
    *("minLength", "required", "properties", "additionalProperties", "propertyNames", "items"),
}
"""What is understood; a test holds that the schema uses nothing else."""


def fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """The first place where data does not fit, and why; None if it fits.

    Args:
        value: plain data.
        schema: of all of it.
    """
    return _fault(value, schema, schema["$defs"], "")


def _fault(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any], at: str) -> str | None:
    if "$ref" in schema:
        return _fault(value, defs[schema["$ref"].rpartition("/")[2]], defs, at)
    where = at or "the whole"
    if "anyOf" in schema:
        found = [_fault(value, one, defs, at) for one in schema["anyOf"]]
        return None if None in found else found[0]
    if "const" in schema and value != schema["const"]:
        return f"{where} is not {schema['const']!r}"
    if "enum" in schema and not any(type(value) is type(one) and value == one for one in schema["enum"]):
        return f"{where} is {value!r:.60}, not one of {schema['enum']}"
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(type(value) in TYPES[name] for name in types) or ("number" in types and not _finite(value)):
            return f"{where} is {value!r:.60}, not of type {' or '.join(types)}"
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        return f"{where} is {value!r:.60}, less than {schema['minimum']}"
    if "minLength" in schema and isinstance(value, str) and len(value) < schema["minLength"]:
        return f"{where} is empty"
    if isinstance(value, dict):
        return _of_object(cast(dict[str, Any], value), schema, defs, at)
    if isinstance(value, list) and "items" in schema:
        items = enumerate(cast(list[Any], value))
        return next((f for n, item in items if (f := _fault(item, schema["items"], defs, f"{at}[{n}]"))), None)
    return None


def _of_object(value: dict[str, Any], schema: Mapping[str, Any], defs: Mapping[str, Any], at: str) -> str | None:
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{at or 'the whole'} lacks {missing[0]}"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, item in value.items():
        found = _fault(name, schema["propertyNames"], defs, f"{at}.{name!r:.60}") if "propertyNames" in schema else None
        inner = properties.get(name, others)
        if inner is False:
            return f"{at or 'the whole'} has {name!r:.60}, which is unknown"
        if found is None and inner is not True:
            found = _fault(item, inner, defs, f"{at}.{name:.60}" if at else name[:60])
        if found is not None:
            return found
    return None


def _finite(value: Any) -> bool:
    if not isinstance(value, int | float):
        return True
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
