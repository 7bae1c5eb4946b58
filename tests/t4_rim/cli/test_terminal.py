"""On a terminal: tables, colours, a bar; and none of it where it is not wanted."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach

from .conftest import clean_environment

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
Terminal = Callable[..., tuple[int, str]]


@pytest.fixture
def terminal(tmp_path: Path, cluster: isotach.Cluster) -> Terminal:
    """Runs the command line with a terminal of 120 columns on all three streams; (exit code, all that it showed)."""

    def call(*arguments: object, **environment: str) -> tuple[int, str]:
        variables = clean_environment(tmp_path, cluster.address) | environment
        command = [sys.executable, "-m", "isotach.cli", *map(str, arguments)]
        pid, screen = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            os.execve(command[0], command, variables)  # noqa: S606 - there is no shell
        shown = bytearray()
        try:
            while chunk := os.read(screen, 65536):
                shown += chunk
        except OSError:
            pass  # how a terminal ends
        finally:
            os.close(screen)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode(errors="replace")

    return call


def words(shown: str) -> list[str]:
    return ESCAPES.sub("", shown).split()


def test_tables_have_heads(terminal: Terminal, cluster: isotach.Cluster) -> None:
    code, shown = terminal("status")

    assert code == 0
    assert "\x1b[" in shown
    assert {"worker", "heartbeat", "MEM", "64.0MiB", "mounts:", "live"} <= set(words(shown))
    folded = "".join(word for word in words(shown) if word != "│")
    assert cluster.address in folded  # whole, however narrow the terminal: it is there to be copied


@pytest.mark.parametrize("off", [{"NO_COLOR": "1"}, {}])
def test_colours_can_be_turned_off(
    terminal: Terminal, real_fs: isotach.FileSystem, folder: str, off: dict[str, str]
) -> None:
    real_fs.mkdir(f"{folder}/d")
    arguments = ["fs", "ls", "-l", folder] + ([] if off else ["--no-color"])

    assert "\x1b[1;34m" in terminal("fs", "ls", "-l", folder)[1]
    code, shown = terminal(*arguments, **off)

    assert code == 0
    assert "\x1b[" not in shown
    assert f"{folder}/d" in words(shown)


def test_listings_are_aligned(terminal: Terminal, real_fs: isotach.FileSystem, folder: str) -> None:
    for size in (1, 100, 10_000):
        real_fs.write(f"{folder}/{size}", b"x" * size)

    _, shown = terminal("fs", "ls", "-l", folder)
    lines = ESCAPES.sub("", shown).splitlines()

    assert len({line.index(folder) for line in lines}) == 1


def test_names_cannot_steer_the_screen(terminal: Terminal, real_fs: isotach.FileSystem, folder: str) -> None:
    real_fs.write(f"{folder}/a\x1b]0;title\x07b", b"")

    _, shown = terminal("fs", "ls", folder)

    assert "\x1b]0" not in shown
    assert "a\\x1b]0;title\\x07b" in shown


def test_json_stays_json(terminal: Terminal) -> None:
    code, shown = terminal("fs", "mounts", "--json")

    assert code == 0
    assert "\x1b" not in shown
    assert shown.startswith("[\r\n")


def test_a_bar_moves_while_bytes_do(terminal: Terminal, folder: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(20_000_000))

    code, shown = terminal("fs", "cp", f"file:{tmp_path}/big", f"{folder}/big")

    assert code == 0
    assert "━" in shown
    assert "19.1/19.1 MiB" in ESCAPES.sub("", shown)
    assert re.search(r"[MG]B/s", shown)


def test_errors_are_red_and_one_line(terminal: Terminal) -> None:
    code, shown = terminal("fs", "stat", "/nothing")

    assert code == 3
    assert shown == "\x1b[31misotach:\x1b[0m no such file or directory (/nothing): check the path\r\n"


def test_help_keeps_its_examples(terminal: Terminal) -> None:
    code, shown = terminal("fs", "cp", "--help")
    lines = [line.strip() for line in ESCAPES.sub("", shown).splitlines()]

    assert code == 0
    assert "isotach fs cp file:./table.csv /s3/table.csv" in lines
    assert "isotach fs cp -r /s3/results file:/tmp/" in lines
