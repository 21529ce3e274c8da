"""A look at a bus from outside: who subscribes, who provides, which queues there are.

For people who operate a bus, and tools that they use. Looking changes nothing; only `tidy` does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from pymq import _pymq

Severity: TypeAlias = Literal["fine", "note", "risk", "broken"]


class TopicFacts(NamedTuple):
    """A topic with subscribers."""

    #: The topic, without the namespace.
    name: str
    #: How many subscribe to it by exact name; as of the transport, subscriptions or connections.
    subscribers: int


class ProviderFacts(NamedTuple):
    """One provider of a function."""

    #: Its identity.
    id: str
    #: How many calls it has begun or keeps waiting; `None` for one of an earlier release.
    open_calls: int | None


class FunctionFacts(NamedTuple):
    """A function that somebody provides."""

    #: The function's name.
    name: str
    #: Who provides it and has said so just now.
    providers: list[ProviderFacts]
    #: Providers that are connected and said nothing within a second.
    silent: int
    #: Who else listens to calls: providers of the original, or other subscribers of that topic.
    others: int


class Holder(NamedTuple):
    """One who holds items of a queue on lease."""

    #: Its connection, as far as the broker knows it.
    name: str
    #: How many items it holds.
    items: int
    #: For how many seconds its lease still lasts unless it is renewed; `None` where leases end with
    #: their connection only.
    left: float | None


class Finding(NamedTuple):
    """What was found when something of the broker was looked at."""

    #: A setting, a right, in the broker's own words.
    subject: str
    #: `"fine"`, `"note"` (worth knowing, or could not be looked at), `"risk"` (loses data, or will
    #: under a load or a fault that has not come yet) or `"broken"` (does not work now).
    severity: Severity
    #: What is so, and what follows.
    words: str
    #: What to do about it; empty where there is nothing to do.
    remedy: str


class Leftover(NamedTuple):
    """Something that a program which ended badly has left behind."""

    #: Its whole name on the broker.
    name: str
    #: What it is, and what tidying does with it.
    words: str


class Inspection:
    """A look at a bus, see `NativeEventBus.inspect`.

    Everything raises `UnsupportedError` on a transport that cannot be inspected, and what a
    connection raises.
    """

    def __init__(self, native: _pymq.Inspection) -> None:
        self._native = native

    def topics(self) -> list[TopicFacts]:
        """The topics that have subscribers by exact name, sorted, without those on which only
        functions of this library listen to calls."""
        return [TopicFacts(*topic) for topic in self._native.topics().wait()]

    def functions(self) -> list[FunctionFacts]:
        """The functions that programs of this library provide, sorted, with who provides each. A
        function of the original alone looks like any topic."""
        return [function_facts(*function) for function in self._native.functions().wait()]

    def queues(self) -> list[str]:
        """The names of the queues that hold anything, or on which somebody waits as far as the
        broker knows; sorted. It may take time that grows with all that the broker holds."""
        return self._native.queues().wait()

    def holders(self, queue: str) -> list[Holder]:
        """Who holds items of a queue on lease, those whose lease has run out included."""
        return [Holder(*holder) for holder in self._native.holders(queue).wait()]

    def examine(self) -> list[Finding]:
        """What the broker is, how it is set up and what this connection may do there: what is as it
        should be, and what is not."""
        return [finding(*found) for found in self._native.examine().wait()]

    def leftovers(self) -> list[Leftover]:
        """What programs that ended badly have left behind in this namespace."""
        return [Leftover(*leftover) for leftover in self._native.leftovers().wait()]

    def tidy(self, leftover: Leftover) -> None:
        """Do with a leftover what its owner should have done. What has found its owner since is
        left alone."""
        self._native.tidy(*leftover).wait()


def function_facts(
    name: str, providers: list[tuple[str, int | None]], silent: int, others: int
) -> FunctionFacts:
    """From what the native core says."""
    return FunctionFacts(name, [ProviderFacts(*one) for one in providers], silent, others)


def finding(subject: str, severity: str, words: str, remedy: str) -> Finding:
    """From what the native core says."""
    return Finding(subject, severity, words, remedy)  # type: ignore[arg-type]
