"""A bus in pure Python, to be completed by a subclass; and the original's pieces around it.

Remote calls are written on the subclass's `_publish` and `queue` alone: a request is an event on
the function's name, the answers come on a queue of the call's own. Our own buses do not use this.
"""

from __future__ import annotations

import abc
import inspect
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pymq._abstract import WrapperTopic
from pymq._callables import describe, event_channel, first_plan, remote_name
from pymq._codec import Codec, call_plan
from pymq._nested_waits import wait_in_turn
from pymq._stub import Response, result_of
from pymq.core import (
    Empty,
    EventBus,
    Queue,
    RpcRequest,
    RpcResponse,
    StubMethod,
    Topic,
)
from pymq.exceptions import CallTimeoutError, NoSuchRemoteError
from pymq.typing import fullname

__all__ = [
    "AbstractEventBus",
    "DefaultSkeletonMethod",
    "DefaultStubMethod",
    "WrapperTopic",
    "get_remote_name",
    "inspect_listener",
    "invoke_function",
]

logger: logging.Logger = logging.getLogger("pymq")

inspect_listener = event_channel
get_remote_name = remote_name
_codec = Codec()


def invoke_function(fn: Callable[..., Any], data: str | bytes) -> None:
    """Calls a subscriber with the event that a JSON text holds, built by its parameter's hint.

    Whatever goes wrong is logged, not raised.
    """
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        fn(_codec.decode(payload, first_plan(fn), "event"))
    except Exception:
        logger.exception("subscriber %s raised", describe(fn))


class DefaultStubMethod(StubMethod[..., Any]):
    """A remote function over a bus's `publish` and `queue`.

    Without presence all receivers of the request are taken for providers, as the original does.
    The timeout, in seconds, is for the whole call.
    """

    def __init__(
        self,
        bus: EventBus,
        channel: str,
        spec: inspect.FullArgSpec | None = None,
        timeout: float | None = None,
        multi: bool = False,
    ) -> None:
        self._bus = bus
        self._channel = channel
        self._spec = spec
        self.timeout = timeout
        self.multi = multi

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it: a missing remote gives `None`, or `[]` with `multi`."""
        try:
            answer = self.rpc(*args, **kwargs)
        except NoSuchRemoteError:
            return [] if self.multi else None
        if self.multi:
            return result_of([self._opened(one) for one in answer])
        return result_of(self._opened(answer))

    def rpc(self, *args: Any, **kwargs: Any) -> Any:
        """Call it and give the `RpcResponse`, with `multi` a list of them.

        Raises `NoSuchRemoteError` if nobody received the request.
        """
        request = RpcRequest(self._channel, self._next_callback_queue(), args, kwargs)
        return self._invoke(request)

    def _next_callback_queue(self) -> str:
        """A name for the queue of one call's answers."""
        return f"__rpc_{uuid.uuid4()}"

    def _get_response_queue(self, request: RpcRequest) -> Queue[Any]:
        """The queue of a call's answers."""
        return self._bus.queue(request.response_channel)

    def _finalize_response_queue(self, queue: Queue[Any]) -> None:
        """Called when a call's queue is not needed any more."""

    def _invoke(self, request: RpcRequest) -> RpcResponse | list[RpcResponse]:
        """Publishes a request and collects its answers."""
        queue = self._get_response_queue(request)
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        try:
            receivers = self._bus.publish(request, channel=request.fn)
            if receivers == 0:
                raise NoSuchRemoteError(request.fn)
            if receivers is None and self.multi:
                raise RuntimeError(
                    "a call to all needs publish to say how many received it; it gave None"
                )
            expected = receivers if self.multi and receivers else 1
            answers = [self._next_answer(queue, deadline) for _ in range(expected)]
            return answers if self.multi else answers[0]
        finally:
            self._finalize_response_queue(queue)

    def _next_answer(self, queue: Queue[Any], deadline: float | None) -> RpcResponse:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            answer = wait_in_turn(_get, queue, left)
        except Empty:
            why = f"Gave up waiting after {self.timeout}"
            late = Response(self._channel, (why,), "TimeoutError", True)
            late.kind = CallTimeoutError
            return late
        return answer if isinstance(answer, RpcResponse) else RpcResponse(*answer)

    def _opened(self, answer: RpcResponse) -> Response:
        """An answer with its result built, or its error's arguments as a tuple."""
        if isinstance(answer, Response):
            return answer
        result = answer.result
        if answer.error:
            result = result.args if isinstance(result, BaseException) else tuple(result)
        elif answer.result_type not in (None, fullname(result)):
            # What a tag chose is built by the codec's rules.
            value, _, types = _codec.encode_result(result)
            result = _codec.decode_result(value, str(answer.result_type), types)
        return Response(answer.fn, result, answer.result_type, answer.error)

    def __repr__(self) -> str:
        return f"{self._channel}({'' if self._spec is None else self._spec})"


def _get(queue: Queue[Any], timeout: float | None) -> Any:
    # Not every queue of a user's takes a timeout of nothing to mean "now".
    return queue.get(timeout=timeout) if timeout != 0 else queue.get(block=False)


class DefaultSkeletonMethod:
    """An exposed function over a bus's `queue`: every request is answered."""

    def __init__(self, bus: EventBus, channel: str, fn: Callable[..., Any]) -> None:
        self._bus = bus
        self._channel = channel
        self._fn = fn
        self._plan = call_plan(fn)

    def __call__(self, request: RpcRequest) -> None:
        """Runs the function on a request's arguments, and puts the answer on its queue."""
        try:
            result = self._invoke(request)
            response = RpcResponse(request.fn, result, fullname(result))
        except Exception as error:
            logger.exception("remote %s raised", describe(self._fn))
            response = RpcResponse(request.fn, error, fullname(error), error=True)
        self._queue_response(request, response)

    def _queue_response(self, request: RpcRequest, response: RpcResponse) -> None:
        """Puts an answer where the request wants it."""
        self._bus.queue(request.response_channel).put(response)

    def _invoke(self, request: RpcRequest) -> Any:
        """Calls the function with a request's arguments, built by their hints."""
        parts = _codec.encode_call(tuple(request.args or ()), dict(request.kwargs or {}))
        args, kwargs = _codec.decode_call(*parts, self._plan)
        return self._fn(*args, **kwargs)


class AbstractEventBus(EventBus, abc.ABC):
    """A bus to be completed by `_publish`, `_subscribe`, `_unsubscribe` and `queue`."""

    def __init__(self) -> None:
        super().__init__()
        self._subscribers: dict[tuple[str, bool], list[Callable[..., Any]]] = defaultdict(list)
        self._remote_fns: dict[str, Callable[..., Any]] = {}

    def topic(self, name: str, pattern: bool = False) -> Topic:
        """The topic of that name, or a pattern of names."""
        return WrapperTopic(self, name, pattern)

    def publish(self, event: Any, channel: str | None = None) -> int | None:
        """Publish an event, on its class's channel unless another one is given."""
        return self._publish(event, fullname(event) if channel is None else channel)

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event; the channel defaults to the class that its parameter names."""
        if channel is None:
            channel, pattern = event_channel(callback), False
        self._subscribers[(channel, pattern)].append(callback)
        self._subscribe(callback, channel, pattern)

    def unsubscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Take back a `subscribe` with the same arguments."""
        if channel is None:
            channel, pattern = event_channel(callback), False
        callbacks = self._subscribers.get((channel, pattern))
        if callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._subscribers[(channel, pattern)]
        self._unsubscribe(callback, channel, pattern)

    def stub(
        self, fn: Callable[..., Any] | str, timeout: float | None = None, multi: bool = False
    ) -> StubMethod[..., Any]:
        """A remote function, by its name or by the function itself."""
        if callable(fn):
            spec = inspect.getfullargspec(fn)
            return self._create_stub_method(remote_name(fn), spec, timeout, multi)
        if isinstance(fn, str):
            return self._create_stub_method(fn, None, timeout, multi)
        raise TypeError(f"cannot create stub for fn type {type(fn)}")

    def expose(self, fn: Callable[..., Any], channel: str | None = None) -> None:
        """Let others call a function, under its full name unless a channel is given."""
        if channel is None:
            channel = remote_name(fn)
        if channel in self._remote_fns:
            raise ValueError(f"Function on channel {channel} already exposed")
        skeleton = self._create_skeleton_method(channel, fn)
        self._remote_fns[channel] = skeleton
        self._bind_skeleton_method(skeleton, channel)

    def unexpose(self, fn: Callable[..., Any] | str) -> None:
        """Take back an `expose`; what is not exposed is fine."""
        if not callable(fn) and not isinstance(fn, str):
            raise TypeError(f"cannot unexpose fn type {type(fn)}")
        channel = fn if isinstance(fn, str) else remote_name(fn)
        skeleton = self._remote_fns.pop(channel, None)
        if skeleton is not None:
            self._unbind_skeleton_method(skeleton, channel)

    def _create_stub_method(
        self,
        channel: str,
        spec: inspect.FullArgSpec | None,
        timeout: float | None,
        multi: bool,
    ) -> StubMethod[..., Any]:
        """Makes a stub; a place for one of one's own."""
        return DefaultStubMethod(self, channel, spec, timeout, multi)

    def _create_skeleton_method(
        self, channel: str, fn: Callable[..., Any]
    ) -> Callable[[RpcRequest], None]:
        """Makes what answers requests; a place for one of one's own."""
        return DefaultSkeletonMethod(self, channel, fn)

    def _bind_skeleton_method(self, skeleton: Callable[[RpcRequest], None], channel: str) -> None:
        """Subscribes what answers requests to them."""
        self.subscribe(skeleton, channel, False)

    def _unbind_skeleton_method(self, skeleton: Callable[[RpcRequest], None], channel: str) -> None:
        """Takes that back."""
        self.unsubscribe(skeleton, channel, False)

    def _publish(self, event: Any, channel: str) -> int | None:
        """Sends an event to all subscribers of a channel; says how many there were."""
        raise NotImplementedError

    def _subscribe(self, callback: Callable[..., Any], channel: str, pattern: bool) -> None:
        """Begins to receive for a callback."""
        raise NotImplementedError

    def _unsubscribe(self, callback: Callable[..., Any], channel: str, pattern: bool) -> None:
        """Stops to receive for a callback."""
        raise NotImplementedError
