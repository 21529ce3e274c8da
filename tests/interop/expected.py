"""What a value is where it arrives: equal, except for what a side has no shape for.

Python peers of ours and the originals see objects; Rust has plain data for what its reader names
no type for, and sends plain data. Everything here speaks of descriptions.
"""

import json
from typing import Any

from description import describe
from rig import NEW

Description = Any

_EXACT_INTEGERS = (-(2**63), 2**64 - 1)


def arrives(value: Any, sender: str, receiver: str) -> Description:
    """How a receiver without a hint sees what a sender was given."""
    description = describe(value)
    # Exceptions are never built from the wire by ours: their arguments are what arrives.
    if sender == "rust" or (receiver in NEW and isinstance(value, Exception)):
        description = plain(description)
    return untyped_in_rust(description) if receiver == "rust" else description


def plain(description: Description) -> Description:
    """As plain data: objects are dicts, keys are text, and all that is in a row is a list."""
    if isinstance(description, list):
        return [plain(item) for item in description]
    if not isinstance(description, dict):
        return description
    kind, content = next(iter(description.items()))
    if kind == "object":
        return {"dict": [[name, plain(item)] for name, item in description["fields"].items()]}
    if kind == "dict":
        return {"dict": [[str(key), plain(item)] for key, item in content]}
    if kind in ("tuple", "set", "frozenset"):
        return [plain(item) for item in content]
    if kind in ("named", "exception"):
        return [plain(item) for item in description["items" if kind == "named" else "args"]]
    return description


def untyped_in_rust(description: Description) -> Description:
    """As plain data whose integers fit 64 bits: a larger one is a float, unless it has a type."""
    if isinstance(description, list):
        return [untyped_in_rust(item) for item in description]
    described = plain(description)
    if isinstance(described, list):
        return [untyped_in_rust(item) for item in described]
    if not isinstance(described, dict):
        return described
    if "dict" in described:
        return {"dict": [[key, untyped_in_rust(item)] for key, item in described["dict"]]}
    number = int(described["int"]) if "int" in described else 0
    low, high = _EXACT_INTEGERS
    return described if low <= number <= high else describe(float(number))


def canonical(description: Description) -> str:
    """One text for equal descriptions: the order of keys is no part of a value."""
    return json.dumps(_sorted(description), sort_keys=True)


def _sorted(description: Description) -> Description:
    if isinstance(description, list):
        return [_sorted(item) for item in description]
    if not isinstance(description, dict):
        return description
    if "dict" in description:
        pairs = [[_sorted(key), _sorted(item)] for key, item in description["dict"]]
        return {"dict": sorted(pairs, key=json.dumps)}
    return {key: _sorted(item) for key, item in description.items()}


def same(received: Description, expected: Description) -> bool:
    return canonical(received) == canonical(expected)
