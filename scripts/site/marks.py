"""The table of docs/speed.md that sets marks beside what the raw client reaches, from a run's JSON.

`scripts/bench` has it written anew with each whole run.
"""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

from conformance import ROOT

RUN = ROOT / "docs" / "proof" / "speed.json"
PAGE = ROOT / "docs" / "speed.md"
HEAD = "| row | mark | the raw client to the original |\n|---|---|---|\n"
#: A row, the figure that has its mark, and the work in which the raw client and the original stand.
ROWS = [
    ("call, p50", "Python call, p50 / original", "call, one at a time", ""),
    ("publish, one by one", "Python publish, one by one / original", "publish, one by one", ""),
    ("put", "Python put / original", "put, one at a time", ""),
    ("get", "Python get / original", "get, one at a time", ": the server's own `BRPOP`"),
]


def write() -> None:
    """Puts the table in the place of the one that is there."""
    page, run = PAGE.read_text(), json.loads(RUN.read_text())
    before, after = page.split(HEAD)
    _, _, after = after.partition("\n\n")
    PAGE.write_text(f"{before}{HEAD}{rows(run)}\n\n{after}")


def rows(run: dict[str, Any]) -> str:
    """The lines of the table."""
    works = {work["name"]: work for work in run["works"]}
    marks = {line["figure"]: line["mark"] for line in run["lines"]}
    lines = []
    for name, figure, work, note in ROWS:
        raw, original = (_median(works[work], side) for side in ("raw", "original"))
        unit = " a second" if works[work]["unit"] == "/s" else f" {works[work]['unit']}"
        lines.append(
            f"| {name} | {_mark(marks[figure])} | {_two(raw / original)} "
            f"({_two(raw)} and {_two(original)}{unit}){note} |"
        )
    raw = _median(works["calls, 64 in flight"], "raw")
    original = _median(works["calls, 8 Python threads"], "original")
    mark = marks["Python calls, 8 threads / original"]
    times = mark["at_least"]
    lines.append(
        f"| calls from 8 threads | {_mark(mark)} | {_two(raw / original)}, but not from Python: "
        f"{times:g} times the original are {_two(times * original)} calls a second, and one "
        "interpreter runs at most 30,000 functions of 30 µs |"
    )
    return "\n".join(lines)


def _median(work: dict[str, Any], side: str) -> float:
    return statistics.median(work["sides"][side])


def _mark(mark: dict[str, float]) -> str:
    (kind, number) = next(iter(mark.items()))
    return f"{'≤' if kind == 'at_most' else '≥'} {number:g}"


def _two(number: float) -> str:
    """With two digits that say something."""
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else re.sub(r"\.0$", "", f"{rounded}")


if __name__ == "__main__":
    write()
