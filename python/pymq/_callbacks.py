"""What becomes of an arrival: an event for a subscriber, a call for an exposed function.

Both decode by a plan that was made once from the function's hints, run the function, and never
let an arrival go unanswered. Who runs them, and when, is `_dispatch.py`'s business.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from pymq import _hints
from pymq._codec import Codec, Plan, call_plan, plan_for
from pymq._dispatch import Loops, running_loop
from pymq._pymq import Call
from pymq._types import fullname
from pymq.exceptions import DecodeError, EncodeError

logger = logging.getLogger("pymq")


def event_channel(callback: Callable[..., Any]) -> str:
    """The channel of the class that hints a subscriber's one parameter.

    Raises `ValueError` for a callback of which it cannot be told.
    """
    parameters = _parameters(callback)
    if len(parameters) != 1:
        raise ValueError(
            f"Listener functions need exactly one arguments; {describe(callback)} has "
            f"{len(parameters)}, so say the channel: subscribe(callback, channel)"
        )
    (parameter,) = parameters
    if parameter.annotation is parameter.empty:
        raise ValueError(
            "Please annotate the event class with an appropriate type, or say the channel; "
            f"{describe(callback)} does neither"
        )
    hint = _hint(callback, parameter.name)
    if isinstance(parameter.annotation, str) and hint is Any:
        raise ValueError(
            f"the hint {parameter.annotation!r} of {describe(callback)} cannot be resolved; "
            "make the name importable from its module, or say the channel"
        )
    if not isinstance(hint, type):
        raise ValueError(f"{hint!r} of {describe(callback)} is no class; say the channel")
    return fullname(hint)


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


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = _hints.signature(fn).parameters.values()
    return [parameter for parameter in parameters if parameter.kind not in variable]


def _hint(fn: Callable[..., Any], name: str) -> Any:
    return _hints.stripped(_hints.of_callable(fn).get(name, Any))


def first_plan(callback: Callable[..., Any]) -> Plan | None:
    """The plan of the hint of a subscriber's first parameter."""
    parameters = _parameters(callback)
    return plan_for(_hint(callback, parameters[0].name)) if parameters else None


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives something to be awaited."""
    return inspect.iscoroutinefunction(fn) or (
        not inspect.isroutine(fn) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    )


class Runner:
    """Runs a function or a coroutine function to its end on the calling thread's time."""

    def __init__(self, fn: Callable[..., Any], loops: Loops) -> None:
        self.fn = fn
        self._loops = loops
        self._loop = running_loop() if is_coroutine_function(fn) else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.fn(*args, **kwargs)
        # What a plain function returns may be a coroutine too: a partial, a decorator's.
        return self._loops.run(result, self._loop) if asyncio.iscoroutine(result) else result


class Listener:
    """A subscriber and its channel."""

    def __init__(self, callback: Callable[..., Any], channel: str, codec: Codec, loops: Loops):
        self.label = f"subscriber {describe(callback)} on {channel!r}"
        self._run = Runner(callback, loops)
        self._decode = codec.decode
        self._plan = first_plan(callback)

    def __call__(self, topic: str | None, payload: bytes) -> None:
        try:
            event = self._decode(payload, self._plan, "event")
        except DecodeError as error:
            # Not the event itself: what others send is not ours to log.
            logger.error("%s: an event on %r is dropped: %s", self.label, topic, error)
            return
        self._run(event)


class RunningCall:
    """The call that an exposed function is busy with."""

    def __init__(self, call: Call, function: str) -> None:
        self._call = call
        #: The name that was called.
        self.function = function

    @property
    def cancelled(self) -> bool:
        """Whether the caller has stopped waiting; then nobody will see the result."""
        return self._call.cancelled


_running: ContextVar[RunningCall | None] = ContextVar("pymq_running_call", default=None)


def current_call() -> RunningCall | None:
    """The call that is being answered here, or `None` outside of an exposed function."""
    return _running.get()


class Skeleton:
    """An exposed function: every call of it is answered, with a result or with an error."""

    def __init__(self, fn: Callable[..., Any], channel: str, codec: Codec, loops: Loops) -> None:
        self.label = f"remote {describe(fn)} on {channel!r}"
        self._channel = channel
        self._codec = codec
        self._plan = call_plan(fn)
        self._run = Runner(fn, loops)

    def __call__(self, topic: str | None, call: Call) -> None:
        try:
            args, kwargs = self._codec.decode_call(call.args, call.kwargs, call.types, self._plan)
        except (DecodeError, TypeError) as error:
            logger.warning("%s: a wrong call: %s", self.label, error)
            self._fail(call, error)
            return
        token = _running.set(RunningCall(call, self._channel))
        try:
            result = self._run(*args, **kwargs)
        except BaseException as error:
            logger.exception("%s raised", self.label)
            self._fail(call, error)
            return
        finally:
            _running.reset(token)
        try:
            value, type_name, types = self._codec.encode_result(result)
        except EncodeError as error:
            logger.error("%s: its result cannot be sent: %s", self.label, error)
            self._fail(call, error)
            return
        call.answer(value, type_name, types)

    def _fail(self, call: Call, error: BaseException) -> None:
        # Under names that every peer knows, the original's too.
        if isinstance(error, EncodeError):
            error = TypeError(str(error))
        elif isinstance(error, DecodeError):
            error = ValueError(str(error))
        # Arguments that cannot be sent go in words.
        value, type_name, types = self._codec.encode_result(error)
        call.answer(value, type_name, types, failed=True)
