"""Rules of paths and jobs from the command line, against a real cluster."""

import isotach

from .conftest import Cli


def test_rules_are_set_shown_and_inherited(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.mkdir(f"{folder}/d")
    assert cli("fs", "setReplication", "--min", "1", "--max", "3", f"{folder}/d").code == 0
    assert cli("fs", "policy", "--placement", "hash", "--read-placement", "HASH", f"{folder}/d").code == 0
    assert cli("fs", "pin", "--tier", "MEM", f"{folder}/d").code == 0
    real_fs.write(f"{folder}/d/f", b"data")
    shown = cli("fs", "policy", f"{folder}/d/f", "--json").json
    wanted = {"replication_min": 1, "replication_max": 3, "tier": "MEM", "placement": "HASH", "pinned": True}
    assert {name: shown[name] for name in wanted} == wanted
    assert "replication_min\t1" in cli("fs", "policy", f"{folder}/d/f").out
    assert "policy\treplication_min=1" in cli("fs", "stat", f"{folder}/d/f").out
    elsewhere = cli("fs", "pin", "--tier", "SDD", f"{folder}/d/f")
    assert (elsewhere.code, "no worker has a tier SDD" in elsewhere.err) == (0, True)
    assert cli("fs", "pin", "--tier", "MEM", f"{folder}/d/f").err == ""
    assert cli("fs", "setReplication", f"{folder}/d").code == 2
    assert cli("fs", "setReplication", "--min", "3", "--max", "2", f"{folder}/d").code == 2
    assert cli("fs", "policy", "--placement", "NEAREST", f"{folder}/d").code == 2
    free = cli("fs", "free", f"{folder}/d/f", "--json").json
    assert (free["files"], free["left"]["pinned"]) == (0, 1)
    assert cli("fs", "free", "-f", f"{folder}/d/f", "--json").json["files"] == 1
    assert not real_fs.stat(f"{folder}/d/f").pinned


def test_times_to_live_are_inherited(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    real_fs.write(f"{folder}/d/old", b"data")
    assert cli("fs", "ttl", "--inherit", "-R", f"{folder}/d", "7d", "--action", "FREE").code == 0
    real_fs.write(f"{folder}/d/new", b"data")
    assert cli("fs", "ttl", f"{folder}/d").out == "off\n"
    assert cli("fs", "ttl", "--inherit", f"{folder}/d", "--json").json["ttl"] == 604_800
    for name in ("old", "new"):
        info = real_fs.stat(f"{folder}/d/{name}")
        assert (info.ttl, info.ttl_action) == (604_800, "FREE")
    assert cli("fs", "ttl", "/", "1d").code == 2


def test_memory_only_data_is_neither_written_through_nor_persisted(
    cli: Cli, folder: str, real_fs: isotach.FileSystem
) -> None:
    real_fs.mkdir(f"{folder}/m")
    assert cli("fs", "policy", "--memory-only", f"{folder}/m").code == 0
    real_fs.write(f"{folder}/m/f", b"secret")
    assert real_fs.stat(f"{folder}/m/f").policy.memory_only
    assert not real_fs.stat(f"{folder}/m/f").persisted
    assert cli("fs", "persist", f"{folder}/m/f").code == 2
    assert cli("fs", "persist", f"{folder}/m", "--json").json["files_skipped"] == 1
    real_fs.write(f"{folder}/plain", b"data")
    assert cli("fs", "policy", "--memory-only", f"{folder}/plain").code == 2
    assert cli("fs", "mv", f"{folder}/plain", f"{folder}/m/plain").code == 2


def test_a_load_is_a_job_with_an_honest_end(cli: Cli, folder: str, real_fs: isotach.FileSystem) -> None:
    for number in range(3):
        real_fs.write(f"{folder}/d/{number}", b"data", write_type="THROUGH")
    real_fs.write(f"{folder}/d/cached", b"data")
    done = cli("fs", "load", "--verify", f"{folder}/d", "--json").json
    assert (done["state"], done["files"], done["bytes_done"], done["options"]) == ("DONE", 4, 16, "verify")
    shown = cli("job", "status", str(done["id"]), "--json").json
    assert (shown["state"], shown["kind"], shown["path"]) == ("DONE", "LOAD", f"{folder}/d")
    assert cli("job", "wait", str(done["id"])).code == 0
    assert str(done["id"]) in cli("job", "list").out
    started = cli("fs", "load", "--no-wait", "--metadata-only", "--bandwidth", "1MiB/s", folder)
    assert started.out.startswith("job ")
    job_id = started.out.split()[1]
    assert cli("job", "wait", job_id).code == 0
    assert cli("job", "cancel", job_id, "--json").json["state"] == "DONE"
    assert cli("job", "status", "1").code == 3
    assert cli("fs", "load", f"{folder}/nothing").code == 3
