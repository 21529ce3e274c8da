"""Native buses at one place of a test's own, on every transport."""

import faulthandler
import os
from collections.abc import Iterator

import pytest
from native_parts import HANG, Place, Server, echo

from pymq._pymq import Bus


@pytest.fixture(autouse=True)
def _hang_guard(pytestconfig: pytest.Config) -> Iterator[None]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        seen = os.dup(2)
    faulthandler.dump_traceback_later(HANG, exit=True, file=seen)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(seen)


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    place = Place(url)
    yield place
    for bus in place.buses:
        bus.close()


@pytest.fixture
def bus(place: Place) -> Bus:
    return place.connect()


@pytest.fixture
def echoing(bus: Bus) -> Iterator[Server]:
    server = Server(bus, "echo", echo)
    yield server
    server.end()
