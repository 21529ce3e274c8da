"""What kinds of classes there are, and how their values are written.

One class is looked at once. Whether a class is data that a mere tag may choose is decided here
too: the answer never depends on what an object or a message says.
"""

from __future__ import annotations

import abc
import base64
import collections
import datetime
import decimal
import enum
import fractions
import inspect
import io
import ipaddress
import json
import os
import pathlib
import re
import struct
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pymq import _pymq

_PRIMITIVES = (str, int, float)
_TAG = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST_TAG = 256
_HEAP_TYPE = 1 << 9
_MANAGED_DICT = 1 << 4


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


#: No value of these types is longer as text; what a text means is never more work than that.
_LONGEST_TEXT = 100
#: As for integers in JSON.
_MOST_DIGITS = 4300
#: As far as a float's exponent goes.
_LARGEST_EXPONENT = 400


def _short(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"a text of {len(text)} characters is too long")
    return text


_FRACTION = re.compile(r"(\.\d{1,6})\d*")


def _iso(text: str) -> str:
    """What other languages write, as Python 3.10 reads it."""
    if text[-1:] in "zZ":
        text = text[:-1] + "+00:00"
    return _FRACTION.sub(lambda match: match.group(1).ljust(7, "0"), text, count=1)


_MOMENT = TypeVar("_MOMENT", datetime.datetime, datetime.time)
#: CPython reads such an offset as none.
_LESS_THAN_A_SECOND = re.compile(r"([+-])00:00:00\.(\d{6})$")


def _read_moment(cls: type[_MOMENT], text: str) -> _MOMENT:
    text = _short(text)
    offset = _LESS_THAN_A_SECOND.search(text)
    if offset is not None:
        micros = datetime.timedelta(microseconds=int(offset[1] + offset[2]))
        return cls.fromisoformat(text[: offset.start()]).replace(tzinfo=datetime.timezone(micros))
    try:
        return cls.fromisoformat(text)
    except ValueError:
        return cls.fromisoformat(_iso(text))


def _read_datetime(text: str) -> datetime.datetime:
    return _read_moment(datetime.datetime, text)


def _read_time(text: str) -> datetime.time:
    return _read_moment(datetime.time, text)


def _read_date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(_short(text))


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
    match = _DURATION.fullmatch(_short(text))
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
    if not isinstance(value, (str, int, float, decimal.Decimal)):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return decimal.Decimal(repr(value) if isinstance(value, float) else value)


_RATIO = re.compile(r"\s*[-+]?[\d_]*(/[\d_]+|\.?[\d_]*([eE](?P<exponent>[-+]?\d{1,4}))?)\s*")


def _read_fraction(text: str) -> fractions.Fraction:
    """A fraction is made of two integers, so an exponent is a number of digits to be computed."""
    match = _RATIO.fullmatch(text) if len(text) <= 2 * _MOST_DIGITS + 10 else None
    if match is None or abs(int(match["exponent"] or 0)) > _LARGEST_EXPONENT:
        raise ValueError("it is no ratio, or has more digits or a larger exponent than may be sent")
    if any(len(part) > _MOST_DIGITS + 10 for part in text.split("/")):
        raise ValueError(f"it has more than {_MOST_DIGITS} digits")
    return fractions.Fraction(text)


def _read_uuid(text: str) -> uuid.UUID:
    return uuid.UUID(_short(text))


def _read_complex(text: str) -> complex:
    return complex(_short(text))


def _reads_address(cls: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: cls(_short(text))


def number_in(text: str) -> int | decimal.Decimal | None:
    """The number that a model might read from a text, as far as hashes go."""
    if len(text) > _MOST_DIGITS:
        return None
    for read in (int, decimal.Decimal):
        try:
            return read(text)
        except (ValueError, ArithmeticError):
            continue
    return None


TEXT_TYPES: dict[type, TextType] = {
    entry.cls: entry
    for entry in (
        _text(datetime.datetime, "datetime.datetime", datetime.datetime.isoformat, _read_datetime),
        _text(datetime.date, "datetime.date", datetime.date.isoformat, _read_date),
        _text(datetime.time, "datetime.time", datetime.time.isoformat, _read_time),
        _text(datetime.timedelta, "datetime.timedelta", _write_timedelta, _read_timedelta),
        _text(uuid.UUID, "uuid.UUID", str, _read_uuid),
        TextType(decimal.Decimal, "decimal.Decimal", str, _read_decimal),
        _text(fractions.Fraction, "fractions.Fraction", str, _read_fraction),
        _text(complex, "complex", repr, _read_complex),
        _text(bytes, "bytes", _write_bytes, _read_bytes),
        _text(bytearray, "bytearray", _write_bytes, _read_bytearray),
        _text(pathlib.Path, "pathlib.Path", str, pathlib.Path),
        _text(pathlib.PurePosixPath, "pathlib.PurePosixPath", str, pathlib.PurePosixPath),
        _text(pathlib.PureWindowsPath, "pathlib.PureWindowsPath", str, pathlib.PureWindowsPath),
        _text(pathlib.PurePath, "pathlib.PurePath", str, pathlib.PurePath),
        *(
            _text(cls, f"ipaddress.{cls.__name__}", str, _reads_address(cls))
            for cls in (
                ipaddress.IPv4Address,
                ipaddress.IPv6Address,
                ipaddress.IPv4Interface,
                ipaddress.IPv6Interface,
                ipaddress.IPv4Network,
                ipaddress.IPv6Network,
            )
        ),
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
    return issubclass(cls, tuple) and isinstance(_found(cls, "_fields"), tuple)


def is_attrs(cls: type) -> bool:
    """Made by attrs, which need not be importable here."""
    return "attr" in sys.modules and isinstance(_found(cls, "__attrs_attrs__"), tuple)


def is_pydantic(cls: type) -> bool:
    """A pydantic (2) model."""
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    return isinstance(base, type) and base in mro(cls)


def is_msgspec(cls: type) -> bool:
    """A msgspec Struct."""
    msgspec = sys.modules.get("msgspec")
    base = getattr(msgspec, "Struct", None)
    return isinstance(base, type) and base in mro(cls)


_STANDARD_LIBRARY = os.path.dirname(os.__file__)
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")


def in_standard_library(cls: type) -> bool:
    """By its module, which for a loaded class is the one that it was found in.

    A program may have a module of its own under such a name (`profile`, `calendar`, `code`).
    """
    package = cls.__module__.partition(".")[0]
    if package not in sys.stdlib_module_names:
        return False
    module = sys.modules.get(package)
    file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    if not isinstance(file, str):
        return True
    return file.startswith(_STANDARD_LIBRARY) and _INSTALLED.search(file) is None


#: Classes of the standard library whose objects are their attributes and nothing more.
_STANDARD_DATA = frozenset(
    {
        "argparse.Namespace",
        "collections.ChainMap",
        "collections.UserDict",
        "collections.UserList",
        "collections.UserString",
        "string.Template",
        "subprocess.CompletedProcess",
    }
)


def is_machinery(cls: type) -> bool:
    """Is it Python's own, and no data? No message builds such a class, so none is sent."""
    if not in_standard_library(cls) or fullname(cls) in _STANDARD_DATA:
        return False
    return not (is_named_tuple(cls) or issubclass(cls, enum.Enum))


def is_data(cls: type) -> bool:
    """May a tag alone choose this class? It is rebuilt without running any of its code."""
    if not _has_quiet_metaclass(cls):
        return False
    if issubclass(cls, BaseException) or _defines(cls, "__del__"):
        return False
    if not cls.__flags__ & _HEAP_TYPE:
        return False
    if issubclass(cls, (tuple, enum.Enum)):
        return is_named_tuple(cls) or issubclass(cls, enum.Enum)
    if is_pydantic(cls) or is_msgspec(cls):
        return True
    if not _stores_plainly(cls):
        return False
    if isinstance(_found(cls, "__dataclass_fields__"), dict) or is_attrs(cls):
        return True
    native = [base for base in mro(cls) if not base.__flags__ & _HEAP_TYPE]
    return not _defines(cls, "__setattr__") and all(base in _PLAIN_BASES for base in native)


_PLAIN_BASES = (object, str, int, float, list, dict)


def mro(cls: type) -> tuple[type, ...]:
    """The class and its bases, whatever its metaclass would answer."""
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return bases


def _names(cls: type) -> Mapping[str, Any]:
    names: Mapping[str, Any] = type.__dict__["__dict__"].__get__(cls)
    return names


def _found(cls: type, name: str) -> Any:
    """An attribute of the class as it stands there: no descriptor is asked."""
    return next((_names(base)[name] for base in mro(cls) if name in _names(base)), None)


_QUIET = (types.FunctionType, classmethod, staticmethod, types.GetSetDescriptorType)


def _has_quiet_metaclass(cls: type) -> bool:
    """Can the class be asked for its attributes without running code of the program?"""
    known: list[type] = [object, type, abc.ABCMeta, enum.EnumMeta]
    for module, name in (("pydantic", "BaseModel"), ("msgspec", "Struct")):
        base = getattr(sys.modules.get(module), name, None)
        known.extend(mro(type(base)) if isinstance(base, type) else ())
    for metaclass in mro(type(cls)):
        if any(metaclass is base for base in known):
            continue
        names = _names(metaclass)
        if not {"__getattribute__", "__getattr__", "__eq__", "__hash__"}.isdisjoint(names):
            return False
        if any(
            _found(type(value), "__get__") and type(value) not in _QUIET for value in names.values()
        ):
            return False
    return True


def _stores_plainly(cls: type) -> bool:
    """Are `__dict__` and the slots Python's own, and no properties?"""
    native = (types.NoneType, types.GetSetDescriptorType, types.MemberDescriptorType)
    return all(type(_found(cls, name)) in native for name in ("__dict__", *slots_of(cls)))


def hides_state(cls: type, base: type = object) -> bool:
    """Do objects of the class hold more than attributes (beside a value of `base`)?

    As `copyreg` does it for pickle: their size says whether C code keeps something in them.
    """
    if any(not each.__flags__ & _HEAP_TYPE and each not in mro(base) for each in mro(cls)):
        return True
    own = [each for each in mro(cls) if each not in mro(base)]
    pointers = sum(len(_slots(each)) for each in own)
    if cls.__flags__ & _MANAGED_DICT == 0:
        pointers += getattr(cls, "__dictoffset__", 0) != 0
    pointers += getattr(cls, "__weakrefoffset__", 0) > 0
    # PyPy has no such sizes, and no such classes.
    size, least = getattr(cls, "__basicsize__", 0), getattr(base, "__basicsize__", 0)
    return size > least + pointers * struct.calcsize("P")


def overrides(cls: type, name: str) -> bool:
    """Does the class have a special method other than that of `object`?"""
    return getattr(cls, name) is not getattr(object, name)


def is_path(cls: type) -> bool:
    """A path, pure or not."""
    return issubclass(cls, pathlib.PurePath)


def _defines(cls: type, name: str) -> bool:
    return any(name in _names(base) for base in mro(cls) if base is not object)


def _slots(cls: type) -> list[str]:
    slots = _names(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def slots_of(cls: type) -> list[str]:
    """The names of the slots, mangled as the attributes are."""
    names = []
    for base in reversed(mro(cls)):
        for name in _slots(base):
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            if name not in names:
                names.append(name)
    return names


# ---- encodings
#
# The rule of what is sent: what some receiver can build, equal to what was sent. Everything else is
# refused here, at the sender, by a shape that says so.


def encoding_for(cls: type) -> _pymq.Encoding:
    """How values of this class are written. A class that is sent is declared by that."""
    encoding = _encoding(cls)
    if not is_machinery(cls) and not issubclass(cls, BaseException):
        from pymq import _plans

        _plans.declare(cls)
    return encoding


def _encoding(cls: type) -> _pymq.Encoding:
    tag = fullname(cls) if is_tag(fullname(cls)) else None
    if issubclass(cls, (type, types.FunctionType, types.MethodType)):
        return _pymq.Encoding("name", None, "str", call=fullname)
    if issubclass(cls, enum.Enum) and not issubclass(cls, _PRIMITIVES):
        return _enum_encoding(cls, tag)
    if is_named_tuple(cls):
        return _pymq.Encoding("tuple", tag, tag or "tuple")
    for collection, (name, root) in COLLECTIONS.items():
        if issubclass(cls, collection):
            return _pymq.Encoding("dict" if root == "dict" else "set", name, root)
    for shape, base in _BASES.items():
        if issubclass(cls, base):
            return _builtin_encoding(cls, tag, shape, base)
    text = text_type(cls)
    if text is not None:
        write = _equal_writer(text) if hides_state(cls, text.cls) else text.write
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
    from pymq import _models

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
    if hides_state(cls, base):
        # The value is the base's (`numpy.float64`); a tuple's or dict's may be more than that.
        return _pymq.Encoding(shape, None, base.__name__) if base in _PRIMITIVES else _refused()
    return _refused() if is_machinery(cls) else _pymq.Encoding(shape, tag, base.__name__)


def _equal_writer(text: TextType) -> Callable[[Any], str]:
    """For classes in C with more than their base's value: `pandas.Timestamp`, and `NaT`."""

    def write(value: Any) -> str:
        written = text.write(value)
        if not text.read(written) == value:
            raise ValueError(f"it is not equal to the {text.tag} that would arrive")
        return written

    return write


def _object_encoding(cls: type, tag: str | None) -> _pymq.Encoding:
    slots = list(getattr(cls, "__struct_fields__", ())) if is_msgspec(cls) else slots_of(cls)
    dicts = ["__dict__"] if has_dict(cls) else []
    if is_pydantic(cls):
        slots, dicts = [], ["__dict__", "__pydantic_extra__"]
    if cls is types.SimpleNamespace:
        return _pymq.Encoding("object", tag, tag or "dict", dicts=dicts, slots=slots)
    if (not slots and not dicts) or issubclass(cls, _NEVER_SENT) or is_machinery(cls):
        return _refused()
    if hides_state(cls) and not is_pydantic(cls) and not is_msgspec(cls):
        return _refused()
    return _pymq.Encoding("object", tag, tag or "dict", dicts=dicts, slots=slots)


_NEVER_SENT = (types.ModuleType, io.IOBase, types.GeneratorType, types.CoroutineType)


def has_dict(cls: type) -> bool:
    """Do objects of the class have a `__dict__`?"""
    # PyPy has no `__dictoffset__`.
    offset = getattr(cls, "__dictoffset__", 0)
    return offset != 0 or any("__dict__" in _names(base) for base in mro(cls))


def data_descriptors(cls: type) -> Iterator[str]:
    """Names whose assignment runs a descriptor instead of filling `__dict__`."""
    for base in cls.__mro__:
        for name, attribute in base.__dict__.items():
            if inspect.isdatadescriptor(attribute) and not name.startswith("__"):
                yield name


# ---- Python's own JSON, where the fast parser gives up


#: What may be an integer of too many digits.
_LONG_INTEGER = re.compile(r"\d{4000}")


def slow_loads(data: bytes, digits: int) -> Any:
    """Reads JSON with Python's own `json`; integers have at most so many digits."""

    def integer(text: str) -> int:
        if len(text.lstrip("-")) > digits:
            raise ValueError(f"an integer of more than {digits} digits")
        return int(text)

    text = data.decode("utf-8")
    if _LONG_INTEGER.search(text) is None:
        integer = int  # type: ignore[assignment]
    if text.startswith("\ufeff"):
        raise ValueError("it starts with a byte order mark")
    return json.loads(text, parse_int=integer)


def slow_dumps(text: str) -> bytes:
    """A string as JSON in ASCII, whatever it holds."""
    return json.dumps(text).encode("ascii")
