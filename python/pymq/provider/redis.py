"""The bus over Redis, under the original's names.

redis-py is not needed: its arguments are read as an address, and a client of it is made only for a
program that asks for `rds`. One callback runs at a time, as the original has it.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from pymq._bus import NativeEventBus
from pymq._options import Order
from pymq._queue import NativeQueue
from pymq.exceptions import ConfigError, UnsupportedError
from pymq.provider import _address

__all__ = ["RedisConfig", "RedisEventBus", "RedisQueue"]

_OURS = ("namespace", "dispatcher", "workers", "trust", "strict", "legacy_grace")
_PREFIX = "__eventbus:"


class RedisConfig:
    """A factory for `pymq.init`: takes what `redis.Redis` takes, a URL, or a live `redis.Redis`.

    The client that `master_for` of a `redis.sentinel.Sentinel` makes is one, too: the bus finds the
    master by those sentinels itself, and follows it. So is a live `redis.RedisCluster`: the bus
    is on that cluster, and follows its slots. Beside these the options of `RedisEventBus`
    are taken by name. Raises `ConfigError` for an argument that matters and cannot be honoured.

        pymq.init(RedisConfig(host="localhost", port=6379))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._options = {name: kwargs.pop(name) for name in _OURS if name in kwargs}
        self.args = args
        self.kwargs = kwargs
        #: The live client, if one was given.
        self.rds: Any = args[0] if args and _address.is_client(args[0]) else None
        #: The address that the arguments name; it may hold a password.
        self.url: str = _address.from_arguments(args, kwargs)

    def get_redis(self) -> Any:
        """A client of redis-py for the same server; needs that package."""
        return self.rds if self.rds is not None else _client(self.args, self.kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_address.without_password(self.url)}>"

    def __call__(self) -> RedisEventBus:
        """A bus, connected."""
        return RedisEventBus(rds=self, **self._options)


class RedisEventBus(NativeEventBus):
    """A bus over Redis in a namespace of one's own.

    `rds` is a live `redis.Redis` or `redis.RedisCluster`, a `RedisConfig` or a URL; without it the
    server is the local one. Callbacks run one at a time, unless `workers` says how many, or a
    `dispatcher` runs them.
    """

    #: How long, in seconds, answers to callers of the original are kept for them.
    rpc_channel_expire = 300

    def __init__(
        self,
        namespace: str = "global",
        dispatcher: Executor | None = None,
        rds: Any = None,
        *,
        workers: int | None = None,
        **options: Any,
    ) -> None:
        config = rds if isinstance(rds, RedisConfig) else _config(rds)
        super().__init__(
            config.url,
            namespace=namespace,
            dispatcher=dispatcher,
            workers=workers,
            order=Order.ONE_ROW,
            **options,
        )
        self.namespace = namespace
        self.dispatcher = dispatcher
        #: What every key and channel of users begins with.
        self.channel_prefix: str = f"{_PREFIX}{namespace}:"
        self._config = config
        self._rds: Any = config.rds

    @property
    def rds(self) -> Any:
        """A client of redis-py for the bus's server: the one that was given, or one made now.

        A `redis.Redis`, or on a cluster a `redis.RedisCluster`.
        """
        if self._rds is None:
            self._rds = self._config.get_redis()
        return self._rds

    def queue(self, name: str, *args: Any, **options: Any) -> RedisQueue:
        """A handle on the queue of that name, see `NativeEventBus.queue`."""
        given = dict(zip(("maxsize", "ack"), args, strict=False))
        return RedisQueue(self, name, **given, **options)


class RedisQueue(NativeQueue[Any]):
    """A queue on a Redis list; most programs get it from their bus.

    Made directly, from a client of redis-py, it has a connection of its own, and its key must be
    one of a bus: `__eventbus:`, a namespace, a colon and the name.
    """

    def __init__(self, rds: Any, name: str, key: str | None = None, **options: Any) -> None:
        bus, on_bus = rds, name
        if not isinstance(bus, RedisEventBus):
            namespace, on_bus = _split(key or name)
            bus = RedisEventBus(namespace, rds=rds)
        super().__init__(bus._handle(on_bus, **options), bus)
        self._shown = name

    @property
    def name(self) -> str:
        """The queue's name, as it was given."""
        return self._shown


def _split(key: str) -> tuple[str, str]:
    namespace, colon, name = key.removeprefix(_PREFIX).partition(":")
    if not key.startswith(_PREFIX) or not colon or not name:
        raise UnsupportedError(
            f"the key {key!r} is outside of every bus; use queue(name) of a RedisEventBus, or a "
            f"key such as '{_PREFIX}global:jobs'"
        )
    return namespace, name


def _config(rds: Any) -> RedisConfig:
    return RedisConfig() if rds is None else RedisConfig(rds)


def _client(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        import redis
    except ImportError:
        raise ConfigError("a client of redis-py was asked for, which is not installed") from None
    wanted = {**kwargs, "decode_responses": True}
    if args and _address.is_of_sentinels(str(args[0])):
        return _master(str(args[0]), wanted)
    if args and _address.is_of_cluster(str(args[0])):
        return _cluster(str(args[0]), wanted)
    if args and "://" in str(args[0]):
        return redis.Redis.from_url(_address.for_redis_py(str(args[0])), **wanted)
    return redis.Redis(*args, **wanted)


def _master(url: str, wanted: dict[str, Any]) -> Any:
    from redis import sentinel as of_redis

    hosts, name, theirs, known = _address.for_sentinels(url)
    made: Any = of_redis.Sentinel
    sentinel = made(hosts, sentinel_kwargs=theirs)
    return sentinel.master_for(name, **{**known, **wanted})


def _cluster(url: str, wanted: dict[str, Any]) -> Any:
    from redis import cluster as of_redis

    hosts, known = _address.for_cluster(url)
    made: Any = of_redis.RedisCluster
    node: Any = of_redis.ClusterNode
    nodes = [node(host, port) for host, port in hosts]
    return made(startup_nodes=nodes, **{**known, **wanted})
