"""Servers, interpreters and peers: from the runs' output to JSON, and from that to a page.

`compatibility.py FOLDER JSON` keeps what `scripts/proof` ran: `servers`, the table that
`scripts/servers` prints, and the reports of pytest, `interop.xml` and one for each interpreter.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

from conformance import ROOT

KEPT = ROOT / "docs" / "proof" / "compatibility.json"
#: Two programs of a test, who sends first, as its name has them.
PAIR = re.compile(r"\[([\w.]+)->([\w.]+)[-\]]")


def keep(folder: Path, kept: Path) -> None:
    """Reads what the runners wrote."""
    lines = re.sub(r", \d+ deselected", "", (folder / "servers").read_text()).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    run = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "servers": [row for row in rows[2:] if len(row) == 3],
        "interpreters": _interpreters(folder),
        "peers": _pairs(folder / "interop.xml"),
    }
    kept.write_text(json.dumps(run, indent=1) + "\n")


def _interpreters(folder: Path) -> list[dict[str, object]]:
    main = f"{sys.version_info.major}.{sys.version_info.minor}"
    counts = {report.stem: _outcomes(report) for report in folder.glob("3.*.xml")}
    halves = [half for half in (folder / "first.xml", folder / "second.xml") if half.exists()]
    if halves:
        counts[main] = sum(map(_outcomes, halves), Counter())
    return [
        {"name": name, "everything": bool(halves) and name == main, **counts[name]}
        for name in sorted(counts, key=lambda name: int(name.partition(".")[2]))
    ]


def _outcomes(report: Path) -> Counter[str]:
    return Counter(outcome for _, outcome in _tests(report))


def _pairs(report: Path) -> list[dict[str, object]]:
    """How many tests of each two programs ended how, from whom to whom."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for name, outcome in _tests(report):
        if pair := PAIR.search(name):
            counts.setdefault((pair[1], pair[2]), Counter())[outcome] += 1
    return [{"from": one, "to": other, **counts[one, other]} for one, other in sorted(counts)]


def _tests(report: Path) -> list[tuple[str, str]]:
    kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    tests = []
    for case in ElementTree.parse(report).iter("testcase"):
        ended = [kinds[child.tag] for child in case if child.tag in kinds]
        tests.append((case.get("name") or "", ended[0] if ended else "passed"))
    return tests


def page() -> str:
    """What ran on what, and who talked to whom."""
    run = json.loads(KEPT.read_text())
    interpreters = [
        f"| CPython {one['name']} "
        f"| {'all tests' if one['everything'] else 'those that may differ'} | {_told(one)} |"
        for one in run["interpreters"]
    ]
    return "\n\n".join(
        [
            "# Compatibility",
            "Which servers, interpreters and other programs the tests ran with, and what came of "
            "it. [Servers and interpreters](servers.md) says how to have each.",
            f"The run of {run['date']} (`scripts/proof`).",
            "## Servers",
            "What a server decides: the contract, queues, rights and refusals.",
            _table(["server", "in Rust", "in Python"], run["servers"]),
            "## Interpreters",
            "\n".join(["| interpreter | tests | |", "|---|---|---|", *interpreters]),
            "## Programs of each kind with each other",
            "Events, items and calls from one program to another over one Redis: the original in "
            "its oldest and newest version, and this library in both languages. What is skipped "
            "is about a value or a verb that one of the two does not have.",
            _matrix(run["peers"]),
        ]
    )


def _matrix(pairs: list[dict[str, object]]) -> str:
    names = {"python": "Python", "rust": "Rust"}
    kinds = sorted({str(one["to"]) for one in pairs}, key=lambda kind: (kind in names, kind))
    told = {(one["from"], one["to"]): _told(one) for one in pairs}
    called = {kind: names.get(kind, f"original {kind}") for kind in kinds}
    rows = [
        [f"from {called[one]}", *(told.get((one, other), "") for other in kinds)] for one in kinds
    ]
    return _table(["", *(f"to {called[kind]}" for kind in kinds)], rows)


def _told(counts: dict[str, object]) -> str:
    kinds = [kind for kind in ("passed", "failed", "skipped") if counts.get(kind)]
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [" | ".join(row) for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
