"""Commands that look: forms in a pipe and as JSON, several paths, streams."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach

from .conftest import Cli


@pytest.fixture
def tree(real_fs: isotach.FileSystem, folder: str) -> str:
    """a/1.txt (10 bytes), a/b/2.csv (3,000,000 bytes), empty/, x (0 bytes)"""
    real_fs.write(f"{folder}/a/1.txt", b"0123456789")
    real_fs.write(f"{folder}/a/b/2.csv", b"line\n" * 600_000)
    real_fs.mkdir(f"{folder}/empty")
    real_fs.write(f"{folder}/x", b"")
    return folder


def test_ls(cli: Cli, tree: str) -> None:
    assert cli("fs", "ls", tree).lines == [f"{tree}/a", f"{tree}/empty", f"{tree}/x"]
    assert cli("fs", "ls", "-R", tree).lines == [
        f"{tree}/{name}" for name in ("a", "a/1.txt", "a/b", "a/b/2.csv", "empty", "x")
    ]
    assert cli("fs", "ls", "-d", tree).lines == [tree]
    assert cli("fs", "ls", f"{tree}/x").lines == [f"{tree}/x"]


def test_ls_long_has_stable_columns(cli: Cli, tree: str, real_fs: isotach.FileSystem) -> None:
    owner, group = real_fs.stat(tree).owner, real_fs.stat(tree).group

    rows = cli("fs", "ls", "-l", f"{tree}/a").rows

    assert [row[:6] for row in rows] == [
        ["-rw-r--r--", owner, group, "10", "PERSISTED", "100%"],
        ["drwxr-xr-x", owner, group, "0", "PERSISTED", "DIR"],
    ]
    assert [row[7] for row in rows] == [f"{tree}/a/1.txt", f"{tree}/a/b"]
    assert cli("fs", "ls", "-l", "-h", f"{tree}/a/b").rows[0][3] == "2.86MiB"


def test_json_anywhere(cli: Cli, tree: str) -> None:
    for arguments in (("--json", "fs", "ls", tree), ("fs", "--json", "ls", tree), ("fs", "ls", tree, "--json")):
        entries = cli(*arguments).json_lines
        assert [(each["path"], each["is_dir"]) for each in entries] == [
            (f"{tree}/a", True),
            (f"{tree}/empty", True),
            (f"{tree}/x", False),
        ]


def test_stat(cli: Cli, tree: str) -> None:
    facts = dict(cli("fs", "stat", f"{tree}/a/1.txt").rows)
    told = cli("fs", "stat", f"{tree}/a/1.txt", "--json").json

    assert (facts["length"], facts["is_dir"], facts["mode"], facts["ttl"]) == ("10", "no", "0644", "none")
    assert (told["length"], told["mode"], told["persisted"], told["cached_percent"]) == (10, 0o644, True, 100)
    assert set(facts) == set(told)


def test_one_missing_path_does_not_hide_the_others(cli: Cli, tree: str) -> None:
    result = cli("fs", "stat", f"{tree}/x", f"{tree}/nothing", f"{tree}/a", "--json")

    assert [each["path"] for each in result.json_lines] == [f"{tree}/x", f"{tree}/a"]
    assert result.code == 3
    assert (result.error["code"], result.error["path"]) == ("not_found", f"{tree}/nothing")


def test_sums(cli: Cli, tree: str) -> None:
    assert cli("fs", "du", tree).rows == [
        ["3000000", "3000000", "3000000", f"{tree}/a/b"],
        ["3000010", "3000010", "3000010", f"{tree}/a"],
        ["0", "0", "0", f"{tree}/empty"],
        ["3000010", "3000010", "3000010", tree],
    ]
    assert cli("fs", "du", "-s", "-h", tree).rows == [["2.86MiB", "2.86MiB", "2.86MiB", tree]]
    assert cli("fs", "count", tree).rows == [["3", "3", "3000010", tree]]
    assert cli("fs", "count", tree, "--json").json == {
        "path": tree,
        "files": 3,
        "directories": 3,
        "length_bytes": 3000010,
    }


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["--name", "*.csv"], ["a/b/2.csv"]),
        (["--type", "d"], ["", "a", "a/b", "empty"]),
        (["--size", "+1KiB"], ["a/b/2.csv"]),
        (["--type", "f", "--size", "-1KiB"], ["a/1.txt", "x"]),
        (["--max-depth", "1", "--type", "f"], ["x"]),
        (["--newer", "1h", "--name", "?.txt"], ["a/1.txt"]),
        (["--newer", "0s"], []),
        (["--not-cached"], []),
        (["--cached", "--size", "+0"], ["a/1.txt", "a/b/2.csv"]),
    ],
)
def test_find(cli: Cli, tree: str, conditions: list[str], found: list[str]) -> None:
    expected = [f"{tree}/{name}".rstrip("/") for name in found]

    assert cli("fs", "find", tree, *conditions).lines == expected


def test_tree(cli: Cli, tree: str) -> None:
    assert cli("fs", "tree", "-s", tree).lines == [
        tree,
        "├── a",
        "│   ├── 1.txt  10, 100% cached",
        "│   └── b",
        "│       └── 2.csv  3000000, 100% cached",
        "├── empty",
        "└── x  0, 100% cached",
        "",
        "3 directories, 3 files",
    ]
    assert cli("fs", "tree", "-L", "1", "-d", tree).lines == [tree, "├── a", "└── empty", "", "2 directories, 0 files"]
    assert [each["depth"] for each in cli("fs", "tree", tree, "--json").json_lines] == [0, 1, 2, 2, 3, 1, 1]


def test_the_bytes_of_files(cli: Cli, tree: str) -> None:
    csv, text = f"{tree}/a/b/2.csv", f"{tree}/a/1.txt"

    assert cli("fs", "cat", text, text).out == "01234567890123456789"
    assert cli("fs", "head", "-c", "3", text).out == "012"
    assert cli("fs", "tail", "-c", "3", text).out == "789"
    assert cli("fs", "head", "-n", "2", csv).out == "line\nline\n"
    assert cli("fs", "tail", "-n", "30000", csv).out == "line\n" * 30000
    assert cli("fs", "tail", "-n", "5", text).out == "0123456789"
    assert cli("fs", "tail", "-n", "0", text).out == ""
    assert len(cli("fs", "head", csv).out) == len(cli("fs", "tail", csv).out) == 1024
    assert cli("fs", "cat", tree).code == 10
    assert cli("fs", "head", "-c", "1", "-n", "1", text).code == 2


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums(cli: Cli, tree: str, algorithm: str) -> None:
    expected = hashlib.new(algorithm, b"line\n" * 600_000).hexdigest()

    assert cli("fs", "checksum", "-a", algorithm, f"{tree}/a/b/2.csv").out == f"{expected}  {tree}/a/b/2.csv\n"


def test_crc32c(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.write(f"{folder}/check", b"123456789")

    assert cli("fs", "checksum", f"{folder}/check", "-a", "crc32c", "--json").json["checksum"] == "e3069283"


def test_location(cli: Cli, tree: str, real_fs: isotach.FileSystem) -> None:
    worker = real_fs.workers()[0]

    assert cli("fs", "location", f"{tree}/a/1.txt").rows == [["0", "10", worker.host, worker.worker_id]]
    blocks = cli("fs", "location", f"{tree}/a/1.txt", "--json").json["blocks"]
    assert blocks == [{"offset": 0, "length": 10, "workers": [worker.worker_id], "hosts": [worker.host]}]


@pytest.mark.parametrize(
    ("flag", "name", "code"),
    [
        ("-e", "x", 0), ("-e", "y", 1), ("-d", "a", 0), ("-d", "x", 1), ("-f", "x", 0), ("-f", "a", 1),
        ("-s", "a/1.txt", 0), ("-s", "x", 1), ("-z", "x", 0), ("-z", "a/1.txt", 1), ("-e", "x/below", 1),
    ],
)  # fmt: skip
def test_conditions(cli: Cli, tree: str, flag: str, name: str, code: int) -> None:
    result = cli("fs", "test", flag, f"{tree}/{name}")

    assert (result.code, result.out, result.err) == (code, "", "")


def test_odd_names_survive_a_pipe(
    cli: Cli,
    cluster: isotach.Cluster,
    mounted: tuple[str, Path],
    process: Callable[..., subprocess.Popen[bytes]],
) -> None:
    path, store = mounted
    (store / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")

    out, _ = process("fs", "ls", path, address=cluster.address).communicate(timeout=30)

    assert out == path.encode() + b"/\xff\xfe\n"
    assert cli("fs", "ls", path, "--json").json["name"] == "\udcff\udcfe"


def test_a_reader_that_goes_away_is_no_error(
    cluster: isotach.Cluster, tree: str, process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    call = process("fs", "cat", f"{tree}/a/b/2.csv", address=cluster.address)
    assert call.stdout is not None
    call.stdout.read(10)
    call.stdout.close()

    assert call.wait(30) == 141
    assert call.stderr is not None
    assert call.stderr.read() == b""
    call.stderr.close()


def test_all_copies_are_compared(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.write(f"{folder}/compared", b"123456789", write_type="CACHE_THROUGH")

    told = cli("fs", "checksum", "--compare", f"{folder}/compared", "--json").json
    assert told["equal"] is True
    assert {copy["where"] == "under storage" for copy in told["copies"]} == {True, False}
    assert {copy["crc32c"] for copy in told["copies"]} == {"e3069283"}
    assert "e3069283  under storage" in cli("fs", "checksum", "--compare", f"{folder}/compared").out


def test_a_copy_that_cannot_be_read_is_not_called_equal(
    cli: Cli, folder: str, real_fs: isotach.FileSystem, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "file").write_bytes(b"123456789")
    real_fs.mkdir(folder, exist_ok=True)
    real_fs.mount(f"{folder}/away", str(store))
    assert real_fs.read(f"{folder}/away/file") == b"123456789"
    store.rename(tmp_path / "unplugged")
    told = cli("fs", "checksum", "--compare", f"{folder}/away/file")
    assert (told.code, "nothing is known of under storage" in told.err) == (1, True)
    assert "e3069283" in told.out
    (tmp_path / "unplugged").rename(store)
    assert cli("fs", "checksum", "--compare", f"{folder}/away/file").code == 0
    real_fs.unmount(f"{folder}/away")
