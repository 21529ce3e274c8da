"""What the native tests are made of: a place of their own, a server, and patience."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymq._pymq import Bus, Call, Intake

#: Nothing here takes as long; it ends a test that hangs.
HANG = 120.0


class Place:
    """An address and a namespace of one test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = uuid.uuid4().hex
        self.buses: list[Bus] = []

    def connect(self) -> Bus:
        bus = Bus.connect(self.url, self.namespace)
        self.buses.append(bus)
        return bus


def until(condition: Callable[[], Any]) -> None:
    """Waits for a condition that something else brings about."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


def native_threads() -> int:
    """How many threads of ours there are."""
    count = 0
    for comm in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            count += comm.read_text().startswith("pymq-")
    return count


def receive(intake: Intake, count: int, limit: int = 256) -> list[tuple[int, str | None, Any]]:
    """Takes exactly `count` arrivals, if there are that many."""
    got: list[tuple[int, str | None, Any]] = []
    while len(got) < count:
        batch = intake.recv(limit, timeout=30.0)
        assert batch, f"only {len(got)} of {count} came"
        assert len(batch) <= limit
        got += batch
    return got


class Server(threading.Thread):
    """Answers each call with what `handle` gives."""

    def __init__(self, bus: Bus, function: str, handle: Callable[[Call], None]) -> None:
        super().__init__()
        self.provider = bus.provide(function)
        self.intake = Intake()
        self.intake.attach(self.provider)
        self.handle = handle
        self.start()

    def run(self) -> None:
        while not self.intake.closed:
            for _, _, call in self.intake.recv():
                if call is not None:
                    self.handle(call)
                # The next wait must not keep it: dropped unanswered, it is answered.
                del call

    def end(self) -> None:
        self.intake.close()
        self.join()
        self.provider.end()


def echo(call: Call) -> None:
    call.answer(call.args, "list", call.types)
