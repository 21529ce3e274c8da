"""What the fault harness found, from its JSON to a page."""

from __future__ import annotations

import json
from typing import Any

from conformance import ROOT

KEPT = ROOT / "docs" / "proof" / "faults.json"


def page() -> str:
    """What was done to whom and how often, and how long it took until all was well again."""
    found = json.loads(KEPT.read_text())
    runs = found["runs"]
    well = sum(run["well"] for run in runs)
    parts = [
        "# Faults",
        "Faults are injected into real processes and sockets, and each run fails if they happened "
        "too seldom to mean anything. [Guarantees](guarantees.md) says what must hold in each row.",
        f"The {'short' if found['brief'] else 'long'} form, seed {found['seed']} "
        f"(`scripts/proof`): {well} of {len(runs)} runs well.",
        "## What happened",
        _happened(runs),
        "## Until all was well again",
        "From the moment in which the fault was over; for the death of a process or host from its "
        "death.",
        _recoveries(found["recoveries"]),
    ]
    return "\n\n".join(parts) + "\n"


def _happened(runs: list[dict[str, Any]]) -> str:
    lines = ["| run | rows | | what happened |", "|---|---|:-:|---|"]
    for run in sorted(runs, key=lambda run: (min(run["rows"], default=99), run["name"])):
        rows = ", ".join(map(str, run["rows"]))
        counts = ", ".join(f"{count:,} {what}" for what, count in run["counts"].items())
        sign = "✓" if run["well"] else "**wrong**"
        lines.append(f"| {run['name']} | {rows} | {sign} | {counts} |")
    return "\n".join(lines)


def _recoveries(recoveries: list[dict[str, Any]]) -> str:
    lines = ["| after | who | times | median | longest |", "|---|---|--:|--:|--:|"]
    lines += [
        f"| {one['after']} | {one['who']} | {one['n']} | {one['median']:.2f} s "
        f"| {one['longest']:.2f} s |"
        for one in recoveries
    ]
    return "\n".join(lines)
