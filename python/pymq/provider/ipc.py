"""The bus between processes of one machine, without a server, under the original's names.

Unlike the original's it matches patterns, and knows neither its limit of ten messages nor that of
8 KiB; the package `posix_ipc` is not needed. One callback runs at a time, as the original has it.
"""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import Executor
from typing import Any, NamedTuple

from pymq import _pymq
from pymq._bus import NativeEventBus
from pymq._bus_stages import GRACE
from pymq._forks import in_child
from pymq._options import Order
from pymq._queue import NativeQueue

__all__ = ["Found", "IpcConfig", "IpcEventBus", "IpcQueue", "Member", "buses", "clean", "look"]

#: The bus that programs share which name none.
DEFAULT = "pymq"


class Member(NamedTuple):
    """A connection on a bus."""

    #: Its process.
    process: int
    #: How many items it holds.
    holds: int


class Found(NamedTuple):
    """A bus of this machine, as its file tells without joining it."""

    #: The address that joins it.
    address: str
    #: Where its file lies.
    directory: str
    #: How much memory its file takes.
    bytes: int
    #: The connections that live, and those whose death nobody has noticed yet.
    living: list[Member]
    dead: list[Member]
    #: The queues on which anything lies, the items on them, whoever holds them, the dead letters.
    queues: int
    items: int
    dead_letters: int
    #: Files that somebody was killed in the middle of making.
    unfinished: int
    #: Why it cannot be looked at, where it cannot: then nothing else is known.
    refused: str | None
    #: Whether there is anything that `clean` takes away.
    has_leftovers: bool


def buses() -> list[Found]:
    """The buses of this user under `/dev/shm`: who is on them, what lies there, what was left.

    Those in directories of their own (`ipc:///directory`) are not among them: `look` at each.
    """
    return [_found(facts) for facts in _pymq.ipc_buses()]


def look(address: str = f"ipc://{DEFAULT}") -> Found | None:
    """The bus of that address, looked at without joining it; `None` where there is none."""
    facts = _pymq.ipc_look(address)
    return None if facts is None else _found(facts)


def clean(address: str = f"ipc://{DEFAULT}") -> Found | None:
    """Take away what was left on a bus; say what is there then, `None` if there is no bus any more.

    What the dead held goes back to its queues, as it does when anybody joins; a bus on which nobody
    is and nothing lies is deleted. Items are no leftovers: to throw them away, purge their queues.
    """
    facts = _pymq.ipc_clean(address)
    return None if facts is None else _found(facts)


def _found(facts: _pymq._Found) -> Found:
    address, directory, (size, living, dead), (queues, items, letters, unfinished), rest = facts
    alive, gone = ([Member(*member) for member in group] for group in (living, dead))
    return Found(address, directory, size, alive, gone, queues, items, letters, unfinished, *rest)


class IpcConfig:
    """A factory for `pymq.init`: a bus between the processes of this user on this machine.

    `name` is what its processes share; the options of `IpcEventBus` are taken beside it.

        pymq.init(IpcConfig())
    """

    def __init__(self, name: str = DEFAULT, **options: Any) -> None:
        self.name = name
        self._options = options

    def __call__(self) -> IpcEventBus:
        """A bus, connected."""
        return IpcEventBus(name=self.name, **self._options)


class IpcEventBus(NativeEventBus):
    """A bus between processes of one machine: `pymq.init(IpcConfig())`.

    Callbacks run one at a time, unless `workers` says how many, or a `dispatcher` runs them.
    """

    def __init__(
        self,
        namespace: str = "global",
        dispatcher: Executor | None = None,
        *,
        name: str = DEFAULT,
        workers: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            f"ipc://{name}",
            namespace=namespace,
            dispatcher=dispatcher,
            workers=workers,
            order=Order.ONE_ROW,
            **options,
        )
        self.namespace = namespace
        self.dispatcher = dispatcher
        self._shared = name
        self._queues: weakref.WeakSet[IpcQueue] = weakref.WeakSet()

    @property
    def event_loop_name(self) -> str:
        """The name that the original gives its event loop's queue; there is no such queue here."""
        return self.to_mqueue_name(f"${os.getpid()}")

    def to_mqueue_name(self, name: str) -> str:
        """The name that the original gives to a queue of this bus."""
        return f"/pymq_{self.namespace}_{name}"

    def queue(self, name: str, *args: Any, **options: Any) -> IpcQueue:
        """A handle on the queue of that name, see `NativeEventBus.queue`.

        It outlives this bus: used afterwards, or in a forked child, it connects anew.
        """
        given = dict(zip(("maxsize", "ack"), args, strict=False))
        queue = IpcQueue(name, self.to_mqueue_name(name), bus=self, **given, **options)
        self._queues.add(queue)
        return queue

    def close(self, timeout: float = GRACE) -> None:
        """End the bus, see `NativeEventBus.close`."""
        super().close(timeout)
        self._leave_queues()

    def _become_forked(self) -> None:
        super()._become_forked()
        self._leave_queues()

    def _leave_queues(self) -> None:
        for queue in list(self._queues):
            queue._become_orphan()
        self._queues.clear()


class IpcQueue(NativeQueue[Any]):
    """A queue between processes of one machine; most programs get it from their bus.

    Made directly it is the queue of a bus if `mqname` is one of `to_mqueue_name`, and has a
    connection that it shares with others of its process.
    """

    def __init__(
        self,
        name: str,
        mqname: str | None = None,
        *,
        bus: IpcEventBus | None = None,
        **options: Any,
    ) -> None:
        self._shown = name
        self._mqname = mqname or "/" + name.lstrip("/")
        self._given = options
        self._used = False
        namespace, on_bus = _split(self._mqname)
        if bus is not None:
            namespace, on_bus = bus.namespace, name
        self._shared = DEFAULT if bus is None else bus._shared
        bus = bus or _spare(self._shared, namespace)
        super().__init__(bus._handle(on_bus, **options), bus)
        self._home = (namespace, on_bus)

    @property
    def name(self) -> str:
        """The queue's name, as it was given."""
        return self._shown

    @property
    def mqname(self) -> str:
        """The name that the original gives to the queue."""
        return self._mqname

    def exists(self) -> bool:
        """Whether there is anything in the queue, or was since this handle was first used."""
        return self._used or self.unfinished_tasks > 0

    def qsize(self) -> int:
        """How many items wait."""
        self._used = True
        return super().qsize()

    def _put(
        self, payloads: list[bytes], options: dict[str, Any], block: bool, timeout: float | None
    ) -> bool:
        self._used = True
        return super()._put(payloads, options, block, timeout)

    def free(self) -> None:
        """Deletes the queue with its items, as the original does."""
        self.purge()
        self._used = False

    def _become_orphan(self) -> None:
        # The methods that take items are native and know their connection for good; whoever calls
        # them from now on calls those of another handle.
        self.__class__ = _Orphan

    def _serve(self) -> Any:
        return iter(self)


class _Orphan(IpcQueue):
    """A queue whose bus has ended: everything is asked of a handle with a connection of its own."""

    def __getattribute__(self, name: str) -> Any:
        known = super().__getattribute__("__dict__")
        if name.startswith("__"):
            return super().__getattribute__(name)
        if "heir" not in known:
            namespace, on_bus = known["_home"]
            heir = _spare(known["_shared"], namespace).queue(on_bus, **known["_given"])
            heir._shown, heir._mqname = known["_shown"], known["_mqname"]
            known["heir"] = heir
        return getattr(known["heir"], name)

    def __iter__(self) -> Any:
        return self._serve()


_open: weakref.WeakValueDictionary[tuple[int, str, str], IpcEventBus] = (
    weakref.WeakValueDictionary()
)
_lock = threading.Lock()


def _spare(name: str, namespace: str) -> IpcEventBus:
    """The connection of queues without a bus: the open one, or a new one.

    A forked child has a copy of its parent's, which it cannot use.
    """
    key = (os.getpid(), name, namespace)
    with _lock:
        bus = _open.get(key)
        if bus is None or bus.closed:
            bus = _open[key] = IpcEventBus(namespace, name=name)
        return bus


def _renew_lock() -> None:
    # A thread of the parent may have had it when it forked.
    global _lock
    _lock = threading.Lock()


in_child(_renew_lock)


def _split(mqname: str) -> tuple[str, str]:
    """The namespace and the name on the bus that the original's name of a queue tells."""
    parts = mqname.split("_", 2)
    if len(parts) == 3 and parts[0] == "/pymq" and parts[1] and parts[2]:
        return parts[1], parts[2]
    return "mqueue", mqname.lstrip("/") or mqname
