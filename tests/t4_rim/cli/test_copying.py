"""cp and mv: between the namespace and local files, and within the namespace."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach

from .conftest import Cli

BIG = os.urandom(9_000_001)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """t/: a/1, a/2, a/b/big (9 MB), empty/"""
    root = tmp_path / "t"
    (root / "a" / "b").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a" / "1").write_bytes(b"one")
    (root / "a" / "2").write_bytes(b"")
    (root / "a" / "b" / "big").write_bytes(BIG)
    return root


def content(root: Path) -> dict[str, bytes | None]:
    return {str(each.relative_to(root)): each.read_bytes() if each.is_file() else None for each in root.rglob("*")}


def test_a_tree_there_and_back(cli: Cli, folder: str, local: Path, tmp_path: Path) -> None:
    there = cli("fs", "cp", "-r", f"file:{local}", f"{folder}/t", "--json")
    assert (there.code, there.json["files"], there.json["bytes"]) == (0, 3, len(BIG) + 3)

    assert cli("fs", "cp", "-r", f"{folder}/t", f"file:{tmp_path}/back").code == 0
    assert content(tmp_path / "back") == content(local)


def test_an_existing_directory_gets_the_source_under_its_name(cli: Cli, folder: str, local: Path) -> None:
    cli("fs", "mkdir", f"{folder}/d")

    assert cli("fs", "cp", "-r", f"file:{local}/a/1", f"file:{local}/a/b", f"{folder}/d").code == 0
    assert cli("fs", "ls", "-R", f"{folder}/d").lines == [f"{folder}/d/{name}" for name in ("1", "b", "b/big")]
    assert cli("fs", "cp", f"file:{local}/a/1", f"{folder}/new/").code == 0
    assert cli("fs", "cat", f"{folder}/new/1").out == "one"


def test_nothing_is_replaced_unasked(cli: Cli, folder: str, local: Path, real_fs: isotach.FileSystem) -> None:
    big, small = f"file:{local}/a/b/big", f"file:{local}/a/1"
    real_fs.write(f"{folder}/f", b"old")

    for source in (big, small):
        result = cli("fs", "cp", source, f"{folder}/f")
        assert result.code == 4
        assert "--overwrite" in result.err
    assert real_fs.read(f"{folder}/f") == b"old"
    assert cli("fs", "cp", "--overwrite", big, f"{folder}/f").code == 0
    assert real_fs.read(f"{folder}/f") == BIG

    assert cli("fs", "cp", f"{folder}/f", small).code == 4
    assert (local / "a" / "1").read_bytes() == b"one"
    assert cli("fs", "cp", "-f", f"{folder}/f", small).code == 0
    assert (local / "a" / "1").read_bytes() == BIG


def test_a_failure_does_not_stop_the_others(cli: Cli, folder: str, local: Path) -> None:
    (local / "a" / "dangling").symlink_to("nowhere")
    (local / "a" / "b" / "circle").symlink_to(local)
    os.mkfifo(local / "pipe")

    result = cli("fs", "cp", "-r", f"file:{local}", f"{folder}/t")

    assert result.code == 1
    assert [line.split(" (")[0] for line in sorted(result.err.splitlines())] == [
        "isotach: neither a file nor a directory",
        "isotach: neither a file nor a directory",
        "isotach: the link leads back to a directory above it",
    ]
    assert cli("fs", "count", f"{folder}/t").rows[0][:3] == ["3", "3", str(len(BIG) + 3)]


def test_within_the_namespace(cli: Cli, folder: str, local: Path) -> None:
    cli("fs", "cp", "-r", f"file:{local}", f"{folder}/t")

    assert cli("fs", "cp", "-r", f"{folder}/t", f"{folder}/u").code == 0
    assert cli("fs", "count", f"{folder}/u").rows[0][:3] == cli("fs", "count", f"{folder}/t").rows[0][:3]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["file:/a", "file:/b"], 2, "both local"),
        (["/a", "file:/b", "/c"], 2, "partly local"),
        (["{folder}/none", "file:{tmp}/x"], 3, "none"),
        (["{folder}", "file:{tmp}/x"], 10, "give -r"),
        (["-r", "{folder}", "{folder}/inner"], 2, "into itself"),
        (["{folder}", "{folder}/x", "{folder}/nowhere"], 10, "directory"),
        (["file:{tmp}/none", "{folder}/x"], 3, "none"),
        (["file:", "/x"], 2, "names no local file"),
        (["a", "/x"], 2, "neither an absolute path"),
    ],
)
def test_what_cannot_be_copied(
    cli: Cli, folder: str, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = cli("fs", "cp", *(each.format(folder=folder, tmp=tmp_path) for each in arguments))

    assert result.code == code
    assert words in result.err


def test_preserving(cli: Cli, folder: str, local: Path, real_fs: isotach.FileSystem) -> None:
    os.chmod(local / "a" / "1", 0o640)
    os.utime(local / "a" / "1", (1_000_000, 1_000_000))

    cli("fs", "cp", "-p", f"file:{local}/a/1", f"{folder}/f")
    info = real_fs.stat(f"{folder}/f")
    assert (info.mode, info.mtime) == (0o640, 1_000_000)

    cli("fs", "cp", "-p", f"{folder}/f", f"file:{local}/g")
    status = (local / "g").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 1_000_000)


def test_mv_renames(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.write(f"{folder}/a", b"a")
    real_fs.write(f"{folder}/b", b"b")
    version = real_fs.stat(f"{folder}/a").version

    assert cli("fs", "mv", f"{folder}/a", f"{folder}/b").code == 4
    assert cli("fs", "mv", "--overwrite", f"{folder}/a", f"{folder}/b").code == 0
    assert real_fs.stat(f"{folder}/b").version == version
    cli("fs", "mkdir", f"{folder}/d")
    assert cli("fs", "mv", f"{folder}/b", f"{folder}/d", "--json").json["target"] == f"{folder}/d/b"


def test_mv_between_mounts_says_what_to_do(cli: Cli, mounted: tuple[str, Path], folder: str) -> None:
    path, store = mounted
    (store / "f").write_text("x")

    result = cli("fs", "mv", f"{path}/f", f"{folder}/f")

    assert result.code == 2
    assert f"isotach fs cp -r {path}/f {folder}/f && isotach fs rm -r {path}/f" in result.err


def test_mv_to_and_from_local_files(cli: Cli, folder: str, local: Path, tmp_path: Path) -> None:
    before = content(local)

    assert cli("fs", "mv", f"file:{local}", f"{folder}/t").code == 0
    assert not local.exists()
    assert cli("fs", "mv", f"{folder}/t", f"file:{tmp_path}/back").code == 0
    assert content(tmp_path / "back") == before
    assert cli("fs", "ls", folder).out == ""


def test_mv_keeps_what_did_not_arrive(cli: Cli, folder: str, local: Path) -> None:
    (local / "dangling").symlink_to("nowhere")

    assert cli("fs", "mv", f"file:{local}", f"{folder}/t").code == 2
    assert (local / "a" / "b" / "big").read_bytes() == BIG


def test_interrupting_leaves_no_half_file(
    cluster: isotach.Cluster,
    folder: str,
    real_fs: isotach.FileSystem,
    tmp_path: Path,
    process: Callable[..., subprocess.Popen[bytes]],
    eventually: Callable[..., object],
) -> None:
    # The source is larger than can be copied before the signal, and takes no space.
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(50 << 30)
    call = process(
        "fs", "cp", f"file:{tmp_path}/huge", f"{folder}/huge", "--write-type", "THROUGH", address=cluster.address
    )
    try:
        position = Path(f"/proc/{call.pid}/io")
        eventually(lambda: b"rchar: 0" not in position.read_bytes() and _read_bytes(position) > 64 << 20, timeout=30)
        call.send_signal(signal.SIGINT)
        _, err = call.communicate(timeout=30)
    finally:
        call.kill()

    assert call.returncode == 130
    assert b"Traceback" not in err
    assert not real_fs.exists(f"{folder}/huge")


def _read_bytes(path: Path) -> int:
    return int(path.read_text().split("rchar: ")[1].split()[0])


def test_a_local_copy_is_never_seen_half(cli: Cli, folder: str, local: Path, tmp_path: Path) -> None:
    cli("fs", "cp", f"file:{local}/a/b/big", f"{folder}/big")
    sizes: set[int] = set()
    done = threading.Event()
    target = tmp_path / "copy"

    def watch() -> None:
        while not done.is_set():
            if target.exists():
                sizes.add(target.stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        cli("fs", "cp", f"{folder}/big", f"file:{target}")
    finally:
        done.set()
        watcher.join()

    assert sizes <= {len(BIG)}
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".isotach")] == []
