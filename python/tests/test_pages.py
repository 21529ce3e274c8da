"""Whoever follows a page of the documents, letter by letter, sees what it shows.

`PYMQ_PAGES=all` follows the pages too that need packages which the tests do not have (`make
test-docs` installs them).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rust_programs
from pages import DOCUMENTS, ROOT, Block, Page, Reader, pages, read

FOLLOWED = [page for page in pages() if not page.needs or os.environ.get("PYMQ_PAGES") == "all"]


@pytest.mark.parametrize(
    "page", [pytest.param(one, id=one.name) for one in FOLLOWED if one.is_typed]
)
def test_a_page_shows_what_its_reader_sees(page: Page, tmp_path: Path, redis_url: str) -> None:
    with Reader(tmp_path, redis_url, rust_programs.built) as reader:
        reader.follow(page)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in FOLLOWED
        for number, block in enumerate(page.programs, 1)
    ],
)
def test_a_program_of_a_page_runs(block: Block, tmp_path: Path, redis_url: str) -> None:
    with Reader(tmp_path, redis_url) as reader:
        reader.run(block)


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "zensical.toml").read_text()
    inside = [path for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")]
    assert [str(path) for path in inside if f'"{path.relative_to(ROOT / "docs")}"' not in nav] == []


def test_the_readme_has_programs() -> None:
    assert read(ROOT / "README.md").programs
