"""The programs of Rust on the pages of `docs/`, built all at once in a crate made for them.

As a program it builds them: whoever does so before the tests has no test wait for a compiler, which
on a busy machine takes longer than a test may.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from pages import ROOT, Block, pages

#: What the pages name among their dependencies.
MANIFEST = """
[package]
name = "pages"
version = "0.0.0"
edition = "2024"

[dependencies]
axum = "0.8"
pymq = {{ path = "{pymq}", features = ["prometheus"] }}
serde = {{ version = "1", features = ["derive"] }}
tokio = {{ version = "1", features = ["full"] }}

[workspace]
"""


def is_program(block: Block) -> bool:
    """Whether it is a program of Rust that stands whole on its page."""
    return block.language == "rust" and block.title is not None


def built(block: Block) -> Path:
    """Where a program of a page lies."""
    return _all_built()[block.text]


@functools.cache
def _all_built() -> dict[str, Path]:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    crate = target / "pages"
    sources = crate / "src" / "bin"
    sources.mkdir(parents=True, exist_ok=True)
    _write(crate / "Cargo.toml", MANIFEST.format(pymq=ROOT / "crates" / "pymq"))
    # What both need is built once, of the same version.
    shutil.copy(ROOT / "Cargo.lock", crate)
    programs = {}
    for page in pages():
        for block in filter(is_program, page.blocks):
            name = f"{page.path.stem}-{len(programs)}"
            if block.text not in programs:
                _write(sources / f"{name}.rs", block.text)
                programs[block.text] = target / "debug" / name
    for gone in set(sources.iterdir()) - {sources / f"{it.name}.rs" for it in programs.values()}:
        gone.unlink()
    command = ["cargo", "build", "--quiet", "--manifest-path", crate / "Cargo.toml"]
    subprocess.run([*command, "--target-dir", target], check=True)
    return programs


def _write(file: Path, text: str) -> None:
    """Leaves a file alone that says so already, so that cargo does not build it again."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


if __name__ == "__main__":
    _all_built()
