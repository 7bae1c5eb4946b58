"""Tests that the reference of configuration keys is current.

Owns: that docs/configuration.md is what its generator prints. Never: writes it.
"""

from pathlib import Path

from isotach.conf.reference import markdown
from isotach.conf.settings import KEYS


def test_the_reference_names_every_key() -> None:
    page = markdown()

    assert [row.name for row in KEYS if f"`{row.name}`<br>`{row.env}`" not in page] == []


def test_the_reference_is_current(repository: Path) -> None:
    written = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert written == markdown(), "run: python -m isotach.conf.reference > docs/configuration.md"
