"""A bus over the native core: what the module-level verbs and `connect` stand on.

Here are its verbs: events, queues, remote calls. How it begins, serves and ends is the business of
`_bus_life.py`. Its options are listed in `_options.py`; the order of callbacks is one of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    overload,
)

from pymq import _buses, _gevent, _log, _options, _pymq, _telemetry
from pymq._abstract import EventBus, StubMethod, Topic, WrapperTopic
from pymq._bus_life import BusLife
from pymq._callables import remote_name
from pymq._callbacks import Subscriber
from pymq._codec import Codec
from pymq._executor_lane import ExecutorLane
from pymq._handle import Handle
from pymq._lane import Lane
from pymq._loops import Loops, running_loop
from pymq._message import attached
from pymq._options import BusOptions, CallOptions, Order, QueueOptions
from pymq._queue import NativeQueue
from pymq._service import Service
from pymq._stub import NativeStub, Signature
from pymq._telemetry import Watched
from pymq._types import fullname
from pymq._worker import Handler, Worker
from pymq.exceptions import RemoteInvocationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("pymq")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class NativeEventBus(BusLife, EventBus):
    """A bus at an address: `memory://`, `memory://name`, `ipc://name`,
    `redis://[user[:password]@]host[:port][/db]`, `redis+sentinel://host,host/master`, `redis+cluster://host,host`.

    Programs see each other within one `namespace`. `trust` and `strict` say which classes messages
    may choose, see `pymq.register`. Callbacks run side by side, each subscriber's in order;
    `workers=n` puts all callbacks in one row of which n run at a time, `dispatcher` hands them to
    an executor. `call_timeout` is how long a call may take that has no timeout of its own, in
    seconds, `math.inf` for ever; without it a call waits as long as a provider of ours is alive. If
    only unknown subscribers listen (they may be providers of the original) and none answers, it
    gives up after 20 s.
    `legacy_grace` is how long a call to all without a timeout waits for providers of the original
    beside ours, in seconds.
    `wait` is how many seconds connecting waits for a server that is not
    there yet; by default a first attempt that fails raises `ConnectionError` at once.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "global",
        trust: Literal["loaded", "declared"] = "loaded",
        strict: bool = False,
        workers: int | None = None,
        dispatcher: Executor | None = None,
        order: Order = Order.SIDE_BY_SIDE,
        legacy_grace: float = 5.0,
        wait: float | None = None,
        call_timeout: float | None = None,
        native: _pymq.Bus | None = None,
    ) -> None:
        if workers is not None:
            workers = _options.count("workers", workers)
        legacy_grace = _options.seconds("legacy_grace", legacy_grace, endless=False)
        if call_timeout is not None:
            call_timeout = _options.seconds("call_timeout", call_timeout)
        self._call_timeout = call_timeout
        self._codec = Codec(trust=trust, strict=strict)
        self._namespace = namespace
        self._legacy_grace = legacy_grace
        loops = Loops()
        row: Lane | None = None
        if dispatcher is not None:
            if not callable(getattr(dispatcher, "submit", None)):
                raise TypeError(f"dispatcher is an executor, not {dispatcher!r}")
            row = ExecutorLane("dispatch", dispatcher)
        elif workers is not None or order is Order.ONE_ROW:
            row = Lane("dispatch", workers or 1)
        service = Service(self._codec, loops, row, self._noticed_failure)
        super().__init__(self._codec, service, loops)
        if native is None:
            _gevent.refuse_others()
            listening = _log.listen()
            native = _gevent.waiting(_pymq.Bus.connect(url, namespace, wait).wait)
            del listening
        self._native: _pymq.Bus = native
        _buses.add(self)

    # ---- events

    def publish(
        self,
        event: Any,
        channel: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        """Publish an event, on its class's channel unless another one is given.

        `headers` (text by name) and `id` go with it, see `pymq.current_message`. At most
        once: who is not subscribed, away or too slow does not get it. Says how many
        received it, as the transport counts: subscriptions in memory, connections on Redis.

        With `wait=False` it waits neither for the broker nor for a connection, at most for room in
        the connection's buffer, and says nothing. What is lost on the way, since there is no
        connection, or it breaks, or the broker refuses, is counted in `health()["lost_posts"]` and
        told in the log. Events keep their order, and `close` sends what is still to be sent.
        """
        if _telemetry.observers:
            with self._publishing(event, channel) as watched:
                return self._send(*self._encoded(event, channel, headers, id, watched), wait)
        return self._send(*self._encoded(event, channel, headers, id), wait)

    def _send(self, topic: str, payload: bytes, wait: bool) -> int | None:
        if wait:
            return self._native.publish(topic, payload).wait()
        full = self._native.post(topic, payload)
        if full is not None:
            full.wait()
        return None

    def _publishing(self, event: Any, channel: str | None) -> Watched:
        """An event that is published while somebody watches."""
        topic = fullname(event) if channel is None else channel
        return Watched("publish", topic, bus=self._native)

    def _encoded(
        self,
        event: Any,
        channel: str | None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        watched: Watched | None = None,
    ) -> tuple[str, bytes]:
        """Where an event goes, and as what."""
        payload = self._codec.encode(event, "event")
        if headers or id is not None or watched is not None:
            [payload] = attached([payload], headers, id, watched)
        name = fullname(event) if channel is None else channel
        self._noticed_event(name, event)
        return name, payload

    def _noticed_event(self, channel: str, event: Any) -> None:
        """Told of every event that is published; for tests."""

    def _noticed_failure(self, subscriber: Subscriber, error: BaseException) -> None:
        """Told of every event that a subscriber did not handle; for tests."""

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event; once this returns, the next event published is seen.

        The channel defaults to the class that hints the callback's one parameter. `async def`
        callbacks run on the event loop that this is called from, else on one of the bus.
        """
        self._serve_if_begun(self._declare(callback, channel, pattern))

    def unsubscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Take back a `subscribe`; once this returns, the callback is not begun any more.

        Raises `ValueError` if the channel has subscribers, but not this one.
        """
        bound = self._find(callback, channel, pattern)
        if bound is not None:
            self._end(bound)

    def topic(self, name: str, pattern: bool = False) -> Topic:
        """The topic of that name, or a pattern of names."""
        return WrapperTopic(self, name, pattern)

    # ---- queues

    @overload
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: type[T],
        **options: Unpack[QueueOptions],
    ) -> NativeQueue[T]: ...
    @overload
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: Any = None,
        **options: Unpack[QueueOptions],
    ) -> NativeQueue[Any]: ...
    @_options.shows(QueueOptions, _options.QUEUE)
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: Any = None,
        **options: Unpack[QueueOptions],
    ) -> NativeQueue[Any]:
        """A handle on the queue of that name; the options are this handle's.

        `maxsize` bounds how many items wait. `ack="manual"` keeps an item leased until
        `task_done`. `lease` is how long, in seconds, an item stays with a consumer of which nothing
        is heard; `max_deliveries` after how many tries it becomes a dead letter (0: never);
        `prefetch` how many items one round trip fetches; `type` the items' type, where tags are
        not enough. `retry` says when an item whose handler failed comes again, a `Retry` or a list
        of delays; `max_dead_letters` how many are kept, the newest (0: all); with `priorities`
        items may have one.
        """
        handle = self._handle(name, maxsize=maxsize, ack=ack, type=type, **options)
        return NativeQueue(handle, self)

    def start_worker(
        self, queue: NativeQueue[Any], handler: Handler, concurrency: int, grace: float
    ) -> Worker:
        """Start a worker that ends with the bus; `queue.work` is the way to do so."""
        self._check_open()
        grace = _options.seconds("grace", grace)
        worker = Worker(queue, handler, concurrency, self._loops, running_loop())
        for pair in list(self._workers):
            if not pair[0].running:
                with contextlib.suppress(ValueError):
                    self._workers.remove(pair)
        self._workers.append((worker, grace))
        return worker

    def _handle(self, name: str, **options: Any) -> Handle[Any]:
        self._check_open()
        return Handle(self._native, self._codec, name, **options)

    # ---- remote calls

    @overload
    def stub(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        timeout: float | None = None,
        multi: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> StubMethod[P, R]: ...
    @overload
    def stub(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        timeout: float | None = ...,
        *,
        multi: Literal[True],
        **options: Unpack[CallOptions],
    ) -> StubMethod[P, list[R | RemoteInvocationError]]: ...
    @overload
    def stub(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, R],
        timeout: float | None = None,
        multi: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> StubMethod[P, R]: ...
    @overload
    def stub(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, R],
        timeout: float | None = ...,
        *,
        multi: Literal[True],
        **options: Unpack[CallOptions],
    ) -> StubMethod[P, list[R | RemoteInvocationError]]: ...
    @overload
    def stub(
        self,
        fn: Callable[..., Any] | str,
        timeout: float | None = None,
        multi: bool = False,
        **options: Unpack[CallOptions],
    ) -> StubMethod[..., Any]: ...
    @_options.shows(CallOptions, _options.CALL)
    def stub(
        self,
        fn: Callable[..., Any] | str,
        timeout: float | None = None,
        multi: bool = False,
        **options: Unpack[CallOptions],
    ) -> StubMethod[..., Any]:
        """A remote function, by its name or by the function itself, whose signature it keeps.

        `timeout` is for a whole call, in seconds; it defaults to the bus's `call_timeout`, and
        `math.inf` is for ever. With `multi` all who provide it are called. When nobody does, a call
        gives `None`, or `[]`; with `required` it raises `NoSuchRemoteError`. `headers` go with each
        call, `passed` into the calls made from within it as well, see `pymq.current_message`.
        """
        return self._stub(fn, timeout, multi, **options)

    def _stub(
        self,
        fn: Callable[P, Any] | str,
        timeout: float | None,
        multi: bool,
        **options: Unpack[CallOptions],
    ) -> NativeStub[P, Any]:
        _options.known("stub", options, _options.CALL)
        if not callable(fn) and not isinstance(fn, str):
            raise TypeError(f"cannot create stub for fn type {type(fn)}")
        timeout = self._call_timeout if timeout is None else _options.seconds("timeout", timeout)
        channel = fn if isinstance(fn, str) else remote_name(fn)
        signature = None if isinstance(fn, str) else Signature(fn)
        self._check_open()
        return NativeStub(
            self._native,
            self._codec,
            channel,
            signature,
            timeout,
            multi,
            self._legacy_grace,
            answered_here=_buses.provides_here,
            **options,
        )

    def expose(
        self, fn: Callable[..., Any], channel: str | None = None, *, concurrency: int = 1
    ) -> None:
        """Let others call a function, under its full name unless a channel is given.

        It handles `concurrency` calls at a time. Raises `ValueError` if the name is taken here.
        """
        self._serve_if_begun(self._declare_remote(fn, channel, concurrency))

    def unexpose(self, fn: Callable[..., Any] | str) -> None:
        """Take back an `expose`; what is not exposed is fine."""
        bound = self._find_remote(fn)
        if bound is not None:
            self._end(bound)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._namespace!r} {self._state.name.lower()}>"


def connect(url: str | None = None, **options: Unpack[BusOptions]) -> NativeEventBus:
    """A bus of its own, beside the default one: `with pymq.connect(url) as bus: …`.

    The address defaults to the environment's `PYMQ_URL`, else `"memory://"`. Options by name:
    `namespace`, `wait` (seconds for a server that is not up yet), `call_timeout`, `trust`,
    `strict`, `workers`, `dispatcher`, `legacy_grace`; see `NativeEventBus`.
    """
    address = url if url is not None else os.environ.get("PYMQ_URL") or "memory://"
    bus = NativeEventBus(address, **options)
    bus.begin()
    return bus
