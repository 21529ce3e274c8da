"""Writes the site's text for programs: `llms.txt`, the list, and `llms-full.txt`, all of it.

Each page also lies beside its HTML as Markdown.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

from pages import ROOT


def write(site: Path) -> None:
    """Beside the HTML of `site`, in the order of the navigation."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    listed = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    full = []
    for section, title, name in _pages(project["nav"]):
        text = (site / "pages" / name).read_text()
        if section is not None:
            listed += ["", f"## {section}", ""]
        listed.append(f"- [{title}]({project['site_url']}{name}): {_first_sentence(text)}")
        full.append(f"<!-- {name} -->\n{text.rstrip()}\n")
        beside = site / "html" / name
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(site / "pages" / name, beside)
    (site / "html" / "llms.txt").write_text("\n".join(listed) + "\n")
    (site / "html" / "llms-full.txt").write_text("\n".join(full))


def _pages(nav: list[dict[str, Any]]) -> Iterator[tuple[str | None, str, str]]:
    """Each page with its title, the first of a section with the section's."""
    section: str | None = "Begin"
    for entry in nav:
        for title, what in entry.items():
            if isinstance(what, str) and what.startswith("https:"):
                # It is no page of this site's own.
                continue
            if isinstance(what, str):
                yield section, title, what
                section = None
                continue
            section = title
            for _, inner_title, name in _pages(what):
                yield section, inner_title, name
                section = None


def _first_sentence(text: str) -> str:
    """What a page says of itself right below its heading."""
    for part in re.split(r"\n\s*\n", text):
        line = " ".join(part.split())
        if line and line[0] not in "#|<=-!" and not line.startswith("```"):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
            return re.split(r"(?<=\.)\s", plain)[0]
    return ""
