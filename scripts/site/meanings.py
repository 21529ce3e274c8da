"""What a parameter's name means, the same in every function that has one, and what verbs raise."""

from __future__ import annotations

PARAMETERS = {
    "address": "the bus's address",
    "ack": '`"auto"`: an item is confirmed by the next `get`, or within 10 ms; `"manual"`: by '
    "`task_done`",
    "at": "a `datetime`, before which nobody gets the item",
    "args": "positional arguments",
    "bus": "a bus, of `pymq` or of `pymq.aio`",
    "block": "whether to wait; if not, `Full` or `Empty` is raised at once",
    "call_timeout": "how long a call may take that has no timeout of its own, in seconds; without it as "
    "long as a provider lives",
    "callback": "a function of one event",
    "channel": "the topic's name, or the function's; of an event without one, its class's full name",
    "cls": "a class, or what `typing` makes of some",
    "concurrency": "how many items or calls are handled at once",
    "deliveries": "how often the item has been handed out",
    "delay": "in seconds",
    "dispatcher": "an executor that runs the callbacks",
    "error": "what the handler raised",
    "errors": "exception classes",
    "event": "a value that can be sent, see [types](../types.md)",
    "factor": "how many times longer each delay is than the one before",
    "factory": "an address, or a callable that gives a bus; without it `PYMQ_URL`, else `memory://`",
    "first": "the first delay, in seconds",
    "fn": "a function, or where a stub is made, its name",
    "give_up_on": "exceptions after which an item is not tried again",
    "grace": "how long to wait for what is in hand, in seconds",
    "handler": "a function of one item, or of its `Delivery` if its parameter is hinted so",
    "headers": "text by name, which travels beside the value",
    "id": "of an event, the sender's name for it; of an item, a name under which it is put once",
    "immediate": "whether the items that wait are deleted",
    "item": "a value that can be sent, see [types](../types.md)",
    "items": "values that can be sent",
    "jitter": "how much longer or shorter a delay may be by chance, as a share of it",
    "kwargs": "keyword arguments",
    "lease": "for how many seconds an item stays with a consumer of which nothing is heard",
    "legacy_grace": "how long a call to all waits for providers of the original, in seconds",
    "leftover": "one that `leftovers` gave",
    "limit": "how many at most",
    "max_dead_letters": "how many dead letters are kept, the newest; 0 keeps all",
    "max_deliveries": "after how many deliveries an item is given up; 0 never",
    "maxsize": "how many items may wait; 0 is no bound",
    "message": "what `pymq.current_message` gave",
    "meter_provider": "where metrics go; by default OpenTelemetry's global one",
    "most": "the longest delay, in seconds",
    "multi": "whether all providers are called; the result is a list then",
    "name": "a name; any text",
    "namespace": "names of two namespaces never meet",
    "native": "not for programs",
    "observer": "an `Observer`",
    "options": "by name: those of the function or class that the text names",
    "order": "not for programs: `workers` and `dispatcher` say it",
    "passed": "as `headers`, and carried into the calls that the function makes itself",
    "pattern": "whether the name is a glob: `*`, `?`, `[a-z]`, and a backslash",
    "prefetch": "how many items one round trip fetches",
    "priorities": "whether items of this queue may have a priority",
    "priority": "0 to 9; higher ones come first",
    "queue": "a queue's name",
    "queues": "handles, in order of preference",
    "rds": "a live `redis.Redis`, a `RedisConfig` or an address",
    "reason": "is kept with the dead letter",
    "required": "whether nobody there is a `NoSuchRemoteError`; else the result is `None`, or `[]`",
    "retry": "a `Retry`, or the delays one by one: when an item whose handler failed comes again",
    "seconds": "how long, from now",
    "start_bus": "whether to serve at once; else `pymq.core.start()` does",
    "strict": "whether an unknown tag is a `DecodeError`; else it gives plain data",
    "timeout": "in seconds; `None` waits without end",
    "to": "another queue of the same bus",
    "topics": "whether each is a pair of its topic and the event",
    "trust": "which classes a message may choose, see [types and trust](../guides/trust.md)",
    "type": "the class, where a message's own tag is not enough",
    "types": "what the original knows of the values' types",
    "url": "an [address](../addresses.md); without it `PYMQ_URL`, else `memory://`",
    "wait": "for how many seconds connecting waits for a server that is not up yet",
    "where": "a function of a `DeadLetter` that says whether it is meant",
    "window": "for how many seconds an `id` is remembered",
    "workers": "how many callbacks run at once, all in one row",
    "delays": "the delays one by one, in seconds",
}

#: Where a name means something else.
ELSEWHERE = {
    ("pymq.worker", "queue"): "the queue's name",
    ("Worker.wait", "timeout"): "in seconds; `None` waits without end",
    ("NativeEventBus.on_state", "callback"): "a function of a `BusState`",
    (
        "pymq.stub",
        "timeout",
    ): "for the whole call, in seconds; `None` takes the bus's `call_timeout`",
    ("NativeEventBus.stub", "timeout"): "for the whole call, in seconds; `None` takes the bus's "
    "`call_timeout`",
    (
        "aio.stub",
        "timeout",
    ): "for the whole call, in seconds; `None` takes the bus's `call_timeout`",
    ("AsyncEventBus.stub", "timeout"): "for the whole call, in seconds; `None` takes the bus's "
    "`call_timeout`",
    ("NativeEventBus.close", "timeout"): "how long to wait for callbacks, in seconds",
    ("AsyncEventBus.close", "timeout"): "how long to wait for callbacks, in seconds",
    ("RedisConfig", "args"): "what `redis.Redis` takes, an address, or a live `redis.Redis`",
    (
        "RedisConfig",
        "kwargs",
    ): "what `redis.Redis` takes by name, and the options of `RedisEventBus`",
}

#: Classes whose objects the library makes.
NOT_MADE_BY_USERS = {
    "Queue",
    "Delivery",
    "Worker",
    "DeadLetters",
    "DeadLetter",
    "RunningCall",
    "AsyncEventBus",
    "AsyncTopic",
    "Events",
    "AsyncQueue",
    "AsyncDelivery",
    "AsyncDeadLetters",
    "AsyncStub",
    "Inspection",
    "TopicFacts",
    "FunctionFacts",
    "ProviderFacts",
    "Holder",
    "Finding",
    "Leftover",
    "Operation",
    "Receipt",
}

_SEND = ["EncodeError", "ConnectionLostError", "ServerError", "ClosedError"]
_SETTLE = ["LeaseLostError", "ConnectionLostError", "ServerError", "ClosedError"]
_CALL = [
    "RemoteInvocationError",
    "CallTimeoutError",
    "ProviderLostError",
    "ProviderBusyError",
    "NoSuchRemoteError",
    "CallNotSentError",
    "ConnectionLostError",
    "EncodeError",
    "DecodeError",
    "ClosedError",
]

#: What a verb raises, on whatever bus; `Full` and `Empty` are those of `queue`.
RAISES = {
    "init": ["ConfigError", "ConnectionLostError", "ServerError"],
    "connect": ["ConfigError", "ConnectionLostError", "ServerError"],
    "publish": _SEND,
    "subscribe": ["ConnectionLostError", "ServerError", "ClosedError"],
    "expose": ["ConnectionLostError", "ServerError", "ClosedError"],
    "put": [*_SEND, "OutcomeUnknownError", "ShutDown", "UnsupportedError"],
    "put_nowait": [*_SEND, "OutcomeUnknownError", "ShutDown"],
    "put_many": [*_SEND, "OutcomeUnknownError", "ShutDown", "ConfigError"],
    "get": ["DecodeError", "ShutDown", "ConnectionLostError", "ServerError", "ClosedError"],
    "get_nowait": ["DecodeError", "ShutDown", "ConnectionLostError", "ServerError", "ClosedError"],
    "get_many": ["DecodeError", "ShutDown", "ConnectionLostError", "ServerError", "ClosedError"],
    "get_delivery": [
        "DecodeError",
        "ShutDown",
        "ConnectionLostError",
        "ServerError",
        "ClosedError",
    ],
    "task_done": _SETTLE,
    "ack": _SETTLE,
    "requeue": _SETTLE,
    "reject": _SETTLE,
    "extend": _SETTLE,
    "__call__": _CALL,
    "rpc": _CALL,
}

#: What is promised of a verb, in the words of `docs/guarantees.md`.
GUARANTEES = {
    "publish": "at most once, to everyone who listens; one publisher's events on a topic in order.",
    "put": "done, or an error that says whether nothing happened or nobody knows; never doubled.",
    "put_many": "done, or an error that says whether nothing happened or nobody knows; never doubled.",
    "get_delivery": "at least once: settled, or back when it is dropped or its process dies.",
    "work": "at least once: confirmed when the handler returns, or back when its process dies.",
    "__call__": "executed at most once by one provider, with `multi` by each; its result, or an error.",
}


def of(where: str, parameter: str) -> str | None:
    """What a parameter of a function means."""
    return ELSEWHERE.get((where, parameter), PARAMETERS.get(parameter))
