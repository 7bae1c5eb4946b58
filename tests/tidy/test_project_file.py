"""Tests on pyproject.toml and the constraints: that each dependency is explained, used and pinned.

Owns: the agreement between the declared and the real. Never: installs or imports a dependency.
"""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Distribution name -> module name, where they differ.
MODULE_OF = {"google-crc32c": "google_crc32c", "prometheus-client": "prometheus_client"}


def bare_name(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {bare_name(line) for line in lines if line and not line.startswith("#")}


def test_every_runtime_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    unexplained = [d for d in PROJECT["dependencies"] if not re.search(re.escape(f'"{d}"') + r",\s+# \w+", text)]

    assert unexplained == []


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_runtime_dependency_is_imported(requirement: str) -> None:
    module = MODULE_OF.get(bare_name(requirement), bare_name(requirement))
    uses = re.compile(rf"^\s*(import|from) {module}\b", re.MULTILINE)

    assert any(uses.search(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py"))


def test_everything_declared_is_pinned() -> None:
    declared = [*PROJECT["dependencies"], *(r for rs in PROJECT["optional-dependencies"].values() for r in rs)]

    assert {bare_name(r) for r in declared} - {"isotach"} <= pinned()


def test_constraints_are_exact_versions_from_anywhere() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if line and not line.startswith("#") and not re.fullmatch(r"[\w.\-]+==[\w.+]+", line)]

    assert odd == []
