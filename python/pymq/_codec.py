"""Values to bytes and back: the package's own codec.

`Codec` encodes without hints and decodes by hints and tags; what a tag may choose is its `trust`.
It knows no envelopes, topics or queues.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from pymq import _encodings, _log_once, _plans, _texts
from pymq._plans import call_plan, plan_for, register
from pymq._pymq import CallPlan, CodecCore, Plan
from pymq.exceptions import DecodeError, EncodeError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "CallPlan",
    "Codec",
    "DecodeError",
    "EncodeError",
    "Plan",
    "call_plan",
    "plan_for",
    "register",
]

#: The limits of a message, unless others are given.
MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 200


class Codec(CodecCore):
    """Encodes and decodes values; every method is native, see `_pymq.pyi`.

    `trust` says which classes a message's tags may choose: `"loaded"` takes data classes that the
    program has imported beside those that it declared, `"declared"` only the latter. With `strict`
    an unknown tag is a `DecodeError`; otherwise it gives plain data and one warning. `max_bytes`
    and `max_depth` (1 to 200) limit what is sent and read. One codec serves all threads.
    """

    def __new__(
        cls,
        trust: str = "loaded",
        strict: bool = False,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
    ) -> Self:
        if trust not in ("loaded", "declared"):
            raise ValueError(f"trust is 'loaded' or 'declared', not {trust!r}")
        if not 1 <= max_depth <= MAX_DEPTH:
            raise ValueError(f"max_depth is between 1 and {MAX_DEPTH}, not {max_depth}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        return super().__new__(
            cls,
            encoding=_encodings.encoding_for,
            resolve=functools.partial(_plans.resolve, trust=trust),
            unknown=_log_once.unknown_type,
            dropped=_log_once.unknown_field,
            number=_texts.number_in,
            loads=_slow_loads,
            dumps=_slow_dumps,
            strict=strict,
            max_bytes=max_bytes,
            max_depth=max_depth,
        )


# Python's own JSON, where the fast parser gives up.

#: What may be an integer of too many digits.
_LONG_INTEGER = re.compile(r"\d{4000}")


def _slow_loads(data: bytes, digits: int) -> Any:
    """Reads JSON with Python's own `json`; integers have at most so many digits."""

    def integer(text: str) -> int:
        if len(text.lstrip("-")) > digits:
            raise ValueError(f"an integer of more than {digits} digits")
        return int(text)

    text = data.decode("utf-8")
    if _LONG_INTEGER.search(text) is None:
        integer = int  # type: ignore[assignment]
    if text.startswith("\ufeff"):
        raise ValueError("it starts with a byte order mark")
    return json.loads(text, parse_int=integer)


def _slow_dumps(text: str) -> bytes:
    """A string as JSON in ASCII, whatever it holds."""
    return json.dumps(text).encode("ascii")
