"""Writes the reference of the Python package from its docstrings: `reference.py FOLDER`.

It runs in an environment that has the package, and fails for a public object without a docstring or
with a parameter that `meanings.py` does not know. A name means the same everywhere, so what it
means is written once.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import meanings

import pymq
import pymq.aio
import pymq.core
import pymq.exceptions
import pymq.json
import pymq.otel
import pymq.prometheus
import pymq.provider.ipc
import pymq.provider.redis
import pymq.provider.simple
import pymq.pytest_plugin
import pymq.telemetry
import pymq.testing
import pymq.typing
from pymq import _inspect
from pymq._dead_letters import AsyncDeadLetters, DeadLetters
from pymq._queue import NativeQueue

#: Methods that only the library calls.
PASSED_OVER = {
    "NativeEventBus.start_worker",
    "BusLife.begin",
    "BusLife.refuse_to_wait_for_this_loop",
    "Stats.of",
    "NativeQueue.start_worker",
    "Collector.begin",
    "Collector.received",
    "PymqInstrumentor.instrumentation_dependencies",
}
#: Classes whose objects are called.
CALLED = {"StubMethod", "AsyncStub"}
#: Public names that the standard library tells of, or that are modules.
KNOWN = {"Empty", "Full", "__version__", "dumps", "exceptions", "loads", "name", "provider"}
#: Where all that is public must have its place.
MODULES = [
    pymq,
    pymq.aio,
    pymq.core,
    pymq.exceptions,
    pymq.json,
    pymq.otel,
    pymq.prometheus,
    pymq.provider.ipc,
    pymq.provider.redis,
    pymq.provider.simple,
    pymq.pytest_plugin,
    pymq.telemetry,
    pymq.testing,
    pymq.typing,
]


class Chapter:
    """A page of the reference."""

    def __init__(self, file: str, title: str, about: str) -> None:
        self.file = file
        self._parts = [f"# {title}", about]

    def functions(self, module: Any, names: list[str], prefix: str) -> Chapter:
        """The functions of a module, by these names."""
        for name in names:
            self._parts += _function(getattr(module, name), f"{prefix}.{name}")
        return self

    def cls(self, cls: type, name: str, without: type | None = None) -> Chapter:
        """A class with what is public in it; what it has from `without` is said there."""
        self._parts += [f"## {name}", _said(cls, name)]
        constructor = _constructor(cls, name)
        if constructor is not None:
            self._parts += constructor
        self._parts += _fields(cls)
        if name in CALLED:
            self._parts += _member(cls.__call__, f"{name}.__call__")
        for member, what in _members(cls, without):
            self._parts += _member(what, f"{name}.{member}")
        return self

    def fixture(self, fixture: Any, name: str) -> Chapter:
        """A fixture of pytest, which is no function any more."""
        self._parts += [f"## {name}", "*fixture of pytest*", _said(fixture, name)]
        return self

    def errors(self, module: Any) -> Chapter:
        """Every exception, with what it is a kind of."""
        for name in module.__all__:
            error = getattr(module, name)
            kinds = ", ".join(_class_name(base) for base in error.__bases__)
            self._parts += [f"## {name}", f"*is a* {kinds}", _said(error, name), *_fields(error)]
            for member, what in inspect.getmembers(error):
                if isinstance(what, property):
                    self._parts += _member(what, f"{name}.{member}")
        return self

    @property
    def text(self) -> str:
        """The page, as Markdown."""
        return "\n\n".join(self._parts) + "\n"


def _function(function: Callable[..., Any], name: str) -> list[str]:
    return [f"## {name}", *_callable(function, name)]


def _member(what: Any, name: str) -> list[str]:
    parts = [f"### {name}"]
    if isinstance(what, property):
        about = _said(what.fget, name)
        kind = "attribute, may be assigned" if what.fset else "attribute"
        return [*parts, f"*{kind}*", about]
    if isinstance(what, (classmethod, staticmethod)):
        what = what.__get__(None, object)
    return [*parts, *_callable(what, name)]


def _callable(function: Callable[..., Any], name: str) -> list[str]:
    signature = _signature(function)
    shown = _code(function, name, signature)
    parts = [f"```{{ .python .no-copy }}\n{shown}\n```", _said(function, name)]
    table = list(_parameters(signature, name))
    if table:
        parts.append("\n".join(["| parameter | |", "|---|---|", *table]))
    verb = name.rpartition(".")[2]
    if verb in meanings.GUARANTEES:
        more = "[More](../guarantees.md#by-operation)"
        parts.append(f"*Guarantee:* {meanings.GUARANTEES[verb]} {more}")
    raised = meanings.RAISES.get(verb)
    if raised:
        links = (f"[`{one}`](exceptions.md#{one.lower()})" for one in raised)
        parts.append(f"*Raises* {', '.join(links)}")
    return parts


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        # A decorator's own signature takes anything; its last overload says what it is given.
        known = inspect.isfunction(function) and sys.version_info >= (3, 11)
        forms = typing.get_overloads(function) if known else []
        anything = [*inspect.signature(function).parameters] == ["args", "kwargs"]
        signature = inspect.signature(forms[-1] if forms and anything else function)
    except (TypeError, ValueError):
        # A native method: its text signature, where it has one, is that of `_pymq.pyi`.
        return None
    kept = [one for one in signature.parameters.values() if one.name != "self"]
    return signature.replace(parameters=kept)


def _code(function: Callable[..., Any], name: str, signature: inspect.Signature | None) -> str:
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    short = name.rpartition(".")[2]
    if signature is None:
        return f"{word} {short}(…)"
    parts = list(_written(signature))
    returned = signature.return_annotation
    end = "" if returned is signature.empty else f" -> {_hint(returned)}"
    one = f"{word} {short}({', '.join(parts)}){end}"
    if len(one) <= 88:
        return one
    return "\n".join([f"{word} {short}(", *(f"    {part}," for part in parts), f"){end}"])


def _written(signature: inspect.Signature) -> Iterator[str]:
    """The parameters as a program has them."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    starred = inspect.Parameter.VAR_POSITIONAL in kinds
    for number, parameter in enumerate(signature.parameters.values()):
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            yield "*"
            starred = True
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        text = stars.get(parameter.kind, "") + parameter.name
        hinted = parameter.annotation is not parameter.empty
        if hinted:
            text += f": {_hint(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}" if hinted else f"={parameter.default!r}"
        yield text
        last = number + 1 == len(kinds) or kinds[number + 1] is not parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.POSITIONAL_ONLY and last:
            yield "/"


def _hint(annotation: Any) -> str:
    """An annotation as it is written, without private modules."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\bpymq\.(?:_?\w+\.)?", "", text)


def _parameters(signature: inspect.Signature | None, name: str) -> Iterator[str]:
    if signature is None:
        return
    for parameter in signature.parameters.values():
        if parameter.name.startswith("_"):
            continue
        meaning = meanings.of(name, parameter.name)
        if meaning is None:
            what = f"a parameter {parameter.name!r} without a meaning"
            raise SystemExit(f"reference: {name} has {what}")
        yield f"| `{parameter.name}` | {meaning} |"


def _said(what: Any, name: str) -> str:
    text = inspect.getdoc(what)
    if not text:
        raise SystemExit(f"reference: {name} has no docstring")
    # `Queue.put` of a docstring is code, not emphasis; nothing else needs a change.
    return text


def _fields(cls: type) -> list[str]:
    """What a class's own source says of its fields, in comments that begin with `#:`."""
    try:
        source = inspect.getsource(cls)
    except OSError:
        # It says that it is of another module, where the original has it.
        return []
    comment, fields = r"((?:^ +#: .*\n)+)", r"((?:^ +(?:self\.)?[a-z]\w*(?::| =).*\n)+)"
    rows, told = [], set()
    for said, lines in re.findall(comment + fields, source, re.M):
        names = re.findall(r"^ +(?:self\.)?(\w+)", lines, re.M)
        if not (hasattr(cls, "_fields") or dataclasses.is_dataclass(cls)):
            # What follows in a constructor is not about the comment any more.
            del names[1:]
        told.update(names)
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append(f"| {shown} | {' '.join(re.findall(r'#: (.*)', said))} |")
    untold = set(getattr(cls, "_fields", ())) - told
    if untold:
        what = f"fields that no comment tells of: {', '.join(sorted(untold))}"
        raise SystemExit(f"reference: {cls.__name__} has {what}")
    return ["\n".join(["| field | |", "|---|---|", *rows])] if rows else []


def _constructor(cls: type, name: str) -> list[str] | None:
    init = cls.__dict__.get("__init__")
    if init is None or not inspect.isfunction(init) or name in meanings.NOT_MADE_BY_USERS:
        return None
    signature = _signature(init)
    assert signature is not None
    shown = _code(init, name, signature).replace("def ", "", 1).replace(" -> None", "")
    table = list(_parameters(signature, name))
    parts = [f"```{{ .python .no-copy }}\n{shown}\n```"]
    return [*parts, "\n".join(["| parameter | |", "|---|---|", *table])] if table else parts


def _members(cls: type, without: type | None) -> Iterator[tuple[str, Any]]:
    seen = set()
    for base in cls.__mro__:
        if base is object or base.__module__.split(".")[0] not in ("pymq", "_pymq", "builtins"):
            continue
        for member, what in vars(base).items():
            decorated = isinstance(what, (property, classmethod, staticmethod))
            callable_ = decorated or inspect.isroutine(what)
            passed_over = f"{base.__name__}.{member}" in PASSED_OVER
            hidden = member.startswith("_") or member in seen or passed_over
            if not callable_ or hidden or (without is not None and hasattr(without, member)):
                continue
            if base.__module__ == "builtins" and base.__name__ not in ("Getter", "AsyncGetter"):
                continue
            seen.add(member)
            yield member, what


def _class_name(cls: type) -> str:
    if cls.__name__.startswith("_"):
        return ", ".join(map(_class_name, cls.__bases__))
    if cls.__module__.startswith("pymq"):
        return f"[`{cls.__name__}`](#{cls.__name__.lower()})"
    return f"`{cls.__name__}`"


def chapters() -> list[Chapter]:
    """The pages, in reading order."""
    return [
        Chapter(
            "bus.md",
            "The bus",
            "The functions of `pymq` work on one default bus, which `init` makes. `connect` makes "
            "others, which have the same verbs as methods.",
        )
        .functions(pymq, ["init", "shutdown", "connect"], "pymq")
        .functions(pymq, ["publish", "subscribe", "unsubscribe", "subscriber", "topic"], "pymq")
        .functions(pymq, ["queue", "get_from", "worker"], "pymq")
        .functions(pymq, ["expose", "unexpose", "remote", "stub"], "pymq")
        .functions(pymq, ["register", "current_message", "current_call"], "pymq")
        .cls(pymq.NativeEventBus, "NativeEventBus")
        .cls(pymq.Topic, "Topic"),
        Chapter("queues.md", "Queues", "Handles on queues, and what they give out.")
        .cls(NativeQueue, "Queue")
        .cls(pymq.Delivery, "Delivery")
        .cls(pymq.Worker, "Worker")
        .cls(pymq.Retry, "Retry")
        .cls(pymq.Stats, "Stats", without=tuple)
        .cls(DeadLetters, "DeadLetters")
        .cls(pymq.DeadLetter, "DeadLetter"),
        Chapter("calls.md", "Calls and messages", "What a call is made with, and what it knows.")
        .cls(pymq.StubMethod, "StubMethod")
        .cls(pymq.RpcRequest, "RpcRequest", without=tuple)
        .cls(pymq.RpcResponse, "RpcResponse", without=tuple)
        .cls(pymq.RunningCall, "RunningCall")
        .cls(pymq.Message, "Message", without=tuple),
        Chapter(
            "aio.md",
            "pymq.aio",
            "The same verbs for asyncio. The functions work on the default bus, which "
            "`await aio.init()` makes; `aio.connect` makes others.",
        )
        .functions(pymq.aio, ["init", "shutdown", "connect", "publish", "subscribe"], "aio")
        .functions(pymq.aio, ["unsubscribe", "subscriber", "topic", "queue", "get_from"], "aio")
        .functions(pymq.aio, ["expose", "unexpose", "remote", "stub"], "aio")
        .cls(pymq.aio.AsyncEventBus, "AsyncEventBus")
        .cls(pymq.aio.AsyncTopic, "AsyncTopic")
        .cls(pymq.aio.Events, "Events")
        .cls(pymq.aio.AsyncQueue, "AsyncQueue")
        .cls(pymq.aio.AsyncDelivery, "AsyncDelivery")
        .cls(AsyncDeadLetters, "AsyncDeadLetters")
        .cls(pymq.aio.AsyncStub, "AsyncStub"),
        Chapter(
            "watch.md",
            "Look and watch",
            "What a bus says of who is on it, and what watches it. [Operate](../guides/operate.md) "
            "says how Prometheus and OpenTelemetry are told.",
        )
        .cls(_inspect.Inspection, "Inspection")
        .cls(_inspect.TopicFacts, "TopicFacts", without=tuple)
        .cls(_inspect.FunctionFacts, "FunctionFacts", without=tuple)
        .cls(_inspect.ProviderFacts, "ProviderFacts", without=tuple)
        .cls(_inspect.Holder, "Holder", without=tuple)
        .cls(_inspect.Finding, "Finding", without=tuple)
        .cls(_inspect.Leftover, "Leftover", without=tuple)
        .cls(pymq.prometheus.Collector, "pymq.prometheus.Collector")
        .cls(pymq.otel.PymqInstrumentor, "pymq.otel.PymqInstrumentor")
        .functions(pymq.otel, ["context_of", "watch"], "pymq.otel")
        .functions(pymq.telemetry, ["observe", "forget"], "pymq.telemetry")
        .cls(pymq.telemetry.Observer, "Observer")
        .cls(pymq.telemetry.Observation, "Observation")
        .cls(pymq.telemetry.Operation, "Operation", without=tuple)
        .cls(pymq.telemetry.Receipt, "Receipt", without=tuple),
        Chapter(
            "exceptions.md",
            "Exceptions",
            "All are a `PymqError`, but for `pymq.Full` and `pymq.Empty`, which are those of "
            "`queue`. [Calls](../guides/calls.md#errors) and [guarantees](../guarantees.md) say "
            "when each is raised.",
        ).errors(pymq.exceptions),
        Chapter("testing.md", "pymq.testing", "See [test your program](../guides/testing.md).")
        .fixture(pymq.pytest_plugin.pymq_bus, "pymq_bus")
        .cls(pymq.testing.MemoryBus, "MemoryBus", without=pymq.NativeEventBus)
        .cls(pymq.testing.Published, "Published", without=tuple)
        .cls(pymq.testing.Put, "Put", without=tuple)
        .cls(pymq.testing.Failed, "Failed", without=tuple),
        Chapter(
            "provider.md",
            "pymq.provider",
            "The original's ways to make a bus. Programs of your own take addresses.",
        )
        .cls(pymq.EventBus, "EventBus")
        .functions(pymq.core, ["default_bus", "start"], "pymq.core")
        .cls(pymq.provider.redis.RedisConfig, "RedisConfig")
        .cls(pymq.provider.redis.RedisEventBus, "RedisEventBus", without=pymq.NativeEventBus)
        .cls(pymq.provider.redis.RedisQueue, "RedisQueue", without=NativeQueue)
        .cls(pymq.provider.simple.SimpleEventBus, "SimpleEventBus", without=pymq.NativeEventBus)
        .cls(pymq.provider.ipc.IpcConfig, "IpcConfig")
        .cls(pymq.provider.ipc.IpcEventBus, "IpcEventBus", without=pymq.NativeEventBus)
        .cls(pymq.provider.ipc.IpcQueue, "IpcQueue", without=NativeQueue)
        .functions(pymq.provider.ipc, ["buses", "look", "clean"], "pymq.provider.ipc")
        .cls(pymq.provider.ipc.Found, "Found", without=tuple)
        .cls(pymq.provider.ipc.Member, "Member", without=tuple),
        Chapter(
            "json.md",
            "pymq.json and pymq.typing",
            "The original's ways to write and read values, for programs that use them. What is "
            "sent over a bus needs none of it.",
        )
        .cls(pymq.json.DeepDictEncoder, "DeepDictEncoder")
        .cls(pymq.json.DeepDictDecoder, "DeepDictDecoder")
        .functions(pymq.typing, pymq.typing.__all__, "pymq.typing"),
    ]


def main(folder: str) -> None:
    """Writes every page."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = ""
    for chapter in chapters():
        (target / chapter.file).write_text(chapter.text)
        written += chapter.text
    told = {name.rpartition(".")[2] for name in re.findall(r"^## (\S+)", written, re.M)}
    missing = {name for module in MODULES for name in module.__all__} - told - KNOWN
    if missing:
        raise SystemExit(f"reference: no chapter tells of {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
