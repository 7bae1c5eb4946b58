"""start, stop, status, master, worker, config: the commands that have to do with processes and settings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import isotach

from .conftest import Cli, Result, clean_environment

Process = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def sizes(tmp_path: Path) -> list[str]:
    """Options that keep a cluster of one test small and inside its folder."""
    return ["--dir", str(tmp_path / "c"), "--mem", "16MiB", "--set", f"worker.mem_dir={tmp_path / 'mem'}"]


def finish(call: "subprocess.Popen[bytes]") -> Result:
    out, err = call.communicate(timeout=60)
    return Result(call.returncode, out.decode(), err.decode())


def read_line(call: "subprocess.Popen[bytes]") -> str:
    assert call.stdout is not None
    return call.stdout.readline().decode().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_until_a_signal(process: Process, sizes: list[str], tmp_path: Path, number: int) -> None:
    call = process("start", *sizes)
    try:
        address = read_line(call)
        assert address == (tmp_path / "c" / "address").read_text().strip()
        with isotach.connect(address) as fs:
            fs.write("/x", b"there")
            assert fs.read("/x") == b"there"
    finally:
        call.send_signal(number)
    result = finish(call)

    assert (result.code, result.out, result.err) == (0, "", "")
    assert not (tmp_path / "c" / "address").exists()


def test_detached_until_stop(process: Process, sizes: list[str], tmp_path: Path) -> None:
    started = finish(process("start", "--detach", "--json", *sizes))
    assert started.code == 0
    facts = started.json
    try:
        assert facts["address"] == (tmp_path / "c" / "address").read_text().strip()
        assert facts["mem_bytes"] == 16 << 20
        again = finish(process("start", "--detach", *sizes))
        assert again.code == 10
        assert "already runs" in again.err
    finally:
        stopped = finish(process("stop", "--dir", str(tmp_path / "c")))
    assert (stopped.code, stopped.out) == (0, "")
    assert not psutil.pid_exists(facts["pid"]) or psutil.Process(facts["pid"]).status() == psutil.STATUS_ZOMBIE

    assert finish(process("stop", "--dir", str(tmp_path / "c"))).code == 6


def test_a_cluster_that_cannot_start_says_why(process: Process, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = finish(process("start", "--detach", "--dir", str(tmp_path / "c"), "--mem", "lots"))
    assert result.code == 2
    assert "worker.mem_size" in result.err

    result = finish(
        process("start", "--detach", "--dir", str(tmp_path / "c"), "--set", f"master.dir={tmp_path}/file/x")
    )
    assert result.code != 0
    assert result.err.startswith("isotach: ")
    assert "Traceback" not in result.err


def test_stop_leaves_other_programs_alone(local_cli: Cli, tmp_path: Path) -> None:
    with isotach.start(dir=tmp_path / "c", mem="16MiB", worker__mem_dir=tmp_path / "mem") as cluster:
        result = local_cli("stop", "--dir", tmp_path / "c")

        assert result.code == 1
        assert f"belongs to process {os.getpid()}" in result.err
        assert cluster.failure is None


def test_one_role_each(process: Process, tmp_path: Path, eventually: Callable[..., object]) -> None:
    home = tmp_path / "m"
    common = ["--dir", str(home), "--set", "master.port=0", "--set", "master.web_port=0"]
    common += ["--set", "worker.port=0", "--set", "worker.web_port=0", "--set", f"worker.mem_dir={tmp_path / 'mem'}"]
    socket = home / "master.sock"
    master = process("master", *common, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = None
    try:
        eventually(socket.exists, timeout=30)
        address = f"isotach+unix://{socket}"
        worker = process(
            "worker",
            *common,
            "--mem",
            "8MiB",
            "--address",
            address,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with isotach.connect(address) as fs:
            eventually(lambda: [each for each in fs.workers() if each.live], timeout=30)
            fs.write("/x", b"x")
            assert fs.workers()[0].tiers[0].capacity_bytes == 8 << 20
    finally:
        for call in (worker, master):
            if call is not None:
                call.terminate()
                assert call.wait(30) == 0


def test_status(cli: Cli, cluster: isotach.Cluster) -> None:
    rows = cli("status").rows
    told = cli("status", "--json").json

    facts = {row[1]: row[2] for row in rows if row[0] == "master"}
    assert facts["pid"] == str(cluster.master_pid) == str(told["pid"])
    assert facts["address"] == cluster.address
    assert [row[2] for row in rows if row[0] == "worker"] == ["live"]
    assert [row[2] for row in rows if row[0] == "tier"] == ["MEM"]
    assert next(row[1] for row in rows if row[0] == "mount") == "/"
    assert told["mount_table"][0]["path"] == "/"
    assert told["workers"][0]["tiers"][0]["alias"] == "MEM"


def test_configuration(local_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.toml").write_text('[client]\ndeadline = "7s"\n')
    monkeypatch.setenv("ISOTACH_MASTER_PORT", "1234")
    options = ("--config", tmp_path / "my.toml", "-o", "worker.mem_size=1GiB")

    changed = {row[0]: row[1:3] for row in local_cli("config", "list", "--changed", *options).rows}
    assert changed == {
        "master.port": ["1234", "environment variable ISOTACH_MASTER_PORT"],
        "worker.mem_size": ["1GiB", "argument"],
        "client.deadline": ["7s", f"file {tmp_path / 'my.toml'}"],
    }
    every = local_cli("config", "list", "--json", *options).json
    assert {"key", "value_text", "origin", "unit", "default", "doc"} == set(every[0])
    assert len(every) > 40
    assert local_cli("config", "get", "client.deadline", *options).out == "7s\n"
    assert local_cli("config", "get", "client.deadline", "--json").json["default"] == "30s"
    wrong = local_cli("config", "get", "client.deadlin")
    assert (wrong.code, "did you mean client.deadline?" in wrong.err) == (2, True)


def test_versions(local_cli: Cli) -> None:
    assert local_cli("--version").out == f"isotach {isotach.__version__}\n"
    assert local_cli("version").out.startswith(f"isotach {isotach.__version__} (Python ")
    assert local_cli("version", "--json").json["isotach"] == isotach.__version__


def test_help_comes_at_once(process: Process) -> None:
    # Three tries: the machine may be busy with something else. Alone it takes 0.13 s.
    durations = []
    for _ in range(3):
        before = time.monotonic()
        assert finish(process("fs", "ls", "--help")).code == 0
        durations.append(time.monotonic() - before)

    assert min(durations) < 0.5


def test_help_loads_no_client(process: Process, tmp_path: Path) -> None:
    program = (
        "import sys; from isotach.cli.main import run; run(['fs', '--help']); "
        "heavy = {'isotach.client', 'isotach.run', 'isotach.bench', 'rich', 'asyncio', 'obstore', 'lmdb', 'uvloop'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = clean_environment(tmp_path, None)
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    ).stdout

    assert out.splitlines()[-1] == "[]"


def test_debug_shows_the_traceback(local_cli: Cli) -> None:
    assert "Traceback" not in local_cli("fs", "ls", "x").err
    assert "Traceback" in local_cli("fs", "ls", "x", "--debug").err


def test_bench_refuses_what_it_does_not_know(local_cli: Cli) -> None:
    result = local_cli("bench", "nonsense")

    assert result.code == 2
    assert "sequential" in result.err
    assert json.loads(local_cli("bench", "nonsense", "--json").err)["error"]["code"] == "invalid_argument"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("isotach fs lo", ["load", "location"]),
        ("isotach --add", ["--address"]),
        ("isotach fs ls {folder}/a", ["{folder}/ab/", "{folder}/ac"]),
        ("isotach fs ls relative", []),
    ],
)
def test_completion(
    process: Process,
    cluster: isotach.Cluster,
    real_fs: isotach.FileSystem,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    offered: list[str],
) -> None:
    real_fs.mkdir(f"{folder}/ab")
    real_fs.write(f"{folder}/ac", b"")
    real_fs.write(f"{folder}/b", b"")
    words = typed.format(folder=folder)
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_ISOTACH_COMPLETE", "complete_bash")

    result = finish(process(address=cluster.address))

    assert [line for line in result.lines if line] == [each.format(folder=folder) for each in offered]
    assert result.err == ""
