"""How the values of a class are written.

The rule of what is sent: what some receiver can build, equal to what was sent. Everything else is
refused here, at the sender, by a shape that says so. A class is looked at once.
"""

from __future__ import annotations

import enum
import io
import types
from collections.abc import Callable
from typing import Any

from pymq import _models, _plans, _pymq, _texts, _types

_PRIMITIVES = (str, int, float)


def encoding_for(cls: type) -> _pymq.Encoding:
    """How values of this class are written. A class that is sent is declared by that."""
    encoding = _encoding(cls)
    if not _types.is_machinery(cls) and not issubclass(cls, BaseException):
        _plans.declare(cls)
    return encoding


def _encoding(cls: type) -> _pymq.Encoding:
    tag = _types.fullname(cls) if _types.is_tag(_types.fullname(cls)) else None
    if issubclass(cls, (type, types.FunctionType, types.MethodType)):
        return _pymq.Encoding("name", None, "str", call=_types.fullname)
    if issubclass(cls, enum.Enum) and not issubclass(cls, _PRIMITIVES):
        return _enum_encoding(cls, tag)
    if _types.is_named_tuple(cls):
        return _pymq.Encoding("tuple", tag, tag or "tuple")
    for collection, (name, root) in _types.COLLECTIONS.items():
        if issubclass(cls, collection):
            return _pymq.Encoding("dict" if root == "dict" else "set", name, root)
    for shape, base in _BASES.items():
        if issubclass(cls, base):
            return _builtin_encoding(cls, tag, shape, base)
    text = _texts.text_type(cls)
    if text is not None:
        write = _equal_writer(text) if _types.hides_state(cls, text.cls) else text.write
        return _pymq.Encoding("made", text.tag, text.tag, call=write)
    if issubclass(cls, BaseException):
        return _pymq.Encoding("arguments", None, tag or "list")
    return _object_encoding(cls, tag)


_BASES: dict[str, type] = {
    "text": str,
    "integer": int,
    "float": float,
    "tuple": tuple,
    "list": list,
    "dict": dict,
}


def _refused() -> _pymq.Encoding:
    return _pymq.Encoding("refused", None, "dict")


def _enum_encoding(cls: type[enum.Enum], tag: str | None) -> _pymq.Encoding:
    # A set has no order that a receiver could look its members up by.
    by_value = issubclass(cls, enum.Flag) or not any(
        isinstance(member.value, (set, frozenset)) for member in cls
    )
    if not by_value or _models.members_coincide(cls):
        return _refused()
    return _pymq.Encoding("member", tag, tag or "str")


def _builtin_encoding(cls: type, tag: str | None, shape: str, base: type) -> _pymq.Encoding:
    if cls is base:
        return _pymq.Encoding(shape, tag, base.__name__)
    if _types.hides_state(cls, base):
        # The value is the base's (`numpy.float64`); a tuple's or dict's may be more than that.
        return _pymq.Encoding(shape, None, base.__name__) if base in _PRIMITIVES else _refused()
    return _refused() if _types.is_machinery(cls) else _pymq.Encoding(shape, tag, base.__name__)


def _equal_writer(text: _texts.TextType) -> Callable[[Any], str]:
    """For classes in C with more than their base's value: `pandas.Timestamp`, and `NaT`."""

    def write(value: Any) -> str:
        written = text.write(value)
        if not text.read(written) == value:
            raise ValueError(f"it is not equal to the {text.tag} that would arrive")
        return written

    return write


def _object_encoding(cls: type, tag: str | None) -> _pymq.Encoding:
    is_struct = _types.is_msgspec(cls)
    slots = list(getattr(cls, "__struct_fields__", ())) if is_struct else _types.slots_of(cls)
    dicts = ["__dict__"] if _types.has_dict(cls) else []
    if _types.is_pydantic(cls):
        slots, dicts = [], ["__dict__", "__pydantic_extra__"]
    if cls is types.SimpleNamespace:
        return _pymq.Encoding("object", tag, tag or "dict", dicts=dicts, slots=slots)
    if (not slots and not dicts) or issubclass(cls, _NEVER_SENT) or _types.is_machinery(cls):
        return _refused()
    if _types.hides_state(cls) and not _types.is_pydantic(cls) and not is_struct:
        return _refused()
    return _pymq.Encoding("object", tag, tag or "dict", dicts=dicts, slots=slots)


_NEVER_SENT = (types.ModuleType, io.IOBase, types.GeneratorType, types.CoroutineType)
