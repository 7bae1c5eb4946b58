"""The page of promises names tests: each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"


def test_every_promise_names_tests_that_exist() -> None:
    missing = []
    for row in PAGE.read_text(encoding="utf-8").splitlines():
        if not row.startswith("| ") or row.startswith("| what users"):
            continue
        source = ""
        for name in re.findall(r"`([^`]+)`", row.split("|")[-2]):
            if name.endswith(".py"):
                path = ROOT / "tests" / name
                source = path.read_text(encoding="utf-8") if path.exists() else ""
            if name.startswith("test_") and f"def {name}(" not in source:
                missing.append(name)
        assert source, f"no test file in: {row}"
    assert not missing
