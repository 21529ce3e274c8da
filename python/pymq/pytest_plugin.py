"""A bus in memory for users' own tests: the fixture `pymq_bus`.

It is the default bus while a test runs, so code under test may use `pymq.publish` and the like;
what decorators declare is bound in every test. A subscriber that raises fails the test. The plugin
is loaded by every run of pytest, so it imports nothing of the package before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pymq import _original

if TYPE_CHECKING:
    from pymq.testing import MemoryBus

__all__ = ["MemoryBus", "pymq_bus"]

_SWITCH = "pymq_fail_on_errors"


def __getattr__(name: str) -> Any:
    if name == "MemoryBus":
        from pymq.testing import MemoryBus

        return MemoryBus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The switch for all tests; `pymq_bus.fail_on_errors` is the one of a single test."""
    parser.addini(_SWITCH, "whether a subscriber that raises fails the test", "bool", default=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the original hides this package, its import says nothing."""
    said = _original.sentence() if _original.original_is_in_front() else None
    if said is not None:
        terminalreporter.write_line(f"pymq: {said}")


@pytest.fixture
def pymq_bus(request: pytest.FixtureRequest) -> Iterator[MemoryBus]:
    """A bus in memory, which is the default bus while the test runs."""
    import pymq
    from pymq import _default
    from pymq.testing import MemoryBus

    declared = _default.declarations()
    bus = pymq.init(MemoryBus)
    bus.fail_on_errors = bool(request.config.getini(_SWITCH))
    yield bus
    pymq.shutdown()
    # Of a function that is over, unlike those of modules that a test was the first to import.
    _default.forget_locals(declared)
    bus.check()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What subscribers have raised by the end of a test is the test's own failure."""
    outcome: Any = yield
    bus = getattr(item, "funcargs", {}).get("pymq_bus")
    if bus is None or outcome.excinfo is not None:
        return
    try:
        bus.check()
    except AssertionError as error:
        bus.failed.clear()
        outcome.force_exception(error)
