"""Builds the site in `target/site/html`; runs in an environment with requirements-docs.txt.

`reference.py` has written the reference before, in an environment with the package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import conformance
import faults
import llms

import pages

SITE = pages.ROOT / "target" / "site"


def main() -> int:
    """Gathers the pages, builds them and checks every link; gives the exit code."""
    pages.gather(SITE / "pages")
    for proof in (conformance, faults):
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
    print(f"the site is {(SITE / 'html' / 'index.html').relative_to(pages.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
