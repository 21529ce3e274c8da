"""Gathers the site's pages in one folder: those of `docs/`, and those of the repository's root.

A link that leaves the pages becomes one into the repository; programs of `examples/` are put where
a page names them in a comment (`--8<-- "examples/…"`).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/pymq-rs/pymq/blob/main"

#: Pages that lie outside of `docs/`, and their names on the site.
ALSO = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(?<!!)(\[[^\]]*\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_SNIPPET = re.compile(r'^( *)(?:#|//) --8<-- "([^"]+)"$', re.M)


def gather(target: Path) -> None:
    """Makes `target` anew, with every page of the repository in it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target, ignore=shutil.ignore_patterns("*.md"))
    for source in sorted(DOCS.rglob("*.md")):
        put(target, source, str(source.relative_to(DOCS)))
    for name, on_site in ALSO.items():
        put(target, ROOT / name, on_site)


def put(target: Path, source: Path, name: str) -> None:
    """One page, with its programs in it and its links turned to where they are on the site."""
    page = target / name
    page.parent.mkdir(parents=True, exist_ok=True)
    text = with_programs(source.read_text())
    page.write_text(_LINK.sub(lambda link: _turned(link, source, Path(name)), text))


def with_programs(text: str) -> str:
    """A page with the programs that it names."""

    def program(found: re.Match[str]) -> str:
        lines = (ROOT / found[2]).read_text().rstrip("\n").split("\n")
        return "\n".join(found[1] + line if line else "" for line in lines)

    return _SNIPPET.sub(program, text)


def _turned(link: re.Match[str], source: Path, page: Path) -> str:
    before, to, after = link.groups()
    meant = (source.parent / to).resolve()
    if not meant.exists() or not meant.is_relative_to(ROOT):
        # What is generated, or wrong: the site's own check of links decides.
        return link[0]
    inside = str(meant.relative_to(ROOT))
    if inside in ALSO:
        return before + _relative(ALSO[inside], page) + after
    if meant.is_relative_to(DOCS):
        return before + _relative(str(meant.relative_to(DOCS)), page) + after
    return f"{before}{REPOSITORY}/{inside}{after}"


def _relative(to: str, page: Path) -> str:
    return "../" * (len(page.parts) - 1) + to
