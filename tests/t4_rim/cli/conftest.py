"""The command line under test: in this process where only its words matter, as a process where signals and pipes do.

Owns: an environment in which no setting of the developer's shows. Never: starts a cluster (the layer's conftest does).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import isotach
from isotach.cli.main import run


class Result:
    """What a call of the command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.lines]

    @property
    def json(self) -> Any:
        """The one document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]

    @property
    def error(self) -> dict[str, Any]:
        """The one error, as JSON."""
        return json.loads(self.err)["error"]


Cli = Callable[..., Result]


def clean_environment(home: Path, address: str | None) -> dict[str, str]:
    """No ISOTACH_ variables, a home without a configuration file, plain terminal settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISOTACH_") or "TEST" in name}
    kept |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "TERM": "xterm-256color", "TZ": "UTC"}
    kept.pop("NO_COLOR", None)
    return kept if address is None else {**kept, "ISOTACH_ADDRESS": address}


@pytest.fixture
def local_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Calls the command line in this process, with no cluster to be found."""
    for name in [name for name in os.environ if name.startswith("ISOTACH_")]:
        monkeypatch.delenv(name)
    for name, value in clean_environment(tmp_path, None).items():
        monkeypatch.setenv(name, value)
    # `--config` sets it for the processes that are started: undone with the rest.
    monkeypatch.setenv("ISOTACH_CONFIG", "")

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def cli(local_cli: Cli, cluster: isotach.Cluster, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Calls the command line in this process, with the address of the layer's cluster in the environment."""
    monkeypatch.setenv("ISOTACH_ADDRESS", cluster.address)
    return local_cli


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command line as a process; `address` goes into its environment."""

    def start(*arguments: str, address: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "isotach.cli", *map(str, arguments)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, env=clean_environment(tmp_path, address), **streams)

    return start
