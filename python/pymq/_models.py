"""How objects of each kind of class come into being, where a constructor call is not enough.

A reader takes plain data and returns an object, or raises; a rebuilder does so without running any
code of the class.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import sys
from collections.abc import Callable
from typing import Any

from pymq import _types

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
        if isinstance(value, str) and issubclass(cls, int):
            return [value, *_integer(value)]
        return [value]

    def read(value: Any) -> Any:
        for candidate in candidates(value):
            try:
                return cls(candidate)
            except (ValueError, TypeError):
                continue
        raise ValueError(f"{value!r} is no value of it")

    return read


def _integer(text: str) -> list[int]:
    try:
        return [int(text)]
    except ValueError:
        return []


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(element) for element in value) if isinstance(value, list) else value


def exception_reader(cls: type) -> Reader:
    """Only for a hint: no tag ever chooses an exception."""

    def read(value: Any) -> Any:
        return cls(*value) if isinstance(value, (list, tuple)) else cls(value)

    return read


def text_subclass_reader(cls: Any, text: _types.TextType) -> Reader:
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

    def read(value: Any) -> Any:
        if is_root and isinstance(value, dict) and value.keys() == {"root"}:
            value = value["root"]
        elif not by_name and isinstance(value, dict):
            value = _aliased(cls, value)
        return cls.model_validate(value, **options)

    return read


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
            value = {names.get(name, name): part for name, part in value.items()}
            if config.tag is not None:
                value[config.tag_field] = config.tag
            if config.array_like:
                tag = [] if config.tag is None else [config.tag]
                value = tag + [value[name] for name in names.values() if name in value]
        return msgspec.convert(value, cls)

    return read
