"""docs/cli.md says what the commands say of themselves."""

import re
from pathlib import Path

import pytest

from isotach.cli.reference import commands, markdown

COMMANDS = dict(commands())


def test_the_reference_is_current(repository: Path) -> None:
    page = (repository / "docs" / "cli.md").read_text(encoding="utf-8")

    assert page == markdown(), "run: python -m isotach.cli.reference > docs/cli.md"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.count(" ") == 2 or "fs" not in name])
def test_every_command_is_explained(command: str) -> None:
    text = COMMANDS[command]

    assert "Usage: isotach" in text
    assert re.search(r"\n  \S.*\.", text), "a sentence says what it does"
    for option in re.findall(r"^  (-[^ ].*?)(?:  |$)", text, flags=re.MULTILINE):
        assert f"  {option}\n\n" not in text, f"{option} has no help"


def test_the_contract_is_there() -> None:
    top = {name.split()[1] for name in COMMANDS if name != "isotach"}
    files = {name.split()[2] for name in COMMANDS if name.startswith("isotach fs ")}

    assert top >= {"start", "stop", "status", "master", "worker", "config", "bench", "version", "fs"}
    assert files >= {
        "ls", "cat", "head", "tail", "stat", "du", "find", "tree", "count", "checksum", "mkdir", "touch", "cp", "mv",
        "rm", "chmod", "chown", "mount", "unmount", "mounts", "free", "load", "persist", "pin", "unpin", "ttl",
        "location", "test",
    }  # fmt: skip
