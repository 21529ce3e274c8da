"""How objects of each kind of class come into being, where a constructor call is not enough.

A reader takes plain data and returns an object, or raises; a rebuilder does so without running any
code of the class.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from pymq import _log_once, _texts, _types

Reader = Callable[[Any], Any]
#: Attribute, argument name, required, and how it is passed: by "position", "name" or "either".
Parameter = tuple[str, str, bool, str]

_PASSED: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "position",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "name",
}


def constructor(cls: type) -> list[Parameter] | None:
    """The constructor's parameters; None where no message can ever provide them all."""
    if _has_init_only_parameter(cls):
        return None
    if not _types.overrides(cls, "__init__") and not _types.overrides(cls, "__new__"):
        return []
    try:
        signature = inspect.signature(cls)
    except (ValueError, TypeError):
        return []
    fields = {}
    if _types.is_attrs(cls):
        fields = {field.alias: field.name for field in cls.__attrs_attrs__}  # type: ignore[attr-defined]
    parameters = []
    for name, parameter in signature.parameters.items():
        passed = _PASSED.get(parameter.kind)
        if passed is not None:
            required = parameter.default is parameter.empty
            parameters.append((fields.get(name, name), name, required, passed))
    return parameters


def _has_init_only_parameter(cls: type) -> bool:
    """A dataclass's `InitVar` without a default: objects do not keep it, so nobody can send it."""
    if not dataclasses.is_dataclass(cls):
        return False
    return any(
        field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        for field in cls.__dataclass_fields__.values()
    )


def rebuilder(cls: Any) -> Reader:
    """For subclasses of `str`, `int`, `float`, `tuple`, `list` and `dict`."""
    base: Any
    for base in (str, int, float, tuple):
        if issubclass(cls, base):
            return lambda value: base.__new__(cls, value)
    base, fill = (list, list.extend) if issubclass(cls, list) else (dict, dict.update)

    def rebuilt(value: Any) -> Any:
        built = base.__new__(cls)
        fill(built, value)
        return built

    return rebuilt


def enum_reader(cls: type) -> Reader:
    """By value: as it is, as a tuple, within the array that it is at the top level."""

    def candidates(value: Any) -> list[Any]:
        if isinstance(value, list):
            inner = value[:1] if len(value) == 1 else []
            return [value, _as_tuple(value), *inner, *map(_as_tuple, inner)]
        if isinstance(value, dict) and "_value_" in value:
            # The original sends a member's attributes.
            return [value["_value_"]]
        if isinstance(value, str) and issubclass(cls, (int, float)):
            # As a key of an object.
            return [value, *_number(value, int if issubclass(cls, int) else float)]
        return [value]

    def read(value: Any) -> Any:
        for candidate in candidates(value):
            try:
                return cls(candidate)
            except (ValueError, TypeError):
                continue
        forms = _by_form(cls)
        inner = value[:1] if isinstance(value, list) and len(value) == 1 else []
        for candidate in (value, *inner):
            member = forms.get(json.dumps(candidate))
            if member is not None:
                return member
        raise ValueError("it is no value of a member")

    return read


@functools.cache
def _by_form(cls: Any) -> dict[str, Any]:
    """Members by what their values look like in a message, where that is not the value itself."""
    from pymq._codec import Codec
    from pymq.json import untagged

    codec, forms = Codec(), {}
    for member in cls:
        try:
            values = untagged(json.loads(codec.encode([member._value_])))
        except TypeError:
            continue
        forms[json.dumps(values[0])] = member
    return forms


def members_coincide(cls: Any) -> bool:
    """Do two members' values look the same in a message?"""
    if all(isinstance(member._value_, (str, int, float, type(None))) for member in cls):
        return False
    return len(_by_form(cls)) < len(cls)


def _number(text: str, cls: type[int] | type[float]) -> list[float]:
    try:
        return [cls(_of_possible_length(text))]
    except ValueError:
        return []


#: An integer of as many digits as JSON may have, and room for signs and spaces.
_LONGEST_INTEGER = 4400


def _of_possible_length(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_INTEGER:
        raise ValueError("an integer of more than 4300 digits")
    return value


def integer_reader(cls: Any) -> Reader:
    """For a subclass of `int`, whatever limit the interpreter has for the digits of a text."""
    return lambda value: cls(_of_possible_length(value))


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(element) for element in value) if isinstance(value, list) else value


def exception_reader(cls: type) -> Reader:
    """Only for a hint: no tag ever chooses an exception."""

    def read(value: Any) -> Any:
        return cls(*value) if isinstance(value, (list, tuple)) else cls(value)

    return read


def text_subclass_reader(cls: Any, text: _texts.TextType) -> Reader:
    """For a program's own subclass of `datetime`, `Decimal` and their like."""
    if issubclass(cls, datetime.timedelta):

        def read_timedelta(value: Any) -> Any:
            read = text.read(value)
            return cls(read.days, read.seconds, read.microseconds)

        return read_timedelta
    if issubclass(cls, (datetime.date, datetime.time)):
        return lambda value: cls.fromisoformat(text.write(text.read(value)))
    return lambda value: cls(text.read(value))


def pydantic_reader(cls: Any) -> Reader:
    """Validates, by field names and aliases."""
    by_name = "by_name" in inspect.signature(cls.model_validate).parameters
    options = {"by_name": True, "by_alias": True} if by_name else {}
    pydantic = sys.modules["pydantic"]
    is_root = issubclass(cls, pydantic.RootModel)

    def validate(value: Any) -> Any:
        return cls.model_validate(value, **options)

    def read(value: Any) -> Any:
        if is_root and isinstance(value, dict) and value.keys() == {"root"}:
            value = value["root"]
        elif not by_name and isinstance(value, dict):
            value = _aliased(cls, value)
        try:
            return validate(value)
        except pydantic.ValidationError as error:
            places = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
            if not _without(value, places):
                raise
        _log_once.unknown_field(_types.fullname(cls))
        return validate(value)

    return read


def _without(value: Any, places: list[tuple[Any, ...]]) -> bool:
    """Takes away what the model does not know, here or within; says whether all was found."""
    for place in places:
        holder = value
        for step in place[:-1]:
            try:
                holder = holder[step]
            except (LookupError, TypeError):
                return False
        if not isinstance(holder, dict) or holder.pop(place[-1], holder) is holder:
            return False
    return bool(places)


def _aliased(cls: Any, value: dict[str, Any]) -> dict[str, Any]:
    aliases = {name: field.validation_alias for name, field in cls.model_fields.items()}
    return {
        alias if isinstance(alias := aliases.get(name), str) else name: part
        for name, part in value.items()
    }


def msgspec_reader(cls: Any) -> Reader:
    """Validates, by field names."""
    msgspec = sys.modules["msgspec"]
    names = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    config = cls.__struct_config__

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            if config.forbid_unknown_fields and not value.keys() <= names.keys():
                _log_once.unknown_field(_types.fullname(cls))
                value = {name: part for name, part in value.items() if name in names}
            value = {names.get(name, name): part for name, part in value.items()}
            if config.tag is not None:
                value[config.tag_field] = config.tag
            if config.array_like:
                tag = [] if config.tag is None else [config.tag]
                value = tag + [value[name] for name in names.values() if name in value]
        for _ in range(_MOST_UNKNOWN):
            try:
                return msgspec.convert(value, cls)
            except msgspec.ValidationError as error:
                unknown = _UNKNOWN.search(str(error))
                if unknown is None or not _without(value, [_place(unknown)]):
                    raise
            _log_once.unknown_field(_types.fullname(cls))
        return msgspec.convert(value, cls)

    return read


#: msgspec tells of one unknown field within another struct at a time.
_MOST_UNKNOWN = 20
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*?)`(?: - at `\$(?P<path>.*)`)?$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def _place(unknown: re.Match[str]) -> tuple[Any, ...]:
    steps = _STEP.findall(unknown["path"] or "")
    return (*(name or int(index) for name, index in steps), unknown["name"])
