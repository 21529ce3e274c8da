"""A Redis server of one's own and peers on it, each a process that speaks the lines of peer.py.

Whatever a ``with`` has started is ended when it is left, and at exit at the latest. A wait of the
rig ends after ``HANG_GUARD`` with what the process last wrote; it never measures how long anything
took. What a kind of peer is stands in ``KINDS``: a new one is one line there.
"""

import atexit
import contextlib
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from description import describe
from resp import HANG_GUARD, Capture, Connection, Reply

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "__eventbus:global:"
SLOTS = 16384
PROGRAM = str(Path(__file__).with_name("peer.py"))

_STARTED: set["subprocess.Popen[Any]"] = set()


@dataclass(frozen=True)
class Kind:
    """How a peer is started, and what may be expected of it.

    ``command`` gives the arguments to which the rig adds the server's address and the peer's name.
    ``subscribes_at_once`` says that a subscription is active when ``subscribe`` has returned. The
    original only sends the command by then, so the rig asks the server before it goes on; where a
    peer promises more, the rig does not wait, and so puts the promise to the test.
    """

    command: Callable[[], list[str]]
    subscribes_at_once: bool = False


@functools.cache
def original(version: str) -> str:
    """The python of an environment with this version of the original."""
    return _script("original-env", version)


@functools.cache
def rust_example(name: str) -> str:
    """A Rust example's program, built before the tests run, since pytest is no build tool."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = (ROOT / target / "debug/examples" / name).resolve()
    if not path.exists():
        raise AssertionError(f"{path} is missing; run `cargo build --examples` first")
    return str(path)


KINDS: Mapping[str, Kind] = {
    "0.2.2": Kind(lambda: [original("0.2.2"), PROGRAM]),
    "0.7.0": Kind(lambda: [original("0.7.0"), PROGRAM]),
    "rust": Kind(lambda: [rust_example("interop_peer")], subscribes_at_once=True),
    "python": Kind(lambda: [sys.executable, PROGRAM], subscribes_at_once=True),
}
OLD = ("0.2.2", "0.7.0")
NEW = ("rust", "python")


class PeerFailed(Exception):
    """A command raised in the peer: the class, its bases and its described arguments."""

    def __init__(self, name: str, arguments: list[Any], bases: list[str]) -> None:
        super().__init__(name, arguments)
        self.name = name
        self.arguments = arguments
        self.bases = bases


class Server:
    """A redis-server on a free port, without persistence, in a folder that goes with it."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    def __enter__(self) -> "Server":
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pymq-rig-")))
            self.port, self._process = _start_redis(self.folder, self._arguments)
            stack.callback(lambda: _end(self._process))
            self._connection = stack.enter_context(Connection(self.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self, *words: str | bytes | int) -> Reply:
        return self._connection.command(*words)

    def kill(self) -> None:
        """End the server at once, with all that it knew."""
        self._connection.close()
        _end(self._process)

    def start_again(self) -> None:
        """Start a killed server where it was, empty."""
        deadline = time.monotonic() + HANG_GUARD
        # Somebody else may have the port meanwhile, as the near end of a connection.
        while (process := _start_redis_on(self.port, self.folder, self._arguments)) is None:
            assert time.monotonic() < deadline, f"port {self.port} was taken by somebody else"
            time.sleep(0.05)
        self._process = process
        self._connection = self._stack.enter_context(Connection(self.port))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the server hang, its sockets open, for as long as the block runs."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def cut(self) -> int:
        """Cut every connection but the rig's own; says how many there were."""
        killed = 0
        for kind in ("normal", "pubsub"):
            reply = self.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            assert isinstance(reply, int), reply
            killed += reply
        return killed

    def listen(self, channel: str) -> Capture:
        """Subscribe to exactly one channel of users, as a provider of the original does."""
        return Capture(self.port, PREFIX + channel, command="SUBSCRIBE")

    def capture(self, pattern: str = "*") -> Capture:
        """Read what is published on users' channels that match."""
        return Capture(self.port, PREFIX + pattern)

    def subscribers(self, channel: str) -> int:
        """How many connections are subscribed to exactly this channel of a user."""
        reply = self.command("PUBSUB", "NUMSUB", PREFIX + channel)
        assert isinstance(reply, list), reply
        assert isinstance(reply[1], int), reply
        return reply[1]

    def blocked_clients(self) -> int:
        """How many connections wait in a blocking command."""
        reply = self.command("INFO", "clients")
        assert isinstance(reply, bytes), reply
        return int(reply.split(b"blocked_clients:")[1].split()[0])

    def pattern_subscriptions(self) -> int:
        """How many patterns all connections hold together; PUBSUB NUMPAT counts equal ones once."""
        reply = self.command("CLIENT", "LIST")
        assert isinstance(reply, bytes), reply
        words = reply.decode().split()
        return sum(int(word[len("psub=") :]) for word in words if word.startswith("psub="))


class Sentinel:
    """A sentinel that watches a server, alone, under the name ``mymaster``."""

    def __init__(self, master: Server) -> None:
        self._master = master

    def __enter__(self) -> "Sentinel":
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pymq-rig-")))
            process = self._process_on_a_free_port(folder)
            stack.callback(lambda: _end(process))
            self._connection = stack.enter_context(Connection(self.port))
            # Those before 7.0 do not take it, and look less often.
            with contextlib.suppress(Exception):
                self.command("SENTINEL", "DEBUG", "info-period", 100)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _process_on_a_free_port(self, folder: Path) -> "subprocess.Popen[Any]":
        """It may be taken by somebody else before the sentinel binds it: then another one."""
        for _ in range(10):
            self.port = _free_port()
            lines = [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1",
                "sentinel failover-timeout mymaster 10000",
            ]
            (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
            command = [_redis_server(), str(folder / "sentinel.conf"), "--sentinel"]
            process = _start(command, stdout=subprocess.DEVNULL)
            _prefer(process)
            if _answers(process, self.port):
                return process
            _end(process)
        raise AssertionError("no sentinel answers")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/mymaster"

    def command(self, *words: str | bytes | int) -> Reply:
        return self._connection.command(*words)

    def fail_over(self) -> None:
        """Have another server made the master; return when it is."""
        deadline = time.monotonic() + HANG_GUARD
        while time.monotonic() < deadline:
            if self._master_port() != self._master.port:
                return
            # Refused while one goes on, and while no replica is known that is good enough.
            with contextlib.suppress(Exception):
                self.command("SENTINEL", "FAILOVER", "mymaster")
            time.sleep(0.05)
        raise AssertionError("the sentinel makes no other server the master")

    def _master_port(self) -> int:
        place = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        assert isinstance(place, list), place
        assert isinstance(place[1], bytes), place
        return int(place[1])


class Cluster:
    """Three servers that share the slots of a cluster."""

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as stack:
            words = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            self.nodes = [stack.enter_context(Server(*words)) for _ in range(3)]
            for number, node in enumerate(self.nodes):
                node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
                node.command("CLUSTER", "ADDSLOTS", *slots)
                self.nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port)
            self._until("the nodes are one", lambda: all(map(self._is_whole, self.nodes)))
            for node in self.nodes:
                # They found each other quickly; from here on one may stand still and is not dead.
                node.command("CONFIG", "SET", "cluster-node-timeout", 5000)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def empty(self) -> None:
        """Delete all that lies on it."""
        for node in self.nodes:
            node.command("FLUSHALL")

    def owner(self, key: str) -> Server:
        """The node that has the slot of a key."""
        slot = self.nodes[0].command("CLUSTER", "KEYSLOT", key)
        assert isinstance(slot, int), slot
        for node in self.nodes:
            mine = node.command("CLUSTER", "NODES")
            assert isinstance(mine, bytes), mine
            line = next(line for line in mine.decode().splitlines() if "myself" in line)
            ranges = [word.split("-") for word in line.split()[8:] if word[0] != "["]
            if any(int(one[0]) <= slot <= int(one[-1]) for one in ranges):
                return node
        raise AssertionError(f"nobody has the slot {slot}")

    def move(self, key: str) -> None:
        """Move the slot of a key, with all that lies in it, to another node."""
        slot, source = self.nodes[0].command("CLUSTER", "KEYSLOT", key), self.owner(key)
        assert isinstance(slot, int), slot
        target = next(node for node in self.nodes if node is not source)
        names = {node: node.command("CLUSTER", "MYID") for node in (source, target)}
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", str_of(names[source]))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", str_of(names[target]))
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            assert isinstance(keys, list), keys
            way = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS")
            source.command(*way, *(str_of(key) for key in keys))
        # The target takes the epoch after the newest that it knows of. Were that not the newest of
        # all, what the source said before would count for more, and nobody would have the slot.
        self._until("all know of the newest epoch", lambda: len(set(map(_epoch, self.nodes))) == 1)
        others = [node for node in self.nodes if node not in (target, source)]
        for node in (target, source, *others):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", str_of(names[target]))
        self._until("the target has the slot", lambda: self.owner(key) is target)

    @staticmethod
    def _until(what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG_GUARD
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.02)

    @staticmethod
    def _is_whole(node: Server) -> bool:
        info = node.command("CLUSTER", "INFO")
        assert isinstance(info, bytes), info
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


def _epoch(node: Server) -> bytes:
    """The newest epoch of its cluster that a node knows of."""
    info = node.command("CLUSTER", "INFO")
    assert isinstance(info, bytes), info
    return next(line for line in info.splitlines() if line.startswith(b"cluster_current_epoch:"))


def str_of(reply: Reply) -> str:
    assert isinstance(reply, bytes), reply
    return reply.decode()


class Pending:
    """The answer to a command that the peer is still busy with."""

    def __init__(self, peer: "Peer", what: str, future: "Future[dict[str, Any]]") -> None:
        self._peer = peer
        self._what = what
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Any:
        """Wait for the answer; an error of the peer's is raised as ``PeerFailed``."""
        try:
            answer = self._future.result(HANG_GUARD)
        except FutureTimeout:
            raise self._peer.broken(f"gave no answer to {self._what}") from None
        if "error" in answer:
            name, arguments = answer["error"]
            raise PeerFailed(name, arguments, answer["bases"])
        return answer["value"]


class Peer:
    """A process on the bus. Values go in as objects and come out as descriptions."""

    def __init__(self, server: Server, kind: str, name: str | None = None) -> None:
        self.kind = kind
        self.name = name or kind
        self.ready: dict[str, Any] = {}
        self.server = server
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._writing = threading.Lock()
        self._active: set[tuple[str, bool]] = set()
        self._killed = False

    def __enter__(self) -> "Peer":
        command = [*KINDS[self.kind].command(), self.server.url, self.name]
        self._log = tempfile.TemporaryFile("w+", errors="replace")
        self._process = _start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        ready = self._waiting[0] = Future()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready = Pending(self, "its start", ready).result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._killed:
                self._leave()
        finally:
            self._end()

    def begin(self, do: str, **fields: Any) -> Pending:
        """Send a command and do not wait for its answer."""
        number = next(self._numbers)
        future = self._waiting[number] = Future()
        try:
            self._write({"id": number, "do": do, **fields})
        except OSError:
            raise self.broken(f"could not be told to {do}") from None
        return Pending(self, do, future)

    def do(self, do: str, **fields: Any) -> Any:
        return self.begin(do, **fields).result()

    def subscribe(
        self,
        channel: str | None = None,
        *,
        type: str | None = None,
        pattern: bool = False,
        name: str = "",
    ) -> None:
        """Subscribe a callback, with a hint or without; active on the server afterwards."""
        with self._becoming_active(channel or f"shared_types.{type}", pattern):
            fields = {"channel": channel, "type": type, "pattern": pattern}
            self.do("subscribe", subscription=name or channel or type, **fields)

    def expose(self, name: str, channel: str | None = None) -> None:
        """Expose a function of shared_types; active on the server afterwards."""
        with self._becoming_active(channel or f"shared_types.{name}", False):
            self.do("expose", name=name, channel=channel)

    def publish(self, value: Any, channel: str | None = None) -> Any:
        return self.do("publish", value=describe(value), channel=channel)

    def received(self, count: int = 0) -> list[Any]:
        """Wait for so many events, and take the values of all that there are."""
        return [event["value"] for event in self.do("received", count=count)]

    def put(self, queue: str, value: Any) -> None:
        self.do("put", queue=queue, value=describe(value))

    def get(self, queue: str, timeout: float | None = None, **options: Any) -> Any:
        """Options of the queue are for peers of ours."""
        return self.do("get", queue=queue, timeout=timeout, options=options)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        return self.begin_call(name, *args, **options).result()

    def begin_call(self, name: str, *args: Any, **options: Any) -> Pending:
        """Options: ``kwargs``, ``timeout`` in seconds, ``multi``, ``rpc``, ``known`` signature."""
        kwargs = {key: describe(value) for key, value in options.pop("kwargs", {}).items()}
        described = [describe(value) for value in args]
        return self.begin("call", name=name, args=described, kwargs=kwargs, **options)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._killed = True
        _end(self._process)

    def broken(self, what: str) -> AssertionError:
        """What to raise when the process is of no more use: what it wrote is in it."""
        self._log.seek(0)
        return AssertionError(f"peer {self.name} {what}; it wrote:\n{self._log.read()[-8000:]}")

    @contextlib.contextmanager
    def _becoming_active(self, channel: str, pattern: bool) -> Any:
        """Waits until the server shows one subscription more, where the peer has not had it yet."""

        def count() -> int:
            if pattern:
                return self.server.pattern_subscriptions()
            return self.server.subscribers(channel)

        waits = not KINDS[self.kind].subscribes_at_once and (channel, pattern) not in self._active
        before = count() if waits else 0
        yield
        self._active.add((channel, pattern))
        if waits:
            wait_until(lambda: count() > before, f"{self.name} is subscribed to {channel}")

    def _read(self) -> None:
        for line in self._process.stdout or ():
            answer = json.loads(line)
            if "ready" in answer:
                answer = {"id": 0, "value": answer["ready"]}
            self._waiting.pop(answer["id"]).set_result(answer)
        while self._waiting:
            self._waiting.popitem()[1].set_exception(self.broken("ended"))

    def _write(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _leave(self) -> None:
        """Ask the process to end in good order, and see that it does."""
        with contextlib.suppress(OSError):
            self._write({"id": 0, "do": "exit"})
        try:
            code = self._process.wait(HANG_GUARD)
        except subprocess.TimeoutExpired:
            raise self.broken("did not exit") from None
        if code != 0:
            raise self.broken(f"exited with {code}")

    def _end(self) -> None:
        _end(self._process)
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):
                stream and stream.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll for something that only the server can tell."""
    deadline = time.monotonic() + HANG_GUARD
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.005)


def lengths(first: int) -> Iterator[int]:
    """Seconds in which something must happen.

    A machine may stand still for any of them; it has the next, longer one then.
    """
    while first <= HANG_GUARD:
        yield first
        first *= 4


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process handles this signal by now, which would have ended it before."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _script(name: str, *arguments: str) -> str:
    """The line that a script prints; what it says on stderr stays visible."""
    command = [str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@functools.cache
def _redis_server() -> str:
    return _script("find-redis-server")


def _start_redis(folder: Path, arguments: Sequence[str]) -> tuple[int, "subprocess.Popen[Any]"]:
    """A free port may be taken by somebody else before the server binds it: then another one."""
    for _ in range(10):
        port = _free_port()
        process = _start_redis_on(port, folder, arguments)
        if process is not None:
            return port, process
    raise AssertionError(f"no redis-server started: {(folder / 'redis.log').read_text()}")


def _start_redis_on(
    port: int, folder: Path, arguments: Sequence[str]
) -> "subprocess.Popen[Any] | None":
    command = [_redis_server(), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", *arguments]
    with open(folder / "redis.log", "a") as log:
        process = _start(command, stdout=log, stderr=log)
    _prefer(process)
    if _answers(process, port):
        return process
    _end(process)
    return None


def _prefer(process: "subprocess.Popen[Any]") -> None:
    """A server runs before those who wait for it, on busy cores too; only root may say so."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, -10)


def _answers(process: "subprocess.Popen[Any]", port: int) -> bool:
    deadline = time.monotonic() + HANG_GUARD
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), Connection(port) as connection:
            # A stranger's server on the same port would answer too: ours says its process id.
            info = connection.command("INFO", "server")
            return isinstance(info, bytes) and b"process_id:%d\r" % process.pid in info
        time.sleep(0.005)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: list[str], **options: Any) -> "subprocess.Popen[Any]":
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(command, env=environment, cwd=ROOT, **options)
    _STARTED.add(process)
    return process


def _end(process: "subprocess.Popen[Any]") -> None:
    process.kill()
    process.wait()
    _STARTED.discard(process)


@atexit.register
def _end_all() -> None:
    for process in list(_STARTED):
        _end(process)
