"""What decorators declare: it stays declared, and every bus that becomes the default one binds it.

A definition that is run again, in a notebook's cell or a module that is reloaded, takes the place
of what it declared before. What a function declares lasts as long as the program holds what it
declared, what a module declares as long as the module is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from pymq._abstract import EventBus
from pymq._callables import (
    check_channel,
    check_remote,
    check_subscriber,
    is_coroutine_function,
    remote_name,
)
from pymq._loops import as_declared_on, running_loop
from pymq._options import count

logger = logging.getLogger("pymq")


class Declared:
    """A subscriber or an exposed function that is bound to every default bus.

    `lasting`: to every one, not only to the next. `at_home`: it runs on the event loop of
    `pymq.aio.init`, and is bound as soon as that is known.
    """

    def __init__(self, callback: Callable[..., Any], *, lasting: bool, at_home: bool) -> None:
        self.lasting = lasting
        self.at_home = at_home
        self.is_bound = False
        #: Its bus is over; another one may bind it again.
        self.is_old = False
        self._callback: Callable[[], Callable[..., Any] | None] = lambda: callback
        #: What a bus calls: on a loop, a plain function is a coroutine's.
        self._served: Callable[..., Any] | None = None
        self._loop = running_loop()
        self._name = _name(callback)
        self._place = _place(callback)
        self._run = _run_of(callback)
        #: Whether it is no part of a module: a function's own, or of a text that was executed.
        self.is_local = "<locals>" in self._name[1] or not _is_of_its_module(callback)

    @property
    def callback(self) -> Callable[..., Any] | None:
        """The function; `None` if it is gone."""
        return self._callback()

    @property
    def served(self) -> Callable[..., Any]:
        """What its bus calls."""
        callback = self._served or self._callback()
        if callback is None:
            raise ValueError(f"{self._name[1]} is gone")
        return callback

    @property
    def is_gone(self) -> bool:
        """Whether its program is over: nobody holds the function, or its module is gone."""
        callback = self._callback()
        return callback is None or not (self.is_local or _is_of_its_module(callback))

    def bind(self, bus: EventBus) -> None:
        """Serves it on a bus; unless its loop is not known yet, or the function is gone."""
        callback = self._callback()
        loop = self._loop if self._loop is not None and self._loop.is_running() else running_loop()
        if callback is None or (self.at_home and loop is None):
            return
        self._served = _on_loop(callback) if self.at_home else callback
        with as_declared_on(loop):
            self._begin(bus)
        self.is_bound, self.is_old = True, False

    def release(self, bus: EventBus) -> None:
        """Takes it from a bus."""
        if self.is_bound:
            self.is_bound = False
            self._end(bus)

    def unbind(self) -> None:
        """Its bus is over. What a function defined lasts as long as the program holds it: the
        next run of the function may declare it anew."""
        if self.is_bound and self.is_local:
            self._callback = _weak(self._callback())
        self.is_old = self.is_old or self.is_bound
        self.is_bound, self._served = False, None

    def replaces(self, other: Declared) -> bool:
        """Whether this is the other's definition, run again."""
        if self.is_local:
            # Of a run that is over.
            return other.is_local and other.is_old and self._is_in_the_way(other)
        if (type(self), self._name) != (type(other), other._name) or not self._name[1]:
            return False
        # Two functions of one name in one file are two; a cell that was changed is another file,
        # and a module that was reloaded has another specification.
        return self.callback is not other.callback and (
            self._place == other._place
            or self._place[0] != other._place[0]
            or self._run is not other._run
        )

    def _is_in_the_way(self, other: Declared) -> bool:
        return False

    def __str__(self) -> str:
        return ".".join(filter(None, self._name))

    def _begin(self, bus: EventBus) -> None:
        raise NotImplementedError

    def _end(self, bus: EventBus) -> None:
        raise NotImplementedError


class DeclaredSubscriber(Declared):
    """A subscriber."""

    def __init__(
        self,
        callback: Callable[..., Any],
        channel: str | None,
        pattern: bool,
        *,
        lasting: bool = False,
        at_home: bool = False,
    ) -> None:
        check_channel(channel, "subscriber")
        check_subscriber(callback, by_hint=channel is None)
        super().__init__(callback, lasting=lasting, at_home=at_home)
        self.channel = channel
        self.pattern = pattern

    def is_of(self, callback: Callable[..., Any], channel: str | None, pattern: bool) -> bool:
        """Whether it was declared with these arguments."""
        return (self.callback, self.channel, self.pattern) == (callback, channel, pattern)

    def _begin(self, bus: EventBus) -> None:
        bus.subscribe(self.served, self.channel, self.pattern)

    def _end(self, bus: EventBus) -> None:
        bus.unsubscribe(self.served, self.channel, self.pattern)


class DeclaredRemote(Declared):
    """An exposed function."""

    def __init__(
        self,
        callback: Callable[..., Any],
        channel: str | None,
        concurrency: int,
        *,
        lasting: bool = False,
        at_home: bool = False,
    ) -> None:
        check_channel(channel, "remote")
        check_remote(callback)
        super().__init__(callback, lasting=lasting, at_home=at_home)
        self.channel: str = remote_name(callback) if channel is None else channel
        self._concurrency = count("concurrency", concurrency)

    def _is_in_the_way(self, other: Declared) -> bool:
        return isinstance(other, DeclaredRemote) and other.channel == self.channel

    def _begin(self, bus: EventBus) -> None:
        if self._concurrency == 1:
            # All that a bus of a user's own has to know.
            bus.expose(self.served, self.channel)
        else:
            bus.expose(self.served, self.channel, concurrency=self._concurrency)  # type: ignore[call-arg]

    def _end(self, bus: EventBus) -> None:
        bus.unexpose(self.channel)


class Declarations:
    """All that is declared, in order; whoever adds or binds holds the default bus's lock."""

    def __init__(self) -> None:
        self._all: list[Declared] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def __iter__(self) -> Iterator[Declared]:
        return iter(list(self._all))

    def add(self, declared: Declared) -> list[Declared]:
        """Adds one; gives those that it takes the place of."""
        replaced = [other for other in self._all if other.lasting and declared.replaces(other)]
        for other in replaced:
            self._all.remove(other)
            if not other.is_old or not other.is_local:
                logger.warning(
                    "%s was defined again; what it declared before is replaced", declared
                )
        self._all.append(declared)
        return replaced

    def bind(self, bus: EventBus) -> None:
        """Binds to a bus what is not bound yet."""
        if any(one.is_old and one.is_local for one in self._all):
            # Functions of runs that are over may hold themselves in a cycle.
            gc.collect()
        self._all = [one for one in self._all if not one.is_gone]
        for declared in list(self._all):
            if not declared.is_bound:
                _bind(declared, bus)
        self._all = [one for one in self._all if one.lasting or not one.is_bound]
        waiting = [str(one) for one in self._all if not one.is_bound]
        if waiting:
            logger.warning(
                "declared with pymq.aio, and not served before an event loop uses the bus: %s",
                ", ".join(waiting),
            )

    def unbind(self) -> None:
        """Another bus is to serve all of it."""
        for declared in self._all:
            declared.unbind()

    def forget_once(self) -> None:
        """Forgets what was declared for one bus."""
        self._all = [one for one in self._all if one.lasting]

    def remove(self, declared: Declared) -> None:
        """Forgets one, if nobody else has."""
        with contextlib.suppress(ValueError):
            self._all.remove(declared)

    def forget_locals(self, before: list[Declared]) -> None:
        """Forgets what was declared inside of functions since `before`: the end of a test."""
        self._all = [one for one in self._all if one in before or not one.is_local]


def _bind(declared: Declared, bus: EventBus) -> None:
    try:
        declared.bind(bus)
    except Exception as error:
        if not declared.is_old:
            raise
        # It was fine on the bus that it was written for; this one may be made for other things.
        logger.warning("%s was declared before and is not bound to %r: %r", declared, bus, error)


def _on_loop(callback: Callable[..., Any]) -> Callable[..., Any]:
    if is_coroutine_function(callback):
        return callback

    @functools.wraps(callback)
    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        result = callback(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return on_loop


def _weak(callback: Callable[..., Any] | None) -> Callable[[], Callable[..., Any] | None]:
    try:
        if inspect.ismethod(callback):
            return weakref.WeakMethod(callback)
        return weakref.ref(callback)
    except TypeError:
        return lambda: callback


def _name(callback: Callable[..., Any]) -> tuple[str, str]:
    """Module and name of a function."""
    name = getattr(callback, "__qualname__", None)
    return str(getattr(callback, "__module__", "")), str(name or "")


def _is_of_its_module(callback: Callable[..., Any]) -> bool:
    names = getattr(inspect.unwrap(callback), "__globals__", None)
    module = sys.modules.get(getattr(callback, "__module__", None) or "")
    return names is None or (module is not None and vars(module) is names)


def _place(callback: Callable[..., Any]) -> tuple[str, int]:
    code = getattr(inspect.unwrap(callback), "__code__", None)
    return ("", 0) if code is None else (code.co_filename, code.co_firstlineno)


def _run_of(callback: Callable[..., Any]) -> object:
    """Another object each time that the callback's module is run."""
    module = sys.modules.get(getattr(callback, "__module__", None) or "")
    return getattr(module, "__spec__", None)
