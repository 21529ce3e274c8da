"""What a forked child renews; where the system forks no processes there is nothing to renew."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_child(renew: Callable[[], object]) -> None:
    """Has that called in every child that is forked from now on."""
    # Windows has no such function.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)
