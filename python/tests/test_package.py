"""What an index shows of the package, and what is in it."""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = distribution("pymq-rs")


def test_the_texts_on_indexes_have_no_link_that_only_works_in_the_repository() -> None:
    crates = sorted((Path(__file__).resolve().parents[2] / "crates").glob("*/README.md"))
    assert len(crates) == 3
    for text in [PACKAGE.metadata["Description"], *(page.read_text() for page in crates)]:
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert links
        assert [link for link in links if not link.startswith("https://")] == []


def test_an_index_knows_where_all_is() -> None:
    urls = dict(entry.split(", ") for entry in PACKAGE.metadata.get_all("Project-URL") or [])
    assert urls.keys() >= {"Documentation", "Source", "Changelog", "Issues", "Security"}


def test_the_wheel_has_its_licence_its_types_and_its_bill_of_materials() -> None:
    files = {str(file): file for file in PACKAGE.files or []}
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert "pymq/py.typed" in files
    assert "pymq/_pymq.pyi" in files
    bills = [file for name, file in files.items() if name.endswith(".cyclonedx.json")]
    components = json.loads(bills[0].read_text())["components"]
    assert {"tokio", "serde_json"} <= {component["name"] for component in components}


def test_the_package_needs_no_other_one() -> None:
    assert [need for need in PACKAGE.requires or [] if "extra ==" not in need] == []
