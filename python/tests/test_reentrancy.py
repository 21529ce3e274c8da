"""Signal handlers and finalisers break in anywhere, and come in by every door: nothing deadlocks.

Each run is a process of its own. Its calls have a limit that nothing but a deadlock reaches, so a
run in which no call and no wait reached it, and that ends, had none.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What only a deadlock reaches, in seconds.
LIMIT = 60

PROGRAM = """
import faulthandler, gc, itertools, logging, random, signal, sys, threading, time
import pymq

limit, seconds, breaks_in = int(sys.argv[1]), 4.0, sys.argv[2]
faulthandler.dump_traceback_later(2 * limit, exit=True)
logging.getLogger("pymq").setLevel(logging.CRITICAL)
number = itertools.count()
inside = threading.local()
chance = random.Random(1)

class Event:
    def __init__(self, n: int = 0) -> None:
        self.n = n

def on_event(event) -> None: ...
async def on_event_too(event) -> None: ...
def double(n: int) -> int:
    return 2 * n
def busy(n: int) -> int:
    # A callback that needs what whoever calls it may have been changing.
    pymq.subscribe(on_event, f"busy{n}")
    pymq.unsubscribe(on_event, f"busy{n}")
    return n

def begin():
    pymq.init("memory://")
    pymq.expose(double, "double")
    pymq.expose(busy, "busy")
    pymq.subscribe(on_event, "events")
    pymq.subscribe(on_event_too, "events")

def a_new_class():
    cls = type(f"C{next(number) % 50}", (), {"__annotations__": {"a": int, "b": list[dict]}})
    def fn(x: cls) -> cls:
        return x
    return fn, f"f{next(number)}"

def subscribe():
    fn, channel = a_new_class()
    pymq.subscribe(fn, channel)
    pymq.publish(1, channel)
    pymq.unsubscribe(fn, channel)

def subscribe_too():
    channel = f"a{next(number)}"
    pymq.subscribe(on_event_too, channel)
    pymq.unsubscribe(on_event_too, channel)

def expose():
    fn, channel = a_new_class()
    pymq.expose(fn, channel)
    pymq.unexpose(channel)

def publish():
    pymq.publish(Event(1), "events")

def call():
    pymq.stub("double", timeout=limit)(4)

def call_busy():
    pymq.stub("busy", timeout=limit)(next(number))

def another_bus():
    with pymq.connect("memory://", workers=1) as bus:
        bus.subscribe(on_event, "x")
        bus.publish(1, "x")

def begin_again():
    pymq.shutdown()
    begin()

doors = [subscribe, subscribe_too, expose, publish, call, call_busy, another_bus]
if "again" in breaks_in:
    doors.append(begin_again)
came_in, deadlocks = [], []

def try_door(door):
    try:
        door()
    except pymq.exceptions.CallTimeoutError as error:
        deadlocks.append(error)
    except (ValueError, RuntimeError, pymq.exceptions.PymqError):
        pass  # There is no bus in this moment, or not any more.

def come_in(*_):
    if doors and not getattr(inside, "yes", False):
        inside.yes = True
        try:
            came_in.append(1)
            try_door(chance.choice(doors))
        finally:
            inside.yes = False

def interrupt(*_):
    come_in()
    # One after the other, at any speed: a clock that went on would leave no time for anything else.
    if doors:
        signal.setitimer(signal.ITIMER_REAL, 0.0017)

class Node:
    def __init__(self) -> None:
        self.me = self
    def __del__(self) -> None:
        come_in()

begin()
if "signals" in breaks_in:
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
if "finalisers" in breaks_in:
    gc.set_threshold(20, 2, 2)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for door in list(doors):
        if "finalisers" in breaks_in:
            Node()
        try_door(door)
doors.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
pymq.shutdown()
assert came_in, "nobody came in"
assert not deadlocks, deadlocks
"""


@pytest.mark.parametrize(
    "who", ["signals", "finalisers", "signals finalisers again", "signals again"]
)
def test_handlers_and_finalisers_that_come_in_by_any_door_never_deadlock(who: str) -> None:
    program = [sys.executable, "-c", PROGRAM, str(LIMIT), who]
    done = subprocess.run(program, capture_output=True, text=True, timeout=5 * LIMIT, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
