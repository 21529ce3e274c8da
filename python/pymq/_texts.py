"""Values that travel as text: bytes, dates, numbers of other kinds, paths, addresses.

Each class has a tag, a writer and a reader; a subclass travels as its base. To read a text from the
wire is never more work than its length allows, and every version of Python reads it alike.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import ipaddress
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar


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


def text_type(cls: type) -> TextType | None:
    """How values of this class travel as text, if they do; a subclass travels as its base."""
    if cls in (type(pathlib.Path()), type(pathlib.PurePath())):
        cls = pathlib.Path if issubclass(cls, pathlib.Path) else cls
    for base in cls.__mro__:
        if base in TEXT_TYPES:
            return TEXT_TYPES[base]
    return None


def is_path(cls: type) -> bool:
    """A path, pure or not."""
    return issubclass(cls, pathlib.PurePath)
