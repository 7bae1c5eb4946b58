"""The queue of persistence under stress: in the end the under storage is equal to the namespace.

Owns: random changes of files that wait or are being written, while the store fails and processes die, and the
comparison afterwards: same paths, same bytes, no ghosts, nothing left over. Never: checks speed.

A run is named by its seed: ISOTACH_TEST_SEED=n replays one; ISOTACH_TEST_ROUNDS=n does n of them.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

import isotach
from isotach.testing.faulty_http import Fault, FaultKind, FaultyHttp
from isotach.testing.seaweed import SeaweedServer

FOLDERS = ("d", "e", "g")
FILES = ("1", "2", "3", "4")
WRITES = ("async", "async", "async", "over", "through", "must", "ttl", "recreate")
CHANGES = ("rename", "rename", "rename-folder", "remove", "rmtree", "rmdir", "mkdir", "free", "persist")
SIZES = (0, 10, 4_000, 300_000, 3_000_000)
LARGE = 9 << 20  # several parts
STEPS = 70
SETTLED_S = 40.0
SEEDS = [int(os.environ["ISOTACH_TEST_SEED"])] if "ISOTACH_TEST_SEED" in os.environ else [11]
SEEDS = [seed + index for seed in SEEDS for index in range(int(os.environ.get("ISOTACH_TEST_ROUNDS", "1")))]


class User:
    """Changes what is below `top` at random. It prefers the paths it used lately: they are the ones under way."""

    def __init__(self, fs: isotach.FileSystem, top: str, rng: random.Random, log: list[str]) -> None:
        self.fs = fs
        self.top = top
        self.rng = rng
        self.log = log
        self.recent: list[str] = []

    def folder(self) -> str:
        depth = self.rng.choice((1, 1, 2))
        return "/".join([self.top, *(self.rng.choice(FOLDERS) for _ in range(depth))])

    def file(self) -> str:
        if self.recent and self.rng.random() < 0.6:
            return self.rng.choice(self.recent[-3:])
        path = f"{self.folder() if self.rng.random() < 0.9 else self.top}/{self.rng.choice(FILES)}"
        self.recent.append(path)
        return path

    def attempt(self, text: str, action: Callable[[], object]) -> None:
        """Whether it worked is read back from the namespace at the end: here only that it fails by our own errors."""
        try:
            action()
        except (isotach.IsotachError, OSError) as error:
            text = f"{text}: {type(error).__name__}: {error}"
        self.log.append(text)

    def step(self) -> None:
        kind = self.rng.choice(WRITES + CHANGES)
        take = self.folder if kind in ("rmtree", "mkdir", "free", "persist", "rename-folder", "rmdir") else self.file
        path, other = take(), take()
        write_type = {"through": "CACHE_THROUGH", "must": "MUST_CACHE"}.get(kind, "ASYNC_THROUGH")
        if kind in ("async", "over", "through", "must", "ttl", "recreate"):
            size = LARGE if self.rng.random() < 0.05 else self.rng.choice(SIZES)
            data = self.rng.randbytes(size)
            ttl = 0.05 if kind == "ttl" else None
            if kind == "recreate":
                self.attempt(f"remove {path}", lambda: self.fs.remove(path))
            self.attempt(
                f"{write_type} {path} {size} ttl={ttl}",
                lambda: self.fs.write(path, data, write_type=write_type, ttl=ttl),
            )
        elif kind in ("rename", "rename-folder"):
            self.attempt(f"rename {path} {other}", lambda: self.fs.rename(path, other, replace=True))
        elif kind in ("remove", "rmdir"):
            self.attempt(f"remove {path}", lambda: self.fs.remove(path))
        elif kind == "rmtree":
            self.attempt(f"rmtree {path}", lambda: self.fs.remove(path, recursive=True))
        elif kind == "mkdir":
            self.attempt(f"mkdir {path}", lambda: self.fs.mkdir(path, parents=True, exist_ok=True))
        elif kind == "free":
            self.attempt(f"free {path}", lambda: self.fs.free(path, recursive=True))
        else:
            self.attempt(f"persist {path}", lambda: self.fs.persist(path, wait=False))


class Other:
    """Somebody else, who does the same at the same time."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._user.step()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def settle(fs: isotach.FileSystem, top: str, eventually: Callable[..., None]) -> None:
    """Until nothing waits: no queue, no open intent, no file that is about to end."""

    def persisted() -> bool:
        with contextlib.suppress(OSError, isotach.IsotachError):  # one may end, or its worker come back, meanwhile
            fs.persist(top, wait=True)
        infos = [info for info in fs.list(top, recursive=True) if not info.is_dir]
        status = fs.status()
        quiet = all(info.persisted and not info.ttl for info in infos)
        return quiet and not status.persist_queue and not status.open_intents

    eventually(persisted, timeout=SETTLED_S, message="the queue does not get empty")


def held_by_namespace(fs: isotach.FileSystem, top: str) -> dict[str, bytes | None]:
    """Path below `top` -> bytes, None for a directory that the store should have."""
    held: dict[str, bytes | None] = {}
    for info in fs.list(top, recursive=True):
        held[info.path.removeprefix(top + "/")] = None if info.is_dir else fs.read(info.path)
    return held


def persisted_directories(fs: isotach.FileSystem, top: str) -> set[str]:
    return {
        info.path.removeprefix(top + "/") for info in fs.list(top, recursive=True) if info.is_dir and info.persisted
    }


def compare(here: dict[str, bytes | None], stored: set[str], there: dict[str, bytes | None]) -> None:
    files_here = {path: data for path, data in here.items() if data is not None}
    files_there = {path: data for path, data in there.items() if data is not None}
    assert sorted(files_there) == sorted(files_here), "ghosts, or lost files"
    assert [path for path, data in files_here.items() if files_there[path] != data] == []
    directories = {path for path, data in there.items() if data is None}
    assert stored <= directories, "a directory that the store should have is missing"
    assert directories <= {path for path, data in here.items() if data is None}, "a ghost directory"


def in_folder(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def in_bucket(s3: "boto3.client", bucket: str, prefix: str) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for row in page.get("Contents", []):
            name = row["Key"].removeprefix(f"{prefix}/")
            if name.endswith("/"):
                found[name.rstrip("/")] = None
            elif name:
                found[name] = s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read()
            parts = name.rstrip("/").split("/")[:-1]
            for depth in range(len(parts)):
                found["/".join(parts[: depth + 1])] = None
    return found


@pytest.fixture
def quick(start):
    """A cluster that tries again at once."""
    return start(
        master__persist_retry_initial="50ms", master__persist_retry_max="300ms", master__ttl_check_interval="100ms"
    )


def alive(fs: isotach.FileSystem) -> bool:
    with contextlib.suppress(isotach.IsotachError, OSError):
        return bool(fs.workers()) and all(worker.live for worker in fs.workers())
    return False


def kill(pid: int) -> None:
    """SIGKILL, unless it is down already: then its pid is -1, which to the kernel means every process there is."""
    if pid > 0:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_folder_ends_equal_to_the_namespace(quick, eventually, tmp_path, seed):
    rng = random.Random(seed)
    root = tmp_path / "store"
    root.mkdir()
    with isotach.connect(quick.address) as fs:
        fs.mount("/x", f"file://{root}")
        log: list[str] = []
        user = User(fs, "/x", rng, log)
        other = Other(User(fs, "/x", random.Random(seed + 1_000_000), log))
        away: list[float] = []
        for index in range(STEPS):
            chance = rng.random()
            if chance < 0.06 and not away:
                root.rename(root.with_name("away"))
                away.append(index + rng.randrange(1, 8))
                log.append("store away")
            elif away and index >= away[0]:
                root.with_name("away").rename(root)
                away.clear()
                log.append("store back")
            elif 0.06 <= chance < 0.08:
                log.append("kill worker")
                kill(quick.worker_pid)
                eventually(lambda: alive(fs), timeout=20)
            elif 0.08 <= chance < 0.10:
                log.append("kill master")
                kill(quick.master_pid)
            user.step()
        if away:
            root.with_name("away").rename(root)
        other.end()
        eventually(lambda: alive(fs), timeout=20)
        try:
            settle(fs, "/x", eventually)
            compare(held_by_namespace(fs, "/x"), persisted_directories(fs, "/x"), in_folder(root))
            assert not [name for name in os.listdir(root) if name.startswith(".isotach")]
        except BaseException:
            print("\n".join(log))
            raise


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bucket_ends_equal_to_the_namespace(quick, eventually, seaweed: SeaweedServer, s3, prefix, seed):
    rng = random.Random(seed)
    kinds = (
        Fault(kind=FaultKind.STATUS, times=6),
        Fault(kind=FaultKind.DROP, times=4),
        Fault(kind=FaultKind.LOSE_ANSWER, times=2),
        Fault(kind=FaultKind.STATUS, times=3, method="PUT", status=500, code="InternalError"),
        Fault(kind=FaultKind.DELAY, times=4, delay_s=0.3),
    )
    with FaultyHttp(seaweed.endpoint) as proxy, isotach.connect(quick.address) as fs:
        fs.mount("/x", f"s3://system/{prefix}", options={**seaweed.options(), "endpoint": proxy.endpoint})
        log: list[str] = []
        user = User(fs, "/x", rng, log)
        other = Other(User(fs, "/x", random.Random(seed + 1_000_000), log))
        for _ in range(STEPS // 2):
            chance = rng.random()
            if chance < 0.2:
                fault = rng.choice(kinds)
                log.append(f"fault {fault.kind}")
                proxy.inject(fault)
            elif chance < 0.23:
                log.append("kill worker")
                kill(quick.worker_pid)
                eventually(lambda: alive(fs), timeout=20)
            elif chance < 0.26:
                log.append("kill master")
                kill(quick.master_pid)
            user.step()
        proxy.clear()
        other.end()
        eventually(lambda: alive(fs), timeout=20)
        try:
            settle(fs, "/x", eventually)
            compare(held_by_namespace(fs, "/x"), persisted_directories(fs, "/x"), in_bucket(s3, "system", prefix))
        except BaseException:
            print("\n".join(log))
            raise


def test_time_is_not_wasted_on_a_dead_store(start, eventually, tmp_path):
    cluster = start(master__persist_retry_initial="50ms", master__persist_retry_max="200ms")
    dead, live = tmp_path / "dead", tmp_path / "live"
    dead.mkdir()
    live.mkdir()
    with isotach.connect(cluster.address) as fs:
        fs.mount("/dead", f"file://{dead}")
        fs.mount("/live", f"file://{live}")
        dead.rename(tmp_path / "away")
        for index in range(40):
            fs.write(f"/dead/{index}", b"waits", write_type="ASYNC_THROUGH")
        fs.write("/live/f", b"goes", write_type="ASYNC_THROUGH")
        before = time.monotonic()
        eventually(lambda: fs.stat("/live/f").persisted, timeout=5)
        assert time.monotonic() - before < 3
        with pytest.raises(OSError, match="does not exist"):
            fs.persist("/dead", wait=True)
        (tmp_path / "away").rename(dead)
        eventually(lambda: all(info.persisted for info in fs.list("/dead")), timeout=20)
    assert sorted(os.listdir(dead), key=int) == [str(index) for index in range(40)]
