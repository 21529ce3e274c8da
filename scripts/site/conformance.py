"""The contract, rule by rule: from the runs' output to JSON, and from that to a page.

`conformance.py OUTPUT JSON` keeps what `scripts/proof` ran; the site's build calls `page`.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "proof" / "conformance.json"
RULES = ROOT / "crates" / "pymq" / "src" / "conformance"


def keep(output: Path, kept: Path) -> None:
    """Reads what the test runner printed for each column."""
    columns: dict[str, dict[str, str]] = {}
    for line in output.read_text().splitlines():
        if line.startswith("column "):
            column = columns.setdefault(line.removeprefix("column "), {})
        elif found := re.match(r"test \w+::(\w+) \.\.\. (\w+)", line):
            column[found[1]] = found[2]
    run = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "columns": columns,
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(run, indent=1) + "\n")


def page() -> str:
    """The matrix, a rule to a line: their names are sentences."""
    run = json.loads(KEPT.read_text())
    columns = run["columns"]
    passed = sum(what == "ok" for results in columns.values() for what in results.values())
    lines = [
        "# Conformance",
        "The contract between the library and what moves its bytes is a suite of rules, each a "
        "test. A transport passes all of them, or it is none. So what works in memory works over a "
        "server.",
        f"The run of {run['date']} (`scripts/proof`): {passed} of "
        f"{sum(map(len, columns.values()))} passed.",
    ]
    told: set[str] = set()
    for source in sorted(RULES.glob("*.rs")):
        rules = [rule for rule in _rules(source.read_text()) if rule in _all(columns)]
        if not rules:
            continue
        lines.append(f"## {source.stem.replace('_', ' ').capitalize()}")
        lines.append(_table(rules, columns))
        told.update(rules)
    rest = sorted(_all(columns) - told)
    if rest:
        lines += ["## Others", _table(rest, columns)]
    return "\n\n".join(lines) + "\n"


def _all(columns: dict[str, dict[str, str]]) -> set[str]:
    return {name for results in columns.values() for name in results}


def _rules(source: str) -> list[str]:
    return re.findall(r"^pub async fn (\w+)", source, re.M)


def _table(rules: list[str], columns: dict[str, dict[str, str]]) -> str:
    signs = {"ok": "✓", "FAILED": "**fails**"}
    rows = [
        "| "
        + " | ".join(
            [
                f"{name.replace('_', ' ')}",
                *(signs.get(results.get(name, ""), "") for results in columns.values()),
            ]
        )
        + " |"
        for name in rules
    ]
    names = (name.removeprefix("redis:// on ") for name in columns)
    head = "| rule | " + " | ".join(names) + " |"
    return "\n".join([head, "|---|" + ":-:|" * len(columns), *rows])


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
