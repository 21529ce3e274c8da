"""What can be subscribed and exposed, under which name; the rest is refused where it is written.

Nothing is run here and no hint is resolved before it must be: a decorator stands above names that
its module has not made yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pymq import _hints
from pymq._codec import Plan, plan_for
from pymq._types import fullname

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_subscriber(callback: object, *, by_hint: bool = False) -> None:
    """Refuses, in one sentence, what could never handle an event.

    `by_hint`: its first parameter has to name the class of its events.
    """
    fn = _checked(callback, "subscribed")
    parameters = _hints.signature(fn).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise ValueError(
                f"{describe(fn)} needs the keyword argument {parameter.name!r}, which no event "
                "gives; give it a default"
            )
    if not _takes_one(fn):
        raise ValueError(
            f"Listener functions need exactly one arguments; {describe(fn)} takes "
            f"{_hints.signature(fn)}"
        )
    if by_hint:
        _event_parameter(fn)


def check_remote(fn: object) -> None:
    """Refuses, in one sentence, what could never answer a call."""
    _checked(fn, "exposed")


def check_channel(channel: object, function: str) -> None:
    """Refuses what is no name: an object that a decorator was put above by mistake, for example."""
    if isinstance(channel, (classmethod, property)):
        raise TypeError(
            f"a {type(channel).__name__} cannot be decorated with {function}: "
            f"it belongs to a class that is not there yet; call {function} with the bound method, "
            "below the class"
        )
    if channel is not None and not isinstance(channel, str):
        raise TypeError(f"{function}: the channel is text, not {channel!r}")


def _checked(fn: object, done: str) -> Callable[..., Any]:
    if not callable(fn):
        raise TypeError(f"{fn!r} cannot be {done}: it cannot be called")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ValueError(
            f"{describe(fn)} cannot be {done}: it is a generator, so calling it runs nothing; "
            "return a list instead"
        )
    if _hints.is_in_class_body(fn):
        raise ValueError(
            f"{describe(fn)} cannot be {done}: it is a method without its object; use the bound "
            "method of an instance"
        )
    return fn


def _takes_one(fn: Callable[..., Any]) -> bool:
    try:
        _hints.signature(fn).bind(None)
    except TypeError:
        return False
    return True


def event_channel(callback: Callable[..., Any]) -> str:
    """The channel of the class that hints a subscriber's one parameter.

    Raises `ValueError` for a callback of which it cannot be told.
    """
    parameter = _event_parameter(callback)
    hint = _hint(callback, parameter.name)
    if isinstance(parameter.annotation, str) and hint is Any:
        raise ValueError(
            f"the hint {parameter.annotation!r} of {describe(callback)} cannot be resolved; "
            "make the name importable from its module, or say the channel"
        )
    if not isinstance(hint, type):
        raise ValueError(f"{hint!r} of {describe(callback)} is no class; say the channel")
    return fullname(hint)


def _event_parameter(callback: Callable[..., Any]) -> inspect.Parameter:
    parameters = _positional(callback)
    needed = [one for one in parameters if one.default is one.empty]
    if not parameters or len(needed) > 1:
        raise ValueError(
            f"Listener functions need exactly one arguments; {describe(callback)} has "
            f"{len(parameters)}, so say the channel: subscribe(callback, channel)"
        )
    if parameters[0].annotation is inspect.Parameter.empty:
        raise ValueError(
            "Please annotate the event class with an appropriate type, or say the channel; "
            f"{describe(callback)} does neither"
        )
    return parameters[0]


def remote_name(fn: Callable[..., Any]) -> str:
    """The name that a function is exposed under by itself: module and qualified name."""
    try:
        return f"{fn.__module__}.{fn.__qualname__}"
    except AttributeError:
        raise ValueError(f"{fn!r} has no name of its own; say the channel") from None


def describe(fn: Callable[..., Any]) -> str:
    """A callback's name, for people."""
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None)
    return f"{module}.{name}" if module else name


def _positional(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = _hints.signature(fn).parameters.values()
    return [parameter for parameter in parameters if parameter.kind in _POSITIONAL]


def _hint(fn: Callable[..., Any], name: str) -> Any:
    return _hints.stripped(_hints.of_callable(fn).get(name, Any))


def first_plan(callback: Callable[..., Any]) -> Plan | None:
    """The plan of the hint of a subscriber's first parameter."""
    parameters = _positional(callback)
    return plan_for(_hint(callback, parameters[0].name)) if parameters else None


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives something to be awaited."""
    return inspect.iscoroutinefunction(fn) or (
        not inspect.isroutine(fn) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    )
