"""Type hints as the program meant them.

Names that cannot be resolved (imports for the type checker alone) count as no hint; they never
make a class or a function unusable.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
import operator
import sys
import types
import typing
from collections.abc import Callable, Hashable, Sized
from typing import Annotated, Any, ClassVar, Final, TypeVar

# Python 3.10 has neither.
NotRequired: Any = getattr(typing, "NotRequired", None)
Required: Any = getattr(typing, "Required", None)

#: Hints that say nothing about how to build a value.
OPEN: tuple[Any, ...] = (
    Any,
    object,
    inspect.Parameter.empty,
    type(None),
    typing.Callable,
    Hashable,
    Sized,
    numbers.Number,
    numbers.Complex,
    numbers.Real,
    numbers.Rational,
    numbers.Integral,
)

_TYPING = ("typing", "typing_extensions")

_OPEN_SIGNATURE = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)

_WRAPPERS = tuple(
    wrapper for wrapper in (Annotated, ClassVar, Final, NotRequired, Required) if wrapper
)


def stripped(hint: Any) -> Any:
    """The hint without what matters to type checkers only."""
    while True:
        if typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif isinstance(hint, dataclasses.InitVar):
            hint = hint.type
        else:
            return hint


def of_class(cls: type, args: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The hints of a class's attributes, then of those that only its constructor hints."""
    hints = {
        name: hint
        for name, hint in _resolved(cls).items()
        if typing.get_origin(hint) is not ClassVar and hint is not ClassVar
    }
    init = cls.__init__  # type: ignore[misc]
    if inspect.isfunction(init):
        for name, hint in _resolved(init).items():
            if name != "return":
                hints.setdefault(name, _with_self(hint, cls))
    parameters = getattr(cls, "__parameters__", ())
    if args and parameters:
        values = dict(zip(parameters, args, strict=False))
        hints = {name: _substituted(hint, values) for name, hint in hints.items()}
    return hints


def of_attributes(cls: type) -> dict[str, Any]:
    """The hints of a class's attributes alone, as the original reads them."""
    return _resolved(cls)


def of_callable(fn: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a function's parameters, and of its result as `return`."""
    while isinstance(fn, (functools.partial, functools.partialmethod)):
        fn = fn.func
    if isinstance(fn, type):
        return _resolved(fn.__init__)  # type: ignore[misc]
    if not inspect.isroutine(fn) and hasattr(type(fn), "__call__"):  # noqa: B004
        fn = type(fn).__call__
    return _resolved(fn)


def of_typed_dict(cls: type) -> tuple[dict[str, Any], list[str]]:
    """The hints of the keys, and the keys that must be there."""
    required = []
    hints = _resolved(cls, include_extras=True)
    for name, hint in hints.items():
        origin = typing.get_origin(hint)
        if NotRequired is not None and origin is NotRequired:
            continue
        if name in cls.__required_keys__ or (Required is not None and origin is Required):  # type: ignore[attr-defined]
            required.append(name)
    return hints, required


def signature(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature as callers see it: a method given as a plain function has no `self`."""
    try:
        found = inspect.signature(fn)
    except (TypeError, ValueError):
        # Some builtins and mocks do not tell; then all arguments are theirs to judge.
        return _OPEN_SIGNATURE
    if is_in_class_body(fn):
        found = found.replace(parameters=list(found.parameters.values())[1:])
    return found


def is_in_class_body(fn: Callable[..., Any]) -> bool:
    """Whether it is a method as a plain function: it takes a `self` that nobody gives it."""
    if not inspect.isfunction(fn):
        return False
    inside = fn.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(fn).parameters), None)
    return first == "self" and bool(inside) and not inside.endswith("<locals>")


def _substituted(hint: Any, values: dict[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return values.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if parameters and not isinstance(hint, type):
        return hint[tuple(values.get(parameter, parameter) for parameter in parameters)]
    return hint


def _resolved(owner: Any, include_extras: bool = False) -> dict[str, Any]:
    # A class may refer to itself where its name cannot be seen, inside of a function.
    own = {owner.__name__: owner} if isinstance(owner, type) else {}
    try:
        hints = typing.get_type_hints(owner, localns=own, include_extras=include_extras)
    except Exception:
        hints = _one_by_one(owner, own)
    if isinstance(owner, type):
        return {name: _with_self(hint, owner) for name, hint in hints.items()}
    return hints


def _with_self(hint: Any, cls: type) -> Any:
    """The hint with the class in the place of `Self`."""
    if getattr(hint, "__module__", None) in _TYPING and str(hint).endswith(".Self"):
        return cls
    args = typing.get_args(hint)
    if not args or typing.get_origin(hint) is typing.Literal:
        return hint
    given = tuple(_with_self(arg, cls) for arg in args)
    if all(mine is before for mine, before in zip(given, args, strict=True)):
        return hint
    if isinstance(hint, types.UnionType):
        return functools.reduce(operator.or_, given)
    if hasattr(hint, "copy_with"):
        return hint.copy_with(given)
    return typing.get_origin(hint)[given]


def _one_by_one(owner: Any, own: dict[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(owner.__mro__) if isinstance(owner, type) else (owner,):
        module = sys.modules.get(getattr(base, "__module__", ""))
        names = {**vars(typing), **getattr(base, "__globals__", vars(module) if module else {})}
        for name, hint in _annotations(base).items():
            try:
                hints[name] = eval(hint, names, own) if isinstance(hint, str) else hint
            except Exception:
                hints[name] = Any
    return hints


def _annotations(owner: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner)
    except Exception:
        return {}
