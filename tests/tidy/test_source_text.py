"""Tests on the text of the project: shape, words and addresses that must not creep in.

Owns: the rules that no linter knows. Never: imports the code it reads.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE_LINES_MAX = 500
MODULE_LINES_MEDIAN_MAX = 200
FUNCTION_LINES_MAX = 70
DOCSTRING_WORDS_MIN = 8
HOMELESS_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py", "util.py"}
#: Built from pieces so that this file does not hold what it looks for.
FORBIDDEN_WORDS = {
    "a folder of one machine": re.compile(r"(?<![\w.])/" + r"(work/(main|shared)|home/\w+/|root/\.|tmp/brief)"),
    "a package index of one machine": re.compile(
        "(file:/" + "/" + r"/opt|extra-" + "index-url|artifact" + "ory|nex" + r"us\.)"
    ),
    "a mark of unfinished work": re.compile(r"\b(FIX" + "ME|XX" + r"X)\b"),
}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".json", ".sh", ""}


@cache
def tracked_files() -> tuple[Path, ...]:
    """What is in the repository, or would be at the next commit; every file of the tree where git is not there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return tuple(p for folder in ("src", "tests", "scripts", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
    return tuple(path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file())


def modules(*folders: str) -> list[Path]:
    tops = folders or ("src", "tests", "scripts", "benchmarks")
    return [p for p in tracked_files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in tops]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_says_what_it_owns() -> None:
    def is_told(path: Path) -> bool:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return len(docstring.split()) >= DOCSTRING_WORDS_MIN

    missing = [name_of(p) for p in modules() if not is_told(p) and p.stat().st_size > 0]

    assert missing == [], "open each module with what it owns and what it never does, not only a title"


def test_modules_stay_short() -> None:
    long = {name_of(p): n for p in modules() if (n := line_count(p)) > MODULE_LINES_MAX}

    assert long == {}, f"split what is over {MODULE_LINES_MAX} lines"


def test_the_median_module_is_short() -> None:
    sizes = sorted(line_count(p) for p in modules("src"))

    assert sizes[len(sizes) // 2] <= MODULE_LINES_MEDIAN_MAX


def test_functions_stay_short() -> None:
    long = {
        f"{name_of(path)}:{function.name}": lines
        for path in modules()
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    }

    assert long == {}, f"split what is over {FUNCTION_LINES_MAX} lines"


def test_no_module_is_a_drawer() -> None:
    drawers = [name_of(p) for p in modules() if p.name in HOMELESS_NAMES]

    assert drawers == [], "name the concept that these functions share"


@pytest.mark.parametrize("kind", FORBIDDEN_WORDS)
def test_no_file_holds(kind: str) -> None:
    pattern = FORBIDDEN_WORDS[kind]
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:80]}"
        for path in tracked_files()
        if path.suffix in TEXT_SUFFIXES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == [], kind


def test_no_mock_patching() -> None:
    patching = re.compile(r"\bmock\." + r"patch|from unittest " + "import mock")
    found = [name_of(p) for p in modules("tests") if patching.search(p.read_text(encoding="utf-8"))]

    assert found == [], "pass a fake in through the constructor"


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"])
def test_the_documents_are_there(document: str) -> None:
    assert (ROOT / document).is_file()


def test_the_changelog_has_a_place_for_the_next_release() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
