"""What is said of an exception, whatever its own code does when it is asked.

Nothing here raises: a program's exception may do so in its words, its arguments, even in its name,
and whoever waits for the outcome is told all the same.
"""

from __future__ import annotations

import traceback

from pymq import _types

#: How much of its words goes to whoever waits for the outcome.
WORDS = 10_000

_NAME = type.__dict__["__name__"]


def name_of(error: BaseException) -> str:
    """The name of its class, asked past a metaclass that answers itself."""
    return _text(_NAME.__get__(type(error)))


def fullname_of(error: BaseException) -> str:
    """The same with its module, where that is told."""
    try:
        return _text(_types.fullname(type(error)))
    except BaseException:
        return name_of(error)


def words_of(error: BaseException) -> str:
    """Its own words."""
    try:
        return _text(str(error)[:WORDS])
    except BaseException:
        return f"{name_of(error)}, whose words cannot be made"


def trace_of(error: BaseException) -> str | None:
    """Where it was raised, for people elsewhere."""
    try:
        lines = "".join(traceback.format_exception(error))
    except BaseException:
        return None
    return _text(lines[-WORDS:])


def _text(words: str) -> str:
    """The same as it travels: a surrogate by itself is no character."""
    return words.encode("utf-8", "replace").decode()
