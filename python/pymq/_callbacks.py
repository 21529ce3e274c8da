"""What becomes of an arrival: an event for a subscriber, a call for an exposed function.

Both decode by a plan that was made once from the function's hints, run the function, and never
let an arrival go unanswered. Who runs them, and when, is `_lane.py`'s business; what can be
subscribed or exposed at all is said in `_callables.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from pymq import _failures
from pymq._callables import describe, first_plan, is_coroutine_function
from pymq._codec import Codec, call_plan
from pymq._current_call import RunningCall, running
from pymq._gevent import refuse_coroutines
from pymq._loops import Loops, running_loop
from pymq._message import Handled
from pymq._nested_waits import may_be_absent
from pymq._pymq import Call, Metadata
from pymq.exceptions import DecodeError, EncodeError, RemoteInvocationError

logger = logging.getLogger("pymq")


class Runner:
    """Runs a function or a coroutine function to its end on the calling thread's time."""

    def __init__(self, fn: Callable[..., Any], loops: Loops) -> None:
        self.fn = fn
        self.is_coroutine: bool = is_coroutine_function(fn)
        if self.is_coroutine:
            refuse_coroutines()
        self._loops = loops
        self._loop = running_loop() if self.is_coroutine else None
        loops.declare(self._loop)

    def __call__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        gone: Callable[[], bool] | None = None,
    ) -> Any:
        """The result; a coroutine is cancelled when `gone` says that nobody waits for it."""
        result = self.fn(*args, **kwargs)
        # What a plain function returns may be a coroutine too: a partial, a decorator's.
        if not isinstance(result, CoroutineType):
            return result
        with may_be_absent():
            return self._loops.run(result, self._loop, gone)

    @property
    def home(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it would run on."""
        return self._loops.home(self._loop) if self.is_coroutine else None


class Subscriber:
    """A subscriber and its channel."""

    def __init__(
        self,
        callback: Callable[..., Any],
        channel: str,
        codec: Codec,
        loops: Loops,
        failed: Callable[[Subscriber, BaseException], None],
    ) -> None:
        self._failed = failed
        self.label = f"subscriber {describe(callback)} on {channel!r}"
        self._run = Runner(callback, loops)
        self._decode = codec.decode
        self._plan = first_plan(callback)

    def __call__(self, topic: str | None, payload: bytes) -> None:
        metadata, payload = Metadata.detach(payload)
        try:
            event = self._decode(payload, self._plan, "event")
        except DecodeError as error:
            # Neither the event nor a part of it: what others send is not ours to log.
            logger.error("%s: an event on %r is dropped: %s", self.label, topic, error.redacted)
            self._failed(self, error)
            return
        with Handled(topic, metadata):
            try:
                self._run((event,), {})
            except BaseException as error:
                self._failed(self, error)
                raise


class ExposedFunction:
    """An exposed function: every call of it is answered, with a result or with an error."""

    def __init__(self, fn: Callable[..., Any], channel: str, codec: Codec, loops: Loops) -> None:
        self.label: str = f"remote {describe(fn)} on {channel!r}"
        self._channel = channel
        self._codec = codec
        self._loops = loops
        self._plan = call_plan(fn)
        self.runner: Runner = Runner(fn, loops)

    def __call__(self, topic: str | None, call: Call) -> None:
        if call.cancelled:
            # Whoever asked has gone, or was told that its time is over.
            return
        call_here = RunningCall(call, self._channel, self._loops)
        token = running.set(call_here)
        try:
            with Handled(self._channel, call.metadata, verb="serve") as handled:
                self._answer(call, handled)
        finally:
            running.reset(token)
            if call_here._afterwards is not None:
                call_here._afterwards()

    def _answer(self, call: Call, handled: Handled) -> None:
        """First the caller is told, then the log: what fails there must not cost the answer."""
        try:
            args, kwargs = self._codec.decode_call(call.args, call.kwargs, call.types, self._plan)
        except (DecodeError, TypeError) as error:
            handled.failed(error)
            self._fail(call, error)
            # The caller is told what is wrong; what it sent is not ours to log.
            words = error.redacted if isinstance(error, DecodeError) else "arguments do not fit"
            logger.warning("%s: a wrong call: %s", self.label, words)
            return
        except BaseException as error:
            # Of a constructor that the arguments name.
            self._fail(call, error)
            raise
        try:
            result = self.runner(args, kwargs, lambda: call.cancelled)
        except BaseException as error:
            handled.failed(error)
            self._fail(call, error, _failures.trace_of(error))
            if isinstance(error, asyncio.CancelledError) and call.cancelled:
                logger.debug("%s was cancelled by its caller", self.label)
                return
            raise
        try:
            encoded = self._codec.encode_result(result)
            # Before the caller knows, so that its own end comes later.
            handled.succeeded()
            call.answer(*encoded)
        except BaseException as error:
            handled.failed(error)
            self._fail(call, error)
            if not isinstance(error, EncodeError):
                raise
            logger.error("%s: its result cannot be sent: %s", self.label, error.redacted)

    def _fail(self, call: Call, error: BaseException, trace: str | None = None) -> None:
        name = None
        # Under names that every peer knows, the original's too.
        if isinstance(error, EncodeError):
            error = TypeError(str(error))
        elif isinstance(error, DecodeError):
            error = ValueError(str(error))
        try:
            if type(error) is RemoteInvocationError and error.args:
                # The function chooses under which name it fails, and with which arguments.
                name, *arguments = error.args
                error = RemoteInvocationError(*arguments)
            # Arguments that cannot be sent go in words.
            value, type_name, types = self._codec.encode_result(error)
            type_name = type_name if name is None else str(name)
            call.answer(value, type_name, types, failed=True, traceback=trace)
        except BaseException:
            # Not even in words; the caller is told what it was, and that it was.
            value, _, types = self._codec.encode_result([_failures.words_of(error)])
            call.answer(value, _failures.fullname_of(error), types, failed=True)
