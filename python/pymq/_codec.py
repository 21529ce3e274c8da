"""Values to bytes and back: the package's own codec.

`Codec` encodes without hints and decodes by hints and tags; what a tag may choose is its `trust`.
It knows no envelopes, topics or queues.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pymq import _notices, _plans, _types
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
            encoding=_types.encoding_for,
            resolve=functools.partial(_plans.resolve, trust=trust),
            unknown=_notices.unknown_type,
            dropped=_notices.unknown_field,
            number=_types.number_in,
            loads=_types.slow_loads,
            dumps=_types.slow_dumps,
            strict=strict,
            max_bytes=max_bytes,
            max_depth=max_depth,
        )
