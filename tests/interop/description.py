"""Canonical JSON for Python values and their types, so that processes can compare what they hold.

Equal descriptions mean equal values of equal types; nothing here asks PyMQ how to encode anything,
since that is what the tests judge. None, booleans, strings, lists and integers below 2**53 stand
for themselves; all else is an object with one leading key that names its type:

    {"int": "18446744073709551616"}      {"float": "nan"}           {"bytes": "00ff"}
    {"dict": [[key, value], ...]}        {"tuple": [...]}           {"set": [... sorted]}
    {"named": class, "items": [...]}     {"exception": class, "args": [...]}
    {"object": class, "fields": {...}}   {"enum": class, "name": member}
    {"class": class}                     {"function": name}
    {"other": class, "repr": text}

``build`` goes the way back, for all but the last three, with the classes of ``shared_types``.
"""

import builtins
import enum
import json
import types
from typing import Any

import shared_types

_PLAIN_INTEGERS = 2**53


def describe(value: Any) -> Any:
    """Describe a value; dicts and fields keep their order, sets are sorted."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if isinstance(value, enum.Enum):
        return {"enum": class_name(kind), "name": value.name}
    if kind is int:
        return value if abs(value) < _PLAIN_INTEGERS else {"int": str(value)}
    if kind is float:
        return {"float": repr(value)}
    if kind in (bytes, bytearray):
        return {kind.__name__: value.hex()}
    if kind is list:
        return [describe(item) for item in value]
    if kind is dict:
        return {"dict": [[describe(key), describe(item)] for key, item in value.items()]}
    if kind is tuple:
        return {"tuple": [describe(item) for item in value]}
    if kind in (set, frozenset):
        return {kind.__name__: sorted((describe(item) for item in value), key=json.dumps)}
    return _describe_instance(value)


def build(description: Any) -> Any:
    """Build the value that a description stands for, without calling constructors of users."""
    if description is None or isinstance(description, (bool, str, int)):
        return description
    if isinstance(description, list):
        return [build(item) for item in description]
    kind, content = next(iter(description.items()))
    if kind == "dict":
        return {build(key): build(item) for key, item in content}
    if kind in ("bytes", "bytearray"):
        return getattr(builtins, kind).fromhex(content)
    if kind in ("tuple", "set", "frozenset"):
        return getattr(builtins, kind)(build(item) for item in content)
    if kind in ("int", "float"):
        return getattr(builtins, kind)(content)
    return _build_instance(kind, _find_class(content), description)


def class_name(kind: type) -> str:
    """The full name of a class; builtins stand without their module."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return kind.__module__ + "." + kind.__qualname__


def _describe_instance(value: Any) -> Any:
    kind = type(value)
    if isinstance(value, type):
        return {"class": class_name(value)}
    if isinstance(value, types.FunctionType):
        return {"function": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return {"named": class_name(kind), "items": [describe(item) for item in value]}
    if isinstance(value, BaseException):
        return {"exception": class_name(kind), "args": [describe(item) for item in value.args]}
    if type(getattr(value, "__dict__", None)) is dict and kind.__module__ == "shared_types":
        fields = {name: describe(item) for name, item in vars(value).items()}
        return {"object": class_name(kind), "fields": fields}
    return {"other": class_name(kind), "repr": repr(value)}


def _build_instance(kind: str, cls: Any, description: Any) -> Any:
    if kind == "named":
        return cls(*build(description["items"]))
    if kind == "exception":
        return cls(*build(description["args"]))
    if kind == "enum":
        return cls[description["name"]]
    if kind == "object":
        instance = cls.__new__(cls)
        for name, item in description["fields"].items():
            setattr(instance, name, build(item))
        return instance
    raise ValueError(f"a value cannot be built from its description as {kind!r}")


def _find_class(name: str) -> Any:
    found: Any = builtins
    module, _, path = name.rpartition("shared_types.")
    if module == "" and path != name:
        found = shared_types
    for part in path.split("."):
        found = getattr(found, part)
    return found
