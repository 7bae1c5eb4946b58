"""Commands that change the namespace, the mounts and the cache."""

from pathlib import Path

import pytest

import isotach

from .conftest import Cli


def test_making_and_removing(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    assert cli("fs", "mkdir", f"{folder}/a/b").code == 3
    assert cli("fs", "mkdir", "-p", "-m", "750", f"{folder}/a/b").code == 0
    assert real_fs.stat(f"{folder}/a/b").mode == 0o750
    assert cli("fs", "mkdir", f"{folder}/a").code == 4
    assert cli("fs", "touch", f"{folder}/a/t").code == 0
    assert real_fs.stat(f"{folder}/a/t").length == 0
    assert cli("fs", "rm", f"{folder}/a").code == 10
    assert cli("fs", "rm", f"{folder}/none").code == 3
    assert cli("fs", "rm", "-f", f"{folder}/none").code == 0
    assert cli("fs", "rm", f"{folder}/a/t", "--json").json == {"done": "rm", "path": f"{folder}/a/t"}
    assert cli("fs", "rm", "-r", f"{folder}/a").code == 0
    assert not list(real_fs.list(folder))


def test_silence_is_consent(cli: Cli, folder: str) -> None:
    result = cli("fs", "mkdir", f"{folder}/quiet")

    assert (result.code, result.out, result.err) == (0, "", "")


def test_modes_and_owners(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.write(f"{folder}/d/f", b"x")

    cli("fs", "chmod", "640", f"{folder}/d/f")
    assert real_fs.stat(f"{folder}/d/f").mode == 0o640
    cli("fs", "chmod", "-R", "g+w,o=X", f"{folder}/d")
    assert real_fs.stat(f"{folder}/d/f").mode == 0o660
    assert real_fs.stat(f"{folder}/d").mode == 0o771
    assert cli("fs", "chmod", "9", f"{folder}/d/f").code == 2
    assert cli("fs", "chown", ":", f"{folder}/d/f").code == 2
    assert cli("fs", "chown", "-R", "alice:staff", f"{folder}/d").code == 0
    info = real_fs.stat(f"{folder}/d/f")
    assert (info.owner, info.group) == ("alice", "staff")
    cli("fs", "chown", ":wheel", f"{folder}/d/f")
    assert real_fs.stat(f"{folder}/d/f").group == "wheel"


def test_time_to_live(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    path = f"{folder}/f"
    real_fs.write(path, b"x")

    assert cli("fs", "ttl", path).out == "off\n"
    assert cli("fs", "ttl", path, "2h", "--action", "FREE").code == 0
    assert real_fs.stat(path).ttl == 7200
    assert cli("fs", "ttl", path).out == "2h\tFREE\n"
    shown = cli("fs", "ttl", path, "--json").json
    assert (shown["path"], shown["ttl"], shown["ttl_action"], shown["inherited_ttl"]) == (path, 7200.0, "FREE", None)
    assert cli("fs", "ttl", path, "off").code == 0
    assert real_fs.stat(path).ttl is None
    assert cli("fs", "ttl", path, "soon").code == 2


def test_mounts(cli: Cli, folder: str, tmp_path: Path) -> None:
    store, path = tmp_path / "store", f"{folder}/m"
    store.mkdir()
    (store / "f").write_text("below")

    assert cli("fs", "mount", path, store, "--readonly", "--sync-interval", "30s").code == 0
    assert [path, str(store), "read-only", "30s"] in cli("fs", "mounts").rows
    assert cli("fs", "mount").out == cli("fs", "mounts").out
    told = next(each for each in cli("fs", "mounts", "--json").json if each["path"] == path)
    assert (told["read_only"], told["metadata_sync_interval_s"]) == (True, 30.0)
    assert cli("fs", "cat", f"{path}/f").out == "below"
    assert cli("fs", "touch", f"{path}/g").code == 5
    assert cli("fs", "mount", path, store).code == 4
    assert cli("fs", "unmount", path).code == 0
    assert cli("fs", "unmount", path).code != 0


def test_what_cannot_be_mounted(cli: Cli, folder: str) -> None:
    assert cli("fs", "mount", f"{folder}/m").code == 2
    assert cli("fs", "mount", f"{folder}/m", "nfs4://x").code == 2
    result = cli("fs", "mount", f"{folder}/m", "s3://bucket", "--option", "secretvalue")
    assert result.code == 2
    assert "secretvalue" not in result.err


def test_the_cache(cli: Cli, folder: str, real_fs: isotach.FileSystem, eventually) -> None:
    for name in "ab":
        real_fs.write(f"{folder}/d/{name}", name.encode() * 1000)

    freed = cli("fs", "free", "-R", f"{folder}/d", "--json").json
    left = {"unpersisted": 0, "pinned": 0}
    assert freed == {"done": "free", "path": f"{folder}/d", "files": 2, "left": left}
    eventually(lambda: real_fs.stat(f"{folder}/d/a").cached_percent == 0)
    assert cli("fs", "load", f"{folder}/d", "--json").json["files"] == 2
    eventually(lambda: real_fs.stat(f"{folder}/d/a").cached_percent == 100)
    assert cli("fs", "pin", f"{folder}/d").code == 0
    assert real_fs.stat(f"{folder}/d/a").pinned
    assert cli("fs", "unpin", f"{folder}/d").code == 0
    assert not real_fs.stat(f"{folder}/d/a").pinned


def test_persist(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    path = f"{folder}/only-cached"
    real_fs.write(path, b"x" * 100, write_type="MUST_CACHE")
    assert not real_fs.stat(path).persisted

    assert cli("fs", "persist", path, "--json").json["files"] == 1
    assert real_fs.stat(path).persisted


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fs", "ls", "relative"], 2, "is not absolute: start it with '/'"),
        (["fs", "ls", "/a/../b"], 2, "'..'"),
        (["fs", "ls", "/" + "n" * 300], 2, "over the limit of 255"),
        (["fs", "ls"], 2, "missing argument 'PATH...': see `isotach fs ls --help`"),
        (["fs", "lss", "/"], 2, "no such command 'lss'"),
        (["fs", "ls", "/", "--nonsense"], 2, "--nonsense"),
        (["--set", "client.deadlin=1s", "fs", "ls", "/"], 2, "client.deadline"),
        (["--set", "client.deadline", "fs", "ls", "/"], 2, "is not KEY=VALUE"),
        (["--address", "nonsense", "fs", "ls", "/"], 2, "nonsense"),
        (["fs", "ls", "/nothing"], 3, "(/nothing)"),
    ],
)
def test_wrong_calls(cli: Cli, arguments: list[str], code: int, words: str) -> None:
    result = cli(*arguments)

    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("isotach: ")
    assert result.err.count("\n") == 1
    assert words in result.err
    assert cli(*arguments, "--json").error["exit_code"] == code


def test_nobody_answers(local_cli: Cli, tmp_path: Path) -> None:
    result = local_cli("fs", "ls", "/")
    assert result.code == 6
    assert "isotach start" in result.err

    away = f"isotach+unix://{tmp_path}/none.sock"
    result = local_cli("--address", away, "--set", "client.retry_total=0s", "fs", "ls", "/", "--json")
    assert result.error["code"] == "unavailable"
