"""What kinds of classes there are, and how their values are written.

One class is looked at once. Whether a class is data that a mere tag may choose is decided here
too: the answer never depends on what an object or a message says.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import inspect
import io
import json
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pymq import _pymq

_PRIMITIVES = (str, int, float)
_TAG = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST_TAG = 256
_HEAP_TYPE = 1 << 9


def fullname(o: Any) -> str:
    """The full name of a function or a class, or of an object's class, as it travels in tags."""
    if isinstance(o, (types.FunctionType, types.MethodType)):
        return f"{o.__module__}.{o.__qualname__}"
    cls = o if isinstance(o, type) else type(o)
    module = cls.__module__
    if module is None or module == "builtins":
        return cls.__name__
    return f"{module}.{cls.__name__}"


def is_tag(text: str) -> bool:
    """Could this be the full name of a class?"""
    return len(text) <= _LONGEST_TAG and _TAG.fullmatch(text) is not None


# ---- values that travel as text


class TextType(NamedTuple):
    """A class whose values travel as strings, and the tag that they travel under."""

    cls: type
    tag: str
    write: Callable[[Any], str]
    read: Callable[[Any], Any]


def _write_bytes(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_bytearray(text: str) -> bytearray:
    return bytearray(_read_bytes(text))


_FRACTION = re.compile(r"(\.\d{1,6})\d*")


def _iso(text: str) -> str:
    """What other languages write, as Python 3.10 reads it."""
    if text[-1:] in "zZ":
        text = text[:-1] + "+00:00"
    return _FRACTION.sub(lambda match: match.group(1).ljust(7, "0"), text, count=1)


def _read_datetime(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return datetime.datetime.fromisoformat(_iso(text))


def _read_time(text: str) -> datetime.time:
    try:
        return datetime.time.fromisoformat(text)
    except ValueError:
        return datetime.time.fromisoformat(_iso(text))


_DURATION = re.compile(
    r"(?P<sign>-?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?S)?)?"
)


def _write_timedelta(value: datetime.timedelta) -> str:
    sign = "-" if value < datetime.timedelta(0) else ""
    value = abs(value) if value != datetime.timedelta.min else value
    micros = abs((value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds)
    seconds, micros = divmod(micros, 1_000_000)
    days, seconds = divmod(seconds, 86400)
    fraction = f".{micros:06}" if micros else ""
    return f"{sign}P{days}DT{seconds}{fraction}S"


def _read_timedelta(text: str) -> datetime.timedelta:
    match = _DURATION.fullmatch(text)
    if match is None or text[-1] in "PT":
        raise ValueError(f"{text!r} is no ISO 8601 duration")
    parts = {name: int(part) for name, part in match.groupdict("0").items() if name != "sign"}
    fraction = (match["fraction"] or "").ljust(6, "0")[:6]
    seconds = (parts["hours"] * 60 + parts["minutes"]) * 60 + parts["seconds"]
    days = parts["weeks"] * 7 + parts["days"]
    sign = -1 if match["sign"] else 1
    return datetime.timedelta(sign * days, sign * seconds, sign * int(fraction))


def _text(cls: type, tag: str, write: Callable[[Any], str], read: Callable[[Any], Any]) -> TextType:
    def checked(value: Any) -> Any:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, cls):
            return value
        raise TypeError(f"expected a string, got {type(value).__name__}")

    return TextType(cls, tag, write, checked)


def _read_decimal(value: Any) -> decimal.Decimal:
    # A number is right too: sent by a peer that does not know decimals.
    return decimal.Decimal(repr(value) if isinstance(value, float) else value)


TEXT_TYPES: dict[type, TextType] = {
    entry.cls: entry
    for entry in (
        _text(datetime.datetime, "datetime.datetime", datetime.datetime.isoformat, _read_datetime),
        _text(datetime.date, "datetime.date", datetime.date.isoformat, datetime.date.fromisoformat),
        _text(datetime.time, "datetime.time", datetime.time.isoformat, _read_time),
        _text(datetime.timedelta, "datetime.timedelta", _write_timedelta, _read_timedelta),
        _text(uuid.UUID, "uuid.UUID", str, uuid.UUID),
        TextType(decimal.Decimal, "decimal.Decimal", str, _read_decimal),
        _text(fractions.Fraction, "fractions.Fraction", str, fractions.Fraction),
        _text(complex, "complex", repr, complex),
        _text(bytes, "bytes", _write_bytes, _read_bytes),
        _text(bytearray, "bytearray", _write_bytes, _read_bytearray),
        _text(pathlib.Path, "pathlib.Path", str, pathlib.Path),
        _text(pathlib.PurePosixPath, "pathlib.PurePosixPath", str, pathlib.PurePosixPath),
        _text(pathlib.PureWindowsPath, "pathlib.PureWindowsPath", str, pathlib.PureWindowsPath),
        _text(pathlib.PurePath, "pathlib.PurePath", str, pathlib.PurePath),
    )
}

#: Collections of the standard library: the tag, and what old decoders are told.
COLLECTIONS: dict[type, tuple[str, str]] = {
    set: ("set", "set"),
    frozenset: ("frozenset", "set"),
    collections.deque: ("collections.deque", "list"),
    collections.OrderedDict: ("collections.OrderedDict", "dict"),
    collections.defaultdict: ("collections.defaultdict", "dict"),
    collections.Counter: ("collections.Counter", "dict"),
}


def text_type(cls: type) -> TextType | None:
    """How values of this class travel as text, if they do; a subclass travels as its base."""
    if cls in (type(pathlib.Path()), type(pathlib.PurePath())):
        cls = pathlib.Path if issubclass(cls, pathlib.Path) else cls
    for base in cls.__mro__:
        if base in TEXT_TYPES:
            return TEXT_TYPES[base]
    return None


# ---- kinds of classes


def is_named_tuple(cls: type) -> bool:
    """Made by `typing.NamedTuple` or `collections.namedtuple`."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_attrs(cls: type) -> bool:
    """Made by attrs, which need not be importable here."""
    return "attr" in sys.modules and isinstance(getattr(cls, "__attrs_attrs__", None), tuple)


def is_pydantic(cls: type) -> bool:
    """A pydantic (2) model."""
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    return isinstance(base, type) and issubclass(cls, base)


def is_msgspec(cls: type) -> bool:
    """A msgspec Struct."""
    msgspec = sys.modules.get("msgspec")
    base = getattr(msgspec, "Struct", None)
    return isinstance(base, type) and issubclass(cls, base)


def in_standard_library(cls: type) -> bool:
    """By the name of its module, which for a loaded class is that of the module it was found in."""
    return cls.__module__.partition(".")[0] in sys.stdlib_module_names


def is_data(cls: type) -> bool:
    """May a tag alone choose this class? It is rebuilt without running any of its code."""
    if issubclass(cls, BaseException) or _defines(cls, "__del__"):
        return False
    if not cls.__flags__ & _HEAP_TYPE:
        return False
    if issubclass(cls, (tuple, enum.Enum)):
        return is_named_tuple(cls) or issubclass(cls, enum.Enum)
    if dataclasses.is_dataclass(cls) or is_attrs(cls) or is_pydantic(cls) or is_msgspec(cls):
        return True
    native = [base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE]
    return not _defines(cls, "__setattr__") and all(base in _PLAIN_BASES for base in native)


_PLAIN_BASES = (object, str, int, float, list, dict)


def overrides(cls: type, name: str) -> bool:
    """Does the class have a special method other than that of `object`?"""
    return getattr(cls, name) is not getattr(object, name)


def is_path(cls: type) -> bool:
    """A path, pure or not."""
    return issubclass(cls, pathlib.PurePath)


def _defines(cls: type, name: str) -> bool:
    return any(name in base.__dict__ for base in cls.__mro__ if base is not object)


def slots_of(cls: type) -> list[str]:
    """The names of the slots, mangled as the attributes are."""
    names = []
    for base in reversed(cls.__mro__):
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            if name not in names:
                names.append(name)
    return names


# ---- encodings


def encoding_for(cls: type) -> _pymq.Encoding:
    """How values of this class are written. A class that is sent is declared by that."""
    encoding = _encoding(cls)
    if not in_standard_library(cls) and not issubclass(cls, BaseException):
        from pymq import _plans

        _plans.declare(cls)
    return encoding


def _encoding(cls: type) -> _pymq.Encoding:
    tag = fullname(cls) if is_tag(fullname(cls)) else None
    if issubclass(cls, (type, types.FunctionType, types.MethodType)):
        return _pymq.Encoding("name", None, "str", call=fullname)
    if issubclass(cls, enum.Enum) and not issubclass(cls, _PRIMITIVES):
        return _pymq.Encoding("member", tag, tag or "str")
    if is_named_tuple(cls):
        return _pymq.Encoding("tuple", tag, tag or "tuple")
    for collection, (name, root) in COLLECTIONS.items():
        if issubclass(cls, collection):
            return _pymq.Encoding("dict" if root == "dict" else "set", name, root)
    for shape, base in _BASES.items():
        if issubclass(cls, base):
            return _pymq.Encoding(shape, tag, base.__name__)
    text = text_type(cls)
    if text is not None:
        return _pymq.Encoding("made", text.tag, text.tag, call=text.write)
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


def _object_encoding(cls: type, tag: str | None) -> _pymq.Encoding:
    slots = list(getattr(cls, "__struct_fields__", ())) if is_msgspec(cls) else slots_of(cls)
    dicts = ["__dict__"] if has_dict(cls) else []
    if is_pydantic(cls):
        slots, dicts = [], ["__dict__", "__pydantic_extra__"]
    if (not slots and not dicts) or issubclass(cls, _NEVER_SENT):
        return _pymq.Encoding("refused", None, "dict")
    return _pymq.Encoding("object", tag, tag or "dict", dicts=dicts, slots=slots)


_NEVER_SENT = (types.ModuleType, io.IOBase, types.GeneratorType, types.CoroutineType)


def has_dict(cls: type) -> bool:
    """Do objects of the class have a `__dict__`?"""
    return cls.__dictoffset__ != 0 or any("__dict__" in base.__dict__ for base in cls.__mro__)


def data_descriptors(cls: type) -> Iterator[str]:
    """Names whose assignment runs a descriptor instead of filling `__dict__`."""
    for base in cls.__mro__:
        for name, attribute in base.__dict__.items():
            if inspect.isdatadescriptor(attribute) and not name.startswith("__"):
                yield name


# ---- Python's own JSON, where the fast parser gives up


def slow_loads(data: bytes, digits: int) -> Any:
    """Reads JSON with Python's own `json`; integers have at most so many digits."""

    def integer(text: str) -> int:
        if len(text.lstrip("-")) > digits:
            raise ValueError(f"an integer of more than {digits} digits")
        return int(text)

    text = data.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("it starts with a byte order mark")
    return json.loads(text, parse_int=integer)


def slow_dumps(text: str) -> bytes:
    """A string as JSON in ASCII, whatever it holds."""
    return json.dumps(text).encode("ascii")
