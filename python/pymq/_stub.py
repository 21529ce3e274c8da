"""Remote functions as callers hold them.

A stub is a name, a signature if that is known, and how to wait; it holds no connection of its
own. What the answers mean is decided here: none, one, errors, those that are missing.
"""

from __future__ import annotations

import inspect
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

from pymq import _telemetry
from pymq._codec import CallPlan, Codec, call_plan
from pymq._current_call import current_call
from pymq._message import for_call
from pymq._nested_waits import wait_in_turn
from pymq._pymq import Bus, Metadata, Missing, Operation, Reply
from pymq._telemetry import Watched
from pymq.core import RpcResponse, StubMethod
from pymq.exceptions import (
    CallNotSentError,
    CallTimeoutError,
    ConnectionLostError,
    DecodeError,
    NoSuchRemoteError,
    ProviderLostError,
    RemoteInvocationError,
)

P = ParamSpec("P")
R = TypeVar("R")

# With what a call ends that has no answer.
Unanswered: TypeAlias = CallTimeoutError | ProviderLostError | ConnectionLostError
UNANSWERED = (CallTimeoutError, ProviderLostError, ConnectionLostError)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Response(RpcResponse):
    """An `RpcResponse` that also knows who it is from."""

    #: The provider's id; `None` for a provider of the original, which is anonymous.
    provider: str | None = None
    #: What it is raised as, if it is an error.
    kind: type[RemoteInvocationError] = RemoteInvocationError
    #: Where the function failed, as its own side tells it.
    traceback: str | None = None

    def __repr__(self) -> str:
        return f"Rpc{super().__repr__()}"


class Signature:
    """How a remote function wants to be called, where that is known."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._plan: CallPlan = call_plan(fn)
        self._parameters = list(self._plan.signature.parameters.values())
        self._least, self._most = _positional(self._parameters)

    @property
    def returns(self) -> Any:
        """The plan of the result's hint."""
        return self._plan.returns

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Moves keyword arguments to positions, as far as they follow without a gap.

        Providers of the original know positions only. What was moved is gone from `kwargs`; a
        wrong call is a `TypeError`.
        """
        if not kwargs and self._least <= len(args) <= self._most:
            return args
        self._plan.bind(args, kwargs)
        moved = list(args)
        for parameter in self._parameters[len(args) :]:
            if parameter.kind not in _POSITIONAL or parameter.name not in kwargs:
                break
            moved.append(kwargs.pop(parameter.name))
        return tuple(moved)

    def __str__(self) -> str:
        return str(self._plan.signature)


def _positional(parameters: list[inspect.Parameter]) -> tuple[float, float]:
    """How many arguments a call without keywords may have."""
    least, most = 0.0, 0.0
    for parameter in parameters:
        needed = parameter.default is parameter.empty
        if parameter.kind in _POSITIONAL:
            least, most = least + needed, most + 1
        elif parameter.kind is parameter.VAR_POSITIONAL:
            most = math.inf
        elif parameter.kind is parameter.KEYWORD_ONLY and needed:
            least = math.inf
    return least, most


class Encoded(NamedTuple):
    """A call's arguments as bytes."""

    args: bytes
    kwargs: bytes
    types: bytes | None


class Asked(NamedTuple):
    """One call on its way."""

    encoded: Encoded
    #: In seconds; `None` is as long as a provider lives.
    timeout: float | None
    metadata: Metadata | None
    begun: float

    def judged(self, error: ConnectionLostError) -> ConnectionLostError:
        """What it means that there was no connection: that the call's time is over, if it is."""
        if self.timeout is None or time.monotonic() - self.begun < self.timeout:
            return error
        return CallNotSentError("TimeoutError", str(error))


class NativeStub(StubMethod[P, R]):
    """A stub over the native core."""

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        channel: str,
        signature: Signature | None,
        timeout: float | None,
        multi: bool,
        legacy_grace: float,
        *,
        answered_here: Callable[[str], bool],
        required: bool = False,
        headers: Mapping[str, str] | None = None,
        passed: Mapping[str, str] | None = None,
    ) -> None:
        self._required = required
        self._headers = headers
        self._passed = passed
        self.bus = bus
        self._answered_here = answered_here
        self.channel = channel
        self.legacy_grace = legacy_grace
        self._codec = codec
        self._signature = signature
        #: How long a whole call may take, in seconds; `None` waits as long as a provider lives.
        self.timeout = timeout
        #: Whether all providers are called.
        self.multi = multi

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it: a missing remote gives `None`, or `[]` with `multi`, unless it is `required`.

        Raises `RemoteInvocationError` if the function raised, `CallTimeoutError`,
        `ProviderLostError`, and `TypeError` for arguments that do not fit; with `multi` the first
        three stand in the list.
        """
        try:
            answer = self.rpc(*args, **kwargs)
        except NoSuchRemoteError:
            if self._required:
                raise
            return self.nothing()  # type: ignore[no-any-return]
        return result_of(answer)  # type: ignore[no-any-return]

    def rpc(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it and give the `RpcResponse`, with `multi` all of them, the missing included.

        Raises `NoSuchRemoteError` if nobody provides the function.
        """
        if self._answered_here(self.channel):
            raise RuntimeError(
                f"calling {self.channel!r} here would wait for a coroutine on the event loop of "
                "this very thread; use `await pymq.aio.stub(...)(...)`"
            )
        if _telemetry.observers:
            with Watched("call", self.channel) as watched:
                return self.told(self._rpc(args, dict(kwargs), watched), watched)
        return self._rpc(args, dict(kwargs))

    def _rpc(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], watched: Watched | None = None
    ) -> Any:
        asked = self.asked(args, kwargs, watched)
        try:
            return self.answered(wait_in_turn(self._call, asked))
        except UNANSWERED as error:
            return self.unanswered(error, asked)

    def told(self, answer: Any, watched: Watched) -> Any:
        """The answer of a call; who watches is told of its error."""
        if isinstance(answer, Response) and answer.error:
            watched.error = answer.result_type
        return answer

    @property
    def required(self) -> bool:
        """Whether nobody there is an error."""
        return self._required

    def nothing(self) -> Any:
        """What a call gives when nobody is there."""
        return [] if self.multi else None

    def asked(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], watched: Watched | None = None
    ) -> Asked:
        """One call as it is made: its arguments, its limit, what it says beside them.

        It takes no longer than the call within which it is made.
        """
        encoded = self.encoded(args, kwargs)
        outer = current_call()
        left = None if outer is None else outer.left
        limits = [limit for limit in (self.timeout, left) if limit is not None]
        metadata = for_call(self._headers, self._passed, watched)
        return Asked(encoded, min(limits, default=None), metadata, time.monotonic())

    def encoded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The arguments as they travel; those of a known signature must fit it."""
        if self._signature is not None:
            args = self._signature.bind(args, kwargs)
        return Encoded(*self._codec.encode_call(args, kwargs))

    def _call(self, asked: Asked) -> Any:
        return self.calling(asked).wait()

    def calling(self, asked: Asked) -> Operation[Any]:
        """The call as an operation, whose result `answered` reads."""
        parts = (self.channel, *asked.encoded, asked.timeout)
        if self.multi:
            return self.bus.call_all(*parts, self.legacy_grace, asked.metadata)
        return self.bus.call(*parts, asked.metadata)

    def answered(self, answer: Any) -> Response | list[Response]:
        """What a call has given: one response, or with `multi` all."""
        return self._responses(*answer) if self.multi else self.response(answer)

    def _responses(self, replies: list[Reply], missing: list[Missing]) -> list[Response]:
        """All that was answered, then what was not."""
        absent = [
            self._lost(one.provider) if one.lost else self._timed_out(one.provider)
            for one in missing
        ]
        return [self._one_of_many(reply) for reply in replies] + absent

    def unanswered(self, error: Unanswered, asked: Asked) -> Response:
        """A call to one that got no answer; raises what says that it was not sent."""
        if isinstance(error, ConnectionLostError):
            raise asked.judged(error) from error.__cause__
        if isinstance(error, ProviderLostError):
            return self._lost(error.provider)
        return self._timed_out(error.provider)

    def _one_of_many(self, reply: Reply) -> Response:
        """One unreadable answer does not hide the others."""
        try:
            return self.response(reply)
        except DecodeError as error:
            return self._error(RemoteInvocationError, "DecodeError", str(error), reply.provider)

    def response(self, reply: Reply) -> Response:
        """An answer with its result built, or its error's arguments as a tuple."""
        plan = None if reply.failed or self._signature is None else self._signature.returns
        # The arguments of an error are plain data: its type names nothing that is built here.
        tag = "list" if reply.failed else reply.type_name
        value = self._codec.decode_result(reply.value, tag, reply.types, plan)
        if reply.failed:
            value = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        response = Response(self.channel, value, reply.type_name, reply.failed)
        response.provider = reply.provider
        response.traceback = reply.traceback
        return response

    def _timed_out(self, provider: str | None) -> Response:
        waited = "some time" if self.timeout in (None, math.inf) else self.timeout
        why = f"Gave up waiting after {waited}"
        return self._error(CallTimeoutError, "TimeoutError", why, provider)

    def _lost(self, provider: str | None) -> Response:
        who = "its provider" if provider is None else f"provider {provider}"
        why = f"{who} died or fell silent"
        return self._error(ProviderLostError, "ProviderLostError", why, provider)

    def _error(
        self, kind: type[RemoteInvocationError], name: str, why: str, provider: str | None
    ) -> Response:
        response = Response(self.channel, (why,), name, True)
        response.kind = kind
        response.provider = provider
        return response

    def __repr__(self) -> str:
        return f"{self.channel}{self._signature or '()'}"


def result_of(answer: Response | list[Response]) -> Any:
    """What a call gives for its answers: the result or its error, or a list of both."""
    if isinstance(answer, list):
        return [_error(one) if one.error else one.result for one in answer]
    if answer.error:
        raise _error(answer)
    return answer.result


def _error(response: Response) -> RemoteInvocationError:
    error = response.kind(response.result_type, *response.result)
    error.provider = response.provider
    error.remote_traceback = response.traceback
    if response.traceback is not None and sys.version_info >= (3, 11):
        error.add_note(f"The remote traceback:\n{response.traceback}")
    return error
