"""Properties run on a fresh seed each time, which pytest's header prints; failures that were saved
run before. `PYMQ_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings

SEED = int(os.environ.get("PYMQ_TEST_SEED") or secrets.randbits(32))


def examined(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a property: so many examples by the printed seed."""

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        # Not `--hypothesis-seed`: with that, hypothesis leaves saved failures aside.
        chosen = settings(
            max_examples=examples,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        return seed(SEED)(chosen(test))

    return decorate
