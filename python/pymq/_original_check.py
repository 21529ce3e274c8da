"""Raises `ImportError` when the original package was installed over this one.

Modules that both packages have import this first, so that it says so instead of failing inside.
"""

from __future__ import annotations

from pymq import _original

if _original.original_is_in_front():
    raise ImportError(_original.sentence() or _original.SENTENCE.format(version="(the original)"))
