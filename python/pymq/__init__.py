"""Publish/subscribe, queues and remote calls: without a server, over Redis, in memory.

One default bus is behind the functions here; `connect` gives others, with the same verbs.

    init, shutdown, connect                    begin and end
    publish, subscribe, subscriber, topic      events: to everyone who subscribes
    queue, get_from, worker                    queues: each item to one consumer
    expose, remote, stub                       calls: one provider executes, or all answer
    current_message, current_call, register    what is handled here; which classes may arrive

`pymq.aio` has them for asyncio, `pymq.testing` a bus for tests. `help(pymq.queue)` and the like
tell each. The names, arguments and wire are those of the original `pymq` 0.2.2 to 0.7.0.
"""

from __future__ import annotations

import atexit as _atexit

from pymq import _default, exceptions, provider
from pymq._bus import NativeEventBus, connect
from pymq._codec import register
from pymq._current_call import RunningCall, current_call
from pymq._dead_letters import DeadLetter
from pymq._handlers import worker
from pymq._message import Message, current_message
from pymq._original import warn_of_original as _warn_of_original
from pymq._pymq import __version__
from pymq._queue import Delivery, Stats, get_from
from pymq._retry import Retry
from pymq._worker import Worker
from pymq.core import (
    Empty,
    EventBus,
    Full,
    Queue,
    RpcRequest,
    RpcResponse,
    StubMethod,
    Topic,
    expose,
    init,
    publish,
    queue,
    remote,
    shutdown,
    stub,
    subscribe,
    subscriber,
    topic,
    unexpose,
    unsubscribe,
)
from pymq.exceptions import (
    CallNotSentError,
    CallTimeoutError,
    ClosedError,
    ConfigError,
    ConnectionLostError,
    DecodeError,
    EncodeError,
    LeaseLostError,
    NoSuchRemoteError,
    OutcomeUnknownError,
    ProviderBusyError,
    ProviderLostError,
    PymqError,
    RemoteInvocationError,
    RpcException,
    ServerError,
    ShutDown,
    UnsupportedError,
)

#: The package's name, as the original has it.
name = "pymq"

__all__ = [
    "CallNotSentError",
    "CallTimeoutError",
    "ClosedError",
    "ConfigError",
    "ConnectionLostError",
    "DeadLetter",
    "DecodeError",
    "Delivery",
    "Empty",
    "EncodeError",
    "EventBus",
    "Full",
    "LeaseLostError",
    "Message",
    "NativeEventBus",
    "NoSuchRemoteError",
    "OutcomeUnknownError",
    "ProviderBusyError",
    "ProviderLostError",
    "PymqError",
    "Queue",
    "RemoteInvocationError",
    "Retry",
    "RpcException",
    "RpcRequest",
    "RpcResponse",
    "RunningCall",
    "ServerError",
    "ShutDown",
    "Stats",
    "StubMethod",
    "Topic",
    "UnsupportedError",
    "Worker",
    "__version__",
    "connect",
    "current_call",
    "current_message",
    "exceptions",
    "expose",
    "get_from",
    "init",
    "name",
    "provider",
    "publish",
    "queue",
    "register",
    "remote",
    "shutdown",
    "stub",
    "subscribe",
    "subscriber",
    "topic",
    "unexpose",
    "unsubscribe",
    "worker",
]

_atexit.register(_default.at_exit)
_warn_of_original()
