"""The programs of Rust on the pages of `docs/`, built all at once in a crate made for them."""

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
    shutil.rmtree(crate, ignore_errors=True)
    (crate / "src" / "bin").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(MANIFEST.format(pymq=ROOT / "crates" / "pymq"))
    # What both need is built once, of the same version.
    shutil.copy(ROOT / "Cargo.lock", crate)
    programs = {}
    for page in pages():
        for block in filter(is_program, page.blocks):
            name = f"{page.path.stem}-{len(programs)}"
            if block.text not in programs:
                (crate / "src" / "bin" / f"{name}.rs").write_text(block.text)
                programs[block.text] = target / "debug" / name
    command = ["cargo", "build", "--quiet", "--manifest-path", crate / "Cargo.toml"]
    subprocess.run([*command, "--target-dir", target], check=True)
    return programs
