"""What decorators declare, and what they refuse."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

import pymq
from conftest import HANG_GUARD, Box, wait_until
from pymq import _default, aio


@dataclass
class Event:
    n: int


@pytest.fixture(autouse=True)
def _nothing_stays_declared() -> Iterator[None]:
    before = _default.declarations()
    yield
    pymq.shutdown()
    for declared in _default.declarations():
        if declared not in before:
            _default.default.declared.remove(declared)


Loads = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loads:
    """Makes a module of a program's text, or runs it again where it is there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(text: str) -> ModuleType:
        (tmp_path / "program.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        found = sys.modules.get("program")
        if found is not None:
            return importlib.reload(found)
        monkeypatch.delitem(sys.modules, "program", raising=False)
        return importlib.import_module("program")

    yield load
    sys.modules.pop("program", None)


PROGRAM = """
    import pymq
    seen = []
    @pymq.subscriber("news")
    def on_news(event): seen.append(event)
    @pymq.remote("f")
    def f(): return {result}
"""


def test_what_is_declared_once_is_bound_at_every_init(url: str, load: Loads) -> None:
    program = load(PROGRAM.format(result=1))
    for n in range(3):
        pymq.init(url)
        assert pymq.stub("f")() == 1
        assert pymq.publish(n, "news") == 1
        pymq.shutdown()
        assert program.seen == list(range(n + 1))


def test_what_is_declared_while_a_bus_runs_is_bound_again_too(url: str, load: Loads) -> None:
    pymq.init(url)
    load(PROGRAM.format(result=1))
    assert pymq.stub("f")() == 1
    pymq.shutdown()
    pymq.init(url)
    assert pymq.stub("f")() == 1


def test_what_a_function_declares_is_bound_as_long_as_the_program_holds_it(url: str) -> None:
    @pymq.remote("f")
    def f() -> int:
        return 1

    for _ in range(2):
        pymq.init(url)
        assert pymq.stub("f")() == 1
        pymq.shutdown()
    del f
    gc.collect()
    pymq.init(url)
    assert pymq.stub("f")() is None


def test_what_a_module_declared_goes_with_the_module(url: str, load: Loads) -> None:
    program = load(PROGRAM.format(result=1))
    pymq.init(url)
    assert pymq.stub("f")() == 1
    pymq.shutdown()
    del sys.modules["program"]
    pymq.init(url)
    assert pymq.stub("f")() is None
    assert program.f() == 1


def test_what_was_subscribed_by_a_call_is_bound_once(url: str, box: Box) -> None:
    pymq.subscribe(box.put, "news")
    pymq.init(url)
    assert pymq.publish(1, "news") == 1
    pymq.shutdown()
    pymq.init(url)
    assert pymq.publish(2, "news") == 0


def test_what_is_taken_back_is_not_declared_any_more(url: str, load: Loads) -> None:
    program = load(PROGRAM.format(result=1))
    pymq.init(url)
    pymq.unsubscribe(program.on_news, "news")
    pymq.unexpose("f")
    pymq.shutdown()
    pymq.init(url)
    assert pymq.publish(1, "news") == 0
    assert pymq.stub("f")() is None


@pytest.mark.parametrize("live", [True, False], ids=["while a bus runs", "before init"])
def test_a_definition_that_is_run_again_replaces_what_it_declared(
    url: str, load: Loads, live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if live:
        pymq.init(url)
    load(PROGRAM.format(result=1))
    load("# Moved down.\n" + textwrap.dedent(PROGRAM.format(result=2)))
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "program.on_news was defined again; what it declared before is replaced",
        "program.f was defined again; what it declared before is replaced",
    ]
    if not live:
        pymq.init(url)
    assert pymq.stub("f")() == 2
    assert pymq.publish(1, "news") == 1


@pytest.mark.parametrize("again", ["seen.append(event)", "seen.append(2 * event)"])
def test_a_cell_that_is_run_again_replaces_what_it_declared(
    url: str, again: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pymq.init(url)
    notebook = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    names = vars(notebook)
    names.update(pymq=pymq, seen=[])
    cell = '@pymq.subscriber("news")\ndef on_news(event):\n    {}'
    for number, body in enumerate(["seen.append(event)", again]):
        # As IPython names them: the same text has the same name.
        name = f"/tmp/ipykernel/{hash(body)}.py"
        exec(compile(cell.format(body), name, "exec"), names)
        assert pymq.publish(number, "news") == 1
    assert len(caplog.records) == 1


def test_two_functions_of_one_name_in_one_file_are_two(url: str, load: Loads) -> None:
    load(
        """
        import pymq
        @pymq.subscriber("a")
        def _(event): ...
        @pymq.subscriber("b")
        def _(event): ...
        """
    )
    pymq.init(url)
    assert (pymq.publish(1, "a"), pymq.publish(1, "b")) == (1, 1)


def test_one_function_may_be_declared_on_two_channels(url: str, box: Box) -> None:
    @pymq.subscriber("a")
    @pymq.subscriber("b")
    def on_both(event: int) -> None:
        box.put(event)

    pymq.init(url)
    pymq.publish(1, "a")
    pymq.publish(2, "b")
    assert sorted(box.take(2)) == [1, 2]


# ---- asyncio


@pytest.mark.parametrize("decorators", [pymq, aio], ids=["pymq", "pymq.aio"])
def test_what_is_declared_before_runs_on_the_loop_of_aio_init(url: str, decorators: Any) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    @decorators.subscriber("news")
    async def on_news(event: int) -> None:
        loops.append(asyncio.get_running_loop())

    @decorators.remote("f")
    async def f() -> int:
        loops.append(asyncio.get_running_loop())
        return 1

    async def main() -> None:
        await aio.init(url)
        await aio.publish(1, "news")
        assert await aio.stub("f")() == 1
        while len(loops) < 2:
            await asyncio.sleep(0.001)
        await aio.shutdown()
        assert loops == [asyncio.get_running_loop()] * 2
        loops.clear()

    # Each with a loop of its own.
    asyncio.run(asyncio.wait_for(main(), HANG_GUARD))
    asyncio.run(asyncio.wait_for(main(), HANG_GUARD))


def test_a_plain_function_declared_for_aio_runs_on_its_loop_too(url: str) -> None:
    @aio.remote("f")
    def f() -> bool:
        return asyncio.get_running_loop() is not None

    async def main() -> None:
        await aio.init(url)
        assert await aio.stub("f")() is True
        await aio.shutdown()

    asyncio.run(main())


def test_what_is_declared_for_aio_waits_for_a_loop(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @aio.remote("f")
    async def f() -> int:
        return 1

    pymq.init(url)
    assert pymq.stub("f")() is None
    assert "declared with pymq.aio" in caplog.text

    async def main() -> None:
        await aio.publish(1, "news")
        assert await aio.stub("f")() == 1
        await aio.shutdown()

    asyncio.run(main())


# ---- what is accepted


def keyword_only(event: Event, *, retries: int = 3) -> None:
    seen.append(event)


def with_default(event: Event, retries: int = 3) -> None:
    seen.append(event)


def with_context(event: Event, context: int) -> None:
    seen.append(event)


class Handlers:
    def method(self, event: Event, *, tag: str = "x") -> None:
        seen.append(event)

    @classmethod
    def of_class(cls, event: Event) -> None:
        seen.append(event)

    @staticmethod
    def static(event: Event) -> None:
        seen.append(event)

    def __call__(self, event: Event) -> None:
        seen.append(event)


seen: list[Event] = []


@pytest.mark.parametrize(
    "callback",
    [
        keyword_only,
        with_default,
        functools.partial(with_context, context=1),
        Handlers().method,
        Handlers.of_class,
        Handlers.static,
        Handlers(),
        staticmethod(keyword_only),
    ],
)
def test_these_are_subscribers(bus: pymq.NativeEventBus, callback: Callable[..., Any]) -> None:
    seen.clear()
    bus.subscribe(callback)
    bus.publish(Event(1))
    wait_until(lambda: seen != [], "it is called")
    assert seen == [Event(1)]


def test_only_the_first_parameter_is_the_event(bus: pymq.NativeEventBus, box: Box) -> None:
    def rest(*events: Any, verbose: bool = False) -> None:
        box.put((events, verbose))

    bus.subscribe(rest, "news")
    bus.publish(Event(1), "news")
    assert box.take(1) == [((Event(1),), False)]


@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock])
def test_mocks_can_be_exposed_and_subscribed(bus: pymq.NativeEventBus, make: Any) -> None:
    exposed, subscribed = make(return_value=3), make()
    bus.expose(exposed, "f")
    assert bus.stub("f")(1) == 3
    bus.subscribe(subscribed, "news")
    bus.publish(1, "news")
    wait_until(lambda: subscribed.call_args_list != [], "it is called")
    exposed.assert_called_once_with(1)
    subscribed.assert_called_once_with(1)


# ---- what is refused, where it is written


def numbers(n: int) -> Iterator[int]:
    yield n


async def async_numbers(n: int) -> Any:
    yield n


def nothing() -> None: ...


def two(event: Event, other: int) -> None: ...


def needs_keyword(event: Event, *, tag: str) -> None: ...


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: pymq.remote(numbers), "generator"),
    "an asynchronous generator": (lambda: pymq.remote(async_numbers), "generator"),
    "a generator as a subscriber": (lambda: pymq.subscriber("c")(numbers), "generator"),
    "a wrong option": (lambda: pymq.remote("f", concurency=3), r"remote\(\).*concurency"),  # type: ignore[call-overload]
    "a wrong option of a subscriber": (
        lambda: pymq.subscriber("f", patern=True),  # type: ignore[call-overload]
        r"subscriber\(\).*patern",
    ),
    "a wrong number": (lambda: pymq.remote("f", concurrency=1.5), "concurrency"),  # type: ignore[call-overload]
    "a channel that is none": (lambda: pymq.subscriber(3), "channel is text"),  # type: ignore[call-overload]
    "no parameter": (lambda: pymq.subscriber("c")(nothing), "exactly one"),
    "two parameters": (lambda: pymq.subscriber("c")(two), "exactly one"),
    "a keyword that is needed": (lambda: pymq.subscriber("c")(needs_keyword), "'tag'"),
    "a class method": (lambda: pymq.subscriber(classmethod(two)), "classmethod"),  # type: ignore[call-overload]
    "an exposed class method": (lambda: pymq.remote(classmethod(two)), "classmethod"),  # type: ignore[call-overload]
    "a class method with a channel": (
        lambda: pymq.remote("f")(classmethod(two)),  # type: ignore[type-var]
        "cannot be called",
    ),
    "a property": (lambda: pymq.remote(property(nothing)), "property"),  # type: ignore[call-overload]
    "a method without its object": (lambda: pymq.remote(Handlers.method), "bound method"),
    "a subscribed method without its object": (
        lambda: pymq.subscriber(Handlers.method),
        "bound method",
    ),
    "no hint and no channel": (lambda: pymq.subscriber(lambda event: None), "annotate"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_where_it_is_written(what: str) -> None:
    refused, sentence = REFUSED[what]
    before = _default.declarations()
    with pytest.raises((TypeError, ValueError), match=sentence) as told:
        refused()
    assert "\n" not in str(told.value)
    assert _default.declarations() == before


@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), float("inf"), 10**30, "3", True, None])
def test_numbers_are_refused_at_the_door_by_their_name(
    bus: pymq.NativeEventBus, value: Any
) -> None:
    doors: dict[str, Callable[[], Any]] = {
        "concurrency": lambda: bus.expose(nothing, "f", concurrency=value),
    }
    if value is not None:
        doors["workers"] = lambda: pymq.connect("memory://", workers=value)
    if value not in (0, 1.5):
        doors["legacy_grace"] = lambda: pymq.connect("memory://", legacy_grace=value)
    if value in (-1, "3", True) or value != value:
        doors["timeout"] = lambda: bus.stub("f", timeout=value)
    for name, door in doors.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name} is "):
            door()


def test_a_call_that_does_not_fit_is_a_type_error_at_the_caller(bus: pymq.NativeEventBus) -> None:
    def add(a: int, b: int = 1) -> int:
        return a + b

    bus.expose(add)
    stub: Any = bus.stub(add)
    for args, kwargs in (((1, 2, 3), {}), ((1,), {"c": 3}), ((), {}), ((1, 2), {"b": 3})):
        with pytest.raises(TypeError):
            stub(*args, **kwargs)
    assert stub(1) == 2
    assert stub(1, b=3) == 4
