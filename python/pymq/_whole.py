"""Imported first by what stands beside the original's files, should that be installed over ours:
then it says so, instead of failing somewhere inside."""

from __future__ import annotations

from pymq import _neighbour

if _neighbour.original_is_in_front():
    raise ImportError(_neighbour.sentence() or _neighbour.SENTENCE.format(version="(the original)"))
