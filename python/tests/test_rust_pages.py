"""What the programs of Rust on the pages print: `make test-docs` builds them, in a minute."""

from __future__ import annotations

import os
import subprocess

import pytest

import rust_programs
from pages import HANG_GUARD, Block, compare, pages

SHOWN = {
    f"{page.name}-{number}": block
    for page in pages()
    for number, block in enumerate(filter(rust_programs.is_program, page.blocks), 1)
    if block.shown is not None
}


@pytest.mark.skipif(os.environ.get("PYMQ_PAGES") != "all", reason="only `make test-docs` builds it")
@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in SHOWN.items()])
def test_a_program_of_rust_prints_what_its_page_shows(block: Block) -> None:
    done = subprocess.run(
        [rust_programs.built(block)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANG_GUARD,
        check=True,
    )
    compare(block.shown or "", done.stdout, block.title or "")


def test_pages_show_what_programs_of_rust_print() -> None:
    assert SHOWN
