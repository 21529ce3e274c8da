"""What the log is told of messages once, however often it happens.

What others send is not ours to log: a record names the program's own classes, never what a message
alone holds.
"""

from __future__ import annotations

import logging
import sys

logger = logging.getLogger("pymq")

#: Enough to tell what is wrong; a flood of made-up names must not fill memory or the log.
_MOST = 1000
_LONGEST = 256
_told: dict[tuple[str, str], object] = {}


def unknown_type(tag: str) -> None:
    """A tag names no class that this program knows."""
    if not _is_first("type", tag):
        return
    # The name is the sender's word, unless it is of a package that the program has loaded.
    package = tag.partition(".")[0]
    named = f"the type {tag!r}" if "." in tag and package in sys.modules else "a type"
    logger.warning(
        "a message names %s, which this program has not loaded or may not build: it arrives as "
        "plain data; import its module, or pass the class to pymq.register (strict=True raises an "
        "error that has the name)",
        named,
    )


def unknown_field(class_name: str) -> None:
    """A message has a field that the receiver's class has no place for."""
    if _is_first("field", class_name):
        logger.warning(
            "a message has fields that %s does not know: they are dropped; add them to the class, "
            "or look at its sender (strict=True raises an error that names them)",
            class_name,
        )


def _is_first(kind: str, name: str) -> bool:
    key = (kind, name[:_LONGEST])
    if key in _told or len(_told) >= _MOST:
        return False
    # No lock, into which a finaliser might break: of those who come together one is the first.
    mine = object()
    return _told.setdefault(key, mine) is mine
