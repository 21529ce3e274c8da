"""The native core: bytes, names and waiting. Values are `_codec.py`'s, callbacks `_lane.py`'s.

Every wait releases the GIL and answers signals on the main thread within 50 ms. Timeouts are
seconds; `None` waits without end. Errors are the classes of `pymq.exceptions`.
"""

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from inspect import Signature
from types import GenericAlias
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from typing_extensions import disjoint_base

from pymq import _abstract as abstract
from pymq import _queue as queues
from pymq._aio_queue import AsyncDelivery, AsyncQueue

__all__ = [
    "AsyncGetter",
    "AsyncServing",
    "Bus",
    "Call",
    "CallPlan",
    "CodecCore",
    "Completions",
    "Delivery",
    "Encoding",
    "Getter",
    "Inspection",
    "Intake",
    "LastStep",
    "Letter",
    "Listening",
    "Metadata",
    "Missed",
    "Missing",
    "OpenItems",
    "Operation",
    "Plan",
    "Provider",
    "Queue",
    "Reader",
    "Reply",
    "Reservation",
    "Serving",
    "Subscription",
    "Taking",
    "__version__",
    "aio_get_from",
    "forget_tags",
    "ipc_buses",
    "ipc_clean",
    "ipc_look",
    "main",
    "offer_from",
    "set_log_level",
    "speaks",
    "take_log",
    "watch_items",
]

from typing_extensions import Self

__version__: Final[str]

_T = TypeVar("_T")

#: A state: its word, since when in seconds since 1970, and why.
_Standing: TypeAlias = tuple[str, float | None, str | None]

#: A record of the native log: level, target, message, fields, seconds since 1970.
_LogRecord: TypeAlias = tuple[int, str, str, list[tuple[str, str]], float]

#: A bus of this machine: its address and directory; its size in bytes, and of those who live and of
#: the dead each process with what it holds; queues, items, dead letters, unfinished files; why it
#: cannot be looked at, and whether there is anything to clean away.
_Found: TypeAlias = tuple[
    str,
    str,
    tuple[int, list[tuple[int, int]], list[tuple[int, int]]],
    tuple[int, int, int, int],
    tuple[str | None, bool],
]

def main(words: Sequence[str]) -> int:
    """Runs a command line, the program's name first; gives the exit code."""

def ipc_buses() -> list[_Found]:
    """The buses of this user under `/dev/shm`."""

def ipc_look(address: str) -> _Found | None:
    """The bus of that address, looked at without joining it."""

def ipc_clean(address: str) -> _Found | None:
    """Takes away what was left on a bus; gives what is there then."""

def take_log(wait: bool) -> list[_LogRecord] | None:
    """Records of the native log; `None` when there is nobody left who could say anything."""

@final
class Listening:
    """Something is about to speak, until this is dropped."""

    def __new__(cls) -> Listening: ...

def speaks() -> bool:
    """Whether any bus has its I/O thread, or something is still to be told."""

def set_log_level(level: int) -> None:
    """What Python's logger takes at least, as Python numbers levels."""

@final
class Operation(Generic[_T]):
    """Something that a bus is to do: done once, by `wait` or by `Completions.begin`.

    Nothing happens before. A wait that is broken off gives it up, and claimed items go back
    uncounted; a settlement and a close that were begun are done all the same.
    """

    def wait(self, timeout: float | None = None) -> _T:
        """Waits for the result; `TimeoutError` when that takes longer than `timeout` seconds."""

@final
class Bus:
    """A connection with an I/O thread of its own; ends with `close`, or with its last handle."""

    @staticmethod
    def connect(
        url: str, namespace: str = "global", wait: float | None = None
    ) -> Operation[Bus]: ...
    @property
    def state(self) -> _Standing: ...
    def ping(self) -> Operation[float]: ...
    def next_state(self, known: _Standing | None) -> Operation[_Standing | None]: ...
    def health(self) -> dict[str, Any]: ...
    def inspect(self) -> Inspection: ...
    def publish(self, topic: str, payload: bytes) -> Operation[int | None]: ...
    def post(self, topic: str, payload: bytes) -> Operation[None] | None: ...
    def subscribe(
        self, name: str, pattern: bool, place: Reservation | None = None
    ) -> Operation[Subscription]: ...
    def provide(self, function: str, place: Reservation | None = None) -> Operation[Provider]: ...
    def queue(self, name: str, **options: Any) -> Queue:
        """Those of `pymq._options.QueueOptions` and `maxsize`, without `retry`."""
    def call(
        self,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
        metadata: Metadata | None = None,
    ) -> Operation[Reply]: ...
    def call_all(
        self,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
        legacy_grace: float = 5.0,
        metadata: Metadata | None = None,
    ) -> Operation[tuple[list[Reply], list[Missing]]]: ...
    def close(self, timeout: float = 10.0) -> Operation[None]: ...
    def abandon(self) -> None:
        """In a forked child: lets go of everything without touching the parent's sockets.

        In the process that connected it: `ValueError`, close it instead.
        """
    @property
    def capabilities(self) -> dict[str, bool]: ...

@final
class Subscription:
    """A live subscription, to be attached to an `Intake`; `end` waits until the broker knows.

    What arrived before the end can still be taken. Dropped, and attached to no intake, it ends too.
    """

    @property
    def name(self) -> str: ...
    @property
    def pattern(self) -> bool: ...
    def end(self) -> Operation[None]: ...

@final
class Provider:
    """An exposed function, to be attached to an `Intake`; ends as a `Subscription` does."""

    @property
    def function(self) -> str: ...
    @property
    def id(self) -> str: ...
    def end(self) -> Operation[None]: ...

@final
class Metadata:
    """Headers, an identity and the time of sending of one message; at most 8 KiB as written."""

    def __new__(
        cls,
        headers: dict[str, str] | None = None,
        passed: dict[str, str] | None = None,
        id: str | None = None,
        sent: float | None = None,
    ) -> Metadata: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def passed(self) -> dict[str, str]: ...
    @property
    def id(self) -> str | None: ...
    @property
    def sent(self) -> float | None: ...
    def attach(self, payload: bytes) -> bytes:
        """A message with this in it, as peers of the original read it too."""
    def attach_if_readable(self, payload: bytes) -> bytes | None:
        """The same if every peer can read that; else nothing."""
    @staticmethod
    def detach(message: bytes) -> tuple[Metadata | None, bytes]:
        """What a message says of itself, and the message without it."""

@final
class Call:
    """One request; dropped unanswered it is answered with an error, or given to another provider.

    Looking at its arguments begins it: only what has not begun is given to another provider. So a
    loop that waits for the next batch must not keep the last one's calls in its variables.
    """

    @property
    def args(self) -> bytes: ...
    @property
    def kwargs(self) -> bytes: ...
    @property
    def types(self) -> bytes | None: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def left(self) -> float | None: ...
    @property
    def cancelled(self) -> bool: ...
    def answer(
        self,
        value: bytes,
        type_name: str,
        types: bytes | None = None,
        failed: bool = False,
        traceback: str | None = None,
    ) -> None: ...

@final
class Reply:
    """What one provider answered."""

    @property
    def value(self) -> bytes: ...
    @property
    def type_name(self) -> str: ...
    @property
    def types(self) -> bytes | None: ...
    @property
    def failed(self) -> bool: ...
    @property
    def traceback(self) -> str | None: ...
    @property
    def provider(self) -> str | None: ...

@final
class Missing:
    """A provider that did not answer."""

    @property
    def provider(self) -> str | None: ...
    @property
    def lost(self) -> bool: ...

@final
class Intake:
    """Where a dispatching thread pulls batches from: several sources, in the order of arrival."""

    def __new__(cls) -> Intake: ...
    def attach(self, source: Subscription | Provider) -> int:
        """Begins to read a source (which stays attached until it ends); its number in batches."""
    def reserve(self) -> Reservation:
        """A place for a source that is about to begin; `detach` gives it up."""
    def detach(self, number: int) -> None: ...
    def recv(
        self, limit: int = 256, timeout: float | None = None
    ) -> list[tuple[int, str | None, Any]]:
        """Waits for arrivals, then takes all there are, up to `limit`.

        Each is (source, topic, payload) for an event, and without a topic (source, None, what) for
        all else: a `Call`, `Missed` events, or None when the source has ended. An empty batch:
        timeout, or `close`.
        """
    def close(self) -> None:
        """Wakes whoever waits; from then on `recv` gives what is left and then empty batches."""
    @property
    def closed(self) -> bool: ...
    @property
    def idle(self) -> bool:
        """Whether nothing is there to be taken, and what was taken was followed by `recv`."""
    def fileno(self) -> int:
        """An event descriptor, readable while there is something to take; for event loops."""

@final
class Reservation:
    """Where in an intake a source will be, read from its first moment on."""

    @property
    def number(self) -> int: ...

@final
class Missed:
    """Events that were missed, in the place where they would have been."""

    @property
    def count(self) -> int | None:
        """How many; `None` where a connection was lost and nobody can know."""

@final
class Queue:
    """A queue of bytes with this handle's options."""

    @property
    def name(self) -> str: ...
    def put(
        self, items: Sequence[bytes], block: bool, timeout: float | None, **options: Any
    ) -> Operation[bool]:
        """Says whether it did: not, if they were put before under the same id.

        The options are those of `pymq._options.PutOptions`, without `headers` and `at`.
        """
    def claim(
        self, limit: int, block: bool, timeout: float | None
    ) -> Operation[list[Delivery]]: ...
    def counts(self) -> Operation[tuple[int, int, int, int]]:
        """Waiting, leased, dead, due later, for who asks for nothing else."""

    def stats(self) -> Operation[tuple[int, int, int, int, float | None, int | None]]:
        """Waiting, leased, dead, due later; the oldest's age in seconds, consumers."""
    def join(self) -> Operation[None]: ...
    def peek(self, dead: bool, limit: int) -> Operation[list[bytes]]: ...
    def purge(self, dead: bool) -> Operation[int]: ...
    def letters(self, skip: int, limit: int) -> Operation[list[Letter]]:
        """Dead letters after the `skip` oldest, oldest first, left where they are."""
    def redrive(self, which: int | Sequence[Letter], to: Queue | None = None) -> Operation[int]: ...
    def discard(self, which: int | Sequence[Letter]) -> Operation[int]: ...
    def shut_down(self) -> Operation[None]: ...
    def fetched_ahead(self) -> int: ...
    def give_back(self) -> None:
        """Returns what was fetched ahead to the head, uncounted. Does not wait."""
    def bound(self, maxsize: int) -> None:
        """Another bound, for what is put from now on."""
    def stop(self) -> None:
        """Takes nothing more: what waits for an item ends with `ClosedError`. Does not wait."""
    @property
    def stopped(self) -> bool: ...
    def task_done(self, hand: OpenItems, owner: int) -> Operation[None]:
        """Confirms the item that an owner did; its end is to be told by `OpenItems.task_ended`."""
    def let_go(self, hand: OpenItems) -> Operation[None]:
        """Requeues what is in hand, and returns what was fetched ahead."""

@final
class Letter:
    """A dead letter."""

    @property
    def payload(self) -> bytes: ...
    @property
    def reason(self) -> str: ...
    @property
    def failure(self) -> tuple[str, str, str]:
        """The error's type, its words, and where it failed."""
    @property
    def deliveries(self) -> int | None: ...
    @property
    def died(self) -> float | None: ...

@final
class Delivery:
    """A leased item; dropped unsettled it goes back to its queue, counted."""

    @property
    def payload(self) -> bytes: ...
    @property
    def metadata(self) -> Metadata | None: ...
    @property
    def deliveries(self) -> int: ...
    @property
    def settled(self) -> bool: ...
    def ack(self) -> Operation[None]: ...
    def ack_soon(self) -> None: ...
    def requeue(self, delay: float = 0.0) -> Operation[None]: ...
    def fail(self, delay: float | None, error: str, words: str, origin: str) -> Operation[None]:
        """Its handler failed: it comes again after a delay, or is a dead letter without one."""
    def give_back(self) -> None:
        """To the head, uncounted: it was never handed to anybody. Does not wait."""
    def reject(self, words: str = "", origin: str = ...) -> Operation[None]: ...
    def extend(self, seconds: float) -> Operation[None]: ...

@final
class Completions:
    """Results of asynchronous operations, pulled by an event loop when `fileno` is readable.

    `begin` starts an operation under a token of the caller's choice; `resolve` tells of those
    that have ended. A result that is cancelled or never told is dropped: claimed items go back,
    uncounted.
    """

    def __new__(cls) -> Completions: ...
    def fileno(self) -> int: ...
    def begin(self, token: int, operation: Operation[Any]) -> None: ...
    def resolve(self, waiting: dict[int, Any]) -> None:
        """Tells the futures in `waiting`, by token, of what has ended, and takes them out.

        Interrupted in the middle, it goes on where it was when it is called again.
        """
    def reader(self, reactor: Any) -> Reader:
        """What a loop calls when `fileno` is readable: `resolve` with the reactor's `waiting`.

        Dropped, it ends everything, as `close` does: only the loop is to have it.
        """
    def cancel(self, token: int) -> None:
        """Ends an operation, of which nothing is reported then.

        A claimed item on its way goes back to the queue, uncounted. A settlement and a close that
        were begun are done all the same.
        """
    def close(self) -> None: ...

@final
class Reader:
    """See `Completions.reader`."""

    def __call__(self, *args: Any, **kwargs: Any) -> None: ...

# ---- getting items

@disjoint_base
class OpenItems:
    """What a handle gave out and nobody has settled yet, by owner: a thread, or a task's number."""

    def __new__(cls, manual: bool) -> Self: ...
    @property
    def manual(self) -> bool: ...
    def add(self, delivery: Delivery) -> None:
        """Takes a delivery in hand, for the calling thread's `task_done`."""
    @staticmethod
    def new_owner() -> int: ...
    def owner_ended(self, owner: int, failed: bool) -> None:
        """What an owner had is nobody's, or goes back if it `failed`."""
    def task_ended(self, owner: int) -> None:
        """An owner knows that its `task_done` has ended."""

@disjoint_base
class Getter(Generic[_T]):
    """The half of a queue's handle that gets items."""

    def __new__(cls, *_args: Any, **_options: Any) -> Self: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def _attach(self, handle: Any, delivery: Any, tells: bool = True) -> None: ...
    def _offer(self, block: bool, timeout: float | None) -> LastStep[_T]: ...
    def _offer_many(self, limit: int, block: bool, timeout: float | None) -> LastStep[list[_T]]: ...
    def _settle(self) -> LastStep[None]: ...
    def get_delivery(
        self, block: bool = True, timeout: float | None = None
    ) -> queues.Delivery[_T]: ...
    def __iter__(self) -> Serving[_T]: ...

@final
class LastStep(Generic[_T]):
    """What is left to do of a call: until `result` is read nothing has happened, and after it the
    caller has it, whatever a signal handler raises."""

    @property
    def result(self) -> _T: ...

def offer_from(
    queues: Iterable[abstract.Queue[_T]], block: bool, timeout: float | None
) -> LastStep[tuple[abstract.Queue[_T], _T]]: ...

@final
class Serving(Generic[_T]):
    """A loop over items; dropped, it requeues the one in hand."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> _T: ...

@disjoint_base
class AsyncGetter(Generic[_T]):
    """The half of a queue's handle that gets items, for event loops."""

    def __new__(cls, *_args: Any, **_options: Any) -> Self: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def _attach(
        self, handle: Any, delivery: Any, owner: Callable[[], int], tells: bool = True
    ) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Taking[_T]: ...
    def get_nowait(self) -> Taking[_T]: ...
    def get_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> Taking[list[_T]]: ...
    def get_delivery(
        self, block: bool = True, timeout: float | None = None
    ) -> Taking[AsyncDelivery[_T]]: ...
    def __aiter__(self) -> AsyncServing[_T]: ...

def aio_get_from(
    queues: Iterable[AsyncQueue[_T]], block: bool = True, timeout: float | None = None
) -> Taking[tuple[AsyncQueue[_T], _T]]:
    """Take an item from the first of some queues that has one, as `pymq.get_from` does."""

@final
class AsyncServing(Generic[_T]):
    """A loop over items; dropped, it requeues the one in hand."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Taking[_T]: ...

@final
class Taking(Coroutine[Any, Any, _T]):
    """A get under way, to be awaited once or to be made a task of."""

    def __await__(self) -> Generator[Any, Any, _T]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any) -> Any: ...
    def throw(self, *raised: Any) -> Any: ...
    def close(self) -> None: ...

def watch_items(watch: bool) -> None:
    """Says whether `pymq._telemetry.got` is to be told of what queues give."""

@final
class Inspection:
    """Who is on a bus, as plain tuples. `pymq._inspect.Inspection` is what programs hold."""

    def topics(self) -> Operation[list[tuple[str, int]]]: ...
    def functions(
        self,
    ) -> Operation[list[tuple[str, list[tuple[str, int | None]], int, int]]]: ...
    def queues(self) -> Operation[list[str]]: ...
    def holders(self, queue: str) -> Operation[list[tuple[str, int, float | None]]]: ...
    def examine(self) -> Operation[list[tuple[str, str, str, str]]]: ...
    def leftovers(self) -> Operation[list[tuple[str, str]]]: ...
    def tidy(self, name: str, words: str) -> Operation[None]: ...

# ---- codec: values to bytes and back

@final
class Plan:
    """How one type hint is built from JSON. `pymq._plans.plan_for` makes them."""

    @property
    def cls(self) -> type | None: ...
    @staticmethod
    def any() -> Plan: ...
    @staticmethod
    def primitive(class_: type) -> Plan: ...
    @staticmethod
    def scalar(
        class_: type,
        tag: str,
        make: Callable[[Any], Any],
        rebuild: Callable[[Any], Any] | None = None,
    ) -> Plan: ...
    @staticmethod
    def array(
        class_: type | None,
        tag: str | None,
        each: Plan,
        make: Callable[[list[Any]], Any] | None = None,
    ) -> Plan: ...
    @staticmethod
    def fixed_tuple(class_: type, fixed: list[Plan]) -> Plan: ...
    @staticmethod
    def mapping(
        class_: type | None,
        tag: str | None,
        key: Plan,
        value: Plan,
        make: Callable[[dict[Any, Any]], Any] | None = None,
    ) -> Plan: ...
    @staticmethod
    def union(plans: list[Plan]) -> Plan: ...
    @staticmethod
    def literal(values: list[Any]) -> Plan: ...
    @staticmethod
    def named_tuple(
        class_: type, tag: str, fields: list[tuple[str, Plan]], defaults: dict[str, Any], /
    ) -> Plan: ...
    @staticmethod
    def typed_dict(fields: list[tuple[str, Plan]], required: list[str]) -> Plan: ...
    @staticmethod
    def object(
        class_: type,
        tag: str,
        fields: list[tuple[str, Plan]],
        parameters: list[tuple[str, str, bool, str]] | None,
        *,
        direct: bool,
        slots: list[str],
        has_dict: bool,
        frozen: bool,
    ) -> Plan: ...
    @staticmethod
    def model(class_: type, tag: str, make: Callable[[Any], Any]) -> Plan: ...
    @staticmethod
    def refused(reason: str) -> Plan: ...
    @staticmethod
    def later() -> Plan: ...
    def fill(self, plan: Plan) -> None: ...

@final
class CallPlan:
    """The parameters of a function with their plans. `pymq._plans.call_plan` makes them."""

    def __new__(
        cls,
        name: str,
        signature: Signature,
        parameters: list[tuple[str, Plan, bool]],
        *,
        positional_only: int,
        positional: int,
        rest: Plan | None,
        keywords: Plan | None,
        returns: Plan | None,
    ) -> CallPlan: ...
    @property
    def name(self) -> str: ...
    @property
    def returns(self) -> Plan | None: ...
    @property
    def signature(self) -> Signature: ...
    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `TypeError` if the function cannot be called like this."""

@final
class Encoding:
    """How values of one class are written. `pymq._encodings.encoding_for` makes them."""

    def __new__(
        cls,
        shape: str,
        tag: str | None,
        root: str,
        *,
        call: Callable[[Any], str] | None = None,
        dicts: list[str] = ...,
        slots: list[str] = ...,
    ) -> Encoding: ...
    @property
    def is_refused(self) -> bool: ...
    @property
    def name(self) -> str: ...

@disjoint_base
class CodecCore:
    """Encodes and decodes values. `pymq._codec.Codec` is what the package uses."""

    def __new__(
        cls,
        *,
        encoding: Callable[[type], Encoding],
        resolve: Callable[[str], Plan | None],
        unknown: Callable[[str], None],
        dropped: Callable[[str], None],
        number: Callable[[str], Any],
        loads: Callable[[bytes, int], Any],
        dumps: Callable[[str], bytes],
        strict: bool,
        max_bytes: int,
        max_depth: int,
    ) -> Self: ...
    @property
    def _steps(self) -> int:
        """The values that `decode` has looked at: what messages have cost, for tests."""

    def encode(self, value: Any, what: str = "event") -> bytes:
        """An event or a queue item as JSON; raises `EncodeError`, which calls it `what`."""

    def decode(self, data: bytes, plan: Plan | None = None, what: str = "event") -> Any:
        """An event or a queue item from JSON; raises `DecodeError`."""

    def encode_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, bytes, bytes | None]:
        """Args as a JSON array, kwargs as a JSON object, and their types tree (`0`, `1`)."""

    def decode_call(
        self, args: bytes, kwargs: bytes, types: bytes | None, plan: CallPlan
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments; raises `TypeError` for a wrong call, else `DecodeError`."""

    def encode_result(self, value: Any) -> tuple[bytes, str, bytes | None]:
        """A result, or an exception's arguments: its JSON, `result_type` and its types tree."""

    def decode_result(
        self, result: bytes, result_type: str, types: bytes | None = None, plan: Plan | None = None
    ) -> Any:
        """A result from its parts; `plan` is that of the return hint."""

def forget_tags() -> None:
    """Makes all codecs look tags up again, after a class was declared."""
