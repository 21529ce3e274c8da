"""Builds the site in `target/site/html`; runs in an environment with requirements-docs.txt.

`reference.py` has written the reference before, in an environment with the package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import compatibility
import conformance
import faults
import llms
import tomllib

import pages

SITE = pages.ROOT / "target" / "site"
RUSTDOC = Path(os.environ.get("CARGO_TARGET_DIR", pages.ROOT / "target")) / "doc"
SETTINGS = pages.ROOT / "zensical.toml"
URL = tomllib.loads(SETTINGS.read_text())["project"]["site_url"]


def main() -> int:
    """Gathers the pages, builds them and checks every link; gives the exit code."""
    pages.gather(SITE / "pages")
    for proof in (compatibility, conformance, faults):
        (SITE / "pages" / f"{proof.__name__}.md").write_text(proof.page())
    shutil.copytree(SITE / "reference", SITE / "pages" / "reference", dirs_exist_ok=True)
    done = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"],
        cwd=pages.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # It colours every letter, whoever reads it; and ends with a traceback of its own.
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).partition("Traceback")[0]
    if done.returncode:
        print(said, file=sys.stderr)
        return done.returncode
    llms.write(SITE)
    wrong = rustdoc()
    print(f"the site is {(SITE / 'html' / 'index.html').relative_to(pages.ROOT)}")
    return wrong


def rustdoc() -> int:
    """Puts the crate's own documentation beside the pages, and checks the links to it."""
    shutil.copytree(RUSTDOC, SITE / "html" / "rust", ignore=shutil.ignore_patterns(".lock"))
    wrong = 0
    for page in [SETTINGS, *sorted((SITE / "pages").rglob("*.md"))]:
        for link in re.findall(re.escape(f"{URL}rust/") + r"([^)#\s\"]+)", page.read_text()):
            if not (SITE / "html" / "rust" / link).exists():
                print(f"{page.name}: the crate has no page {link}", file=sys.stderr)
                wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
