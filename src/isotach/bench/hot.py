"""Hot data: local reads, zero-copy views and TCP, each against the plain thing.

Owns: three rows of the table. Never: touches an under storage.
"""

import mmap
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import IO, Protocol, Self

import isotach
from isotach.base.limits import MIB
from isotach.bench.context import BenchContext
from isotach.bench.measure import median_pair
from isotach.bench.result import Judged, Row

READ_BYTES = MIB
GB = 1e9


class Readable(Protocol):
    """What both sides offer for a sequential read."""

    def readinto(self, buffer: bytearray, /) -> int | None: ...


def drain(source: Readable, buffer: bytearray) -> int:
    """Reads to the end into the same buffer; returns how many bytes came."""
    total = 0
    while got := source.readinto(buffer):
        total += got
    return total


def sequential_read(context: BenchContext) -> list[Row]:
    """Reading 1 MiB at a time, to the end, through Isotach and from a plain tmpfs file."""
    buffer = bytearray(READ_BYTES)
    with context.hot_pair("/hot") as plain:

        def ours() -> None:
            with context.fs.open("/hot", "rb") as source:
                _whole(drain(source, buffer), context)

        def theirs() -> None:
            with plain.open("rb", buffering=0) as source:
                _whole(drain(source, buffer), context)

        mine, other = median_pair(ours, theirs, context.sizes.repeats)
    return [_rate_row("hot sequential read, local", "plain tmpfs file", context, mine, other, target=0.9)]


def numpy_view(context: BenchContext) -> list[Row]:
    """The sum of all bytes as 64-bit words, over a view and over a mapped tmpfs file."""
    np = _numpy()
    with context.hot_pair("/view") as plain:

        def ours() -> int:
            with context.fs.view("/view") as view:
                return int(np.frombuffer(view, dtype=np.uint64).sum())

        def theirs() -> int:
            with plain.open("rb") as source, mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                words = np.frombuffer(mapped, dtype=np.uint64)
                total = int(words.sum())
                del words  # a mapping with an array over it cannot be closed
                return total

        if ours() != theirs():
            raise AssertionError("the view's bytes differ from what was written")
        mine, other = median_pair(ours, theirs, context.sizes.repeats)
    return [_rate_row("NumPy sum over a view", "mapped tmpfs file", context, mine, other, target=0.95)]


def tcp_loopback(context: BenchContext) -> list[Row]:
    """A remote client's hot read, against a bare sendfile to recv_into between two processes."""
    buffer = bytearray(READ_BYTES)
    remote = isotach.connect(context.cluster.tcp_address, short_circuit=False)
    with context.hot_pair("/remote") as plain, _SendfilePeer(plain) as peer:

        def ours() -> None:
            with remote.open("/remote", "rb") as source:
                _whole(drain(source, buffer), context)

        def theirs() -> None:
            total = 0
            with peer.connect() as connection:
                while got := connection.recv_into(buffer):
                    total += got
            _whole(total, context)

        try:
            mine, other = median_pair(ours, theirs, context.sizes.repeats)
        finally:
            remote.close()
    return [_rate_row("hot read over TCP loopback", "bare sendfile loop", context, mine, other, target=0.7)]


class _SendfilePeer:
    """The other process: sends the whole file to whoever connects."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "isotach.bench.sendfile_peer", str(path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._port = int(self._stdout.readline())

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._stdout.close()


def _whole(got: int, context: BenchContext) -> None:
    if got != context.sizes.hot_bytes:
        raise AssertionError(f"read {got} of {context.sizes.hot_bytes} bytes")


def _rate_row(work: str, against: str, context: BenchContext, mine: float, other: float, target: float) -> Row:
    size = context.sizes.hot_bytes / GB
    return Row(
        work=work, unit="GB/s", isotach=size / mine, baseline=size / other, against=against, judged=Judged.RATIO,
        target=target,
    )  # fmt: skip


def _numpy() -> ModuleType:
    try:
        import numpy as np
    except ImportError as error:
        raise ImportError("NumPy is not installed; get it with: pip install 'isotach[bench]'") from error
    return np
