"""A tiny read-only tree in memory, served through the session on a real mount.

Owns: the mount of one test, and its end. Never: reads a file of the mount by mapping it: that would hold the
interpreter's lock while this process is to serve the page.
"""

import contextlib
import ctypes
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from errno import ENOENT
from pathlib import Path

import pytest

from isotach.fuse.contract import Handler, Request
from isotach.fuse.kernel.device import open_device
from isotach.fuse.protocol import replies, requests
from isotach.fuse.protocol.constants import Fopen, Opcode
from isotach.fuse.protocol.negotiation import Negotiated, Wanted
from isotach.fuse.session import Session

_libc = ctypes.CDLL(None, use_errno=True)
_DETACH = 2
_FILE, _FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def mount(device: int, folder: Path) -> None:
    """Makes the folder a mount of the device, as the daemon does."""
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    if _libc.mount(b"isotach-test", os.fsencode(folder), b"fuse.isotach-test", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))


def unmount(folder: Path) -> None:
    """Away at once, in use or not."""
    _libc.umount2(os.fsencode(folder), _DETACH)


class ToyTree:
    """Names to contents, all in the root; nodes are numbered from 2 on and keep their number."""

    def __init__(self, session: Session, content: Mapping[bytes, bytes], passthrough_in: Path | None = None) -> None:
        self.session = session
        self.content = dict(content)
        self.names = {name: number for number, name in enumerate(content, 2)}
        self.valid = replies.timeout_of(3600)
        self.passthrough_in = passthrough_in
        self.backing_ids: dict[int, int] = {}
        self.read_later = False

    def handlers(self) -> dict[int, Handler]:
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.GETATTR: self.getattr,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read,
            Opcode.RELEASE: lambda _: b"",
            Opcode.OPENDIR: lambda _: replies.open_file(0),
            Opcode.READDIR: self.readdir,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RELEASEDIR: lambda _: b"",
        }

    def _data(self, node: int) -> bytes:
        return next((self.content[name] for name, number in self.names.items() if number == node), b"")

    def _attributes(self, node: int) -> replies.Attributes:
        if node == 1:
            return replies.Attributes(1, 0, 0, 1, 2, 3, _FOLDER, 2, 0, 0)
        size = len(self._data(node))
        return replies.Attributes(node, size, -(-size // 512), 1, 2, 3, _FILE, 1, 0, 0)

    def _entry(self, node: int) -> bytes:
        return replies.entry(node, self._attributes(node), self.valid, self.valid)

    def lookup(self, request: Request) -> bytes:
        node = self.names.get(requests.decode_name(request.body))
        return replies.negative_entry(self.valid) if node is None else self._entry(node)

    def getattr(self, request: Request) -> bytes:
        return replies.attr(self._attributes(request.node), self.valid)

    def open(self, request: Request) -> bytes:
        if self.passthrough_in is None:
            return replies.open_file(request.node, Fopen.DIRECT_IO | Fopen.NOFLUSH)
        if request.node not in self.backing_ids:
            backing = self.passthrough_in / str(request.node)
            backing.write_bytes(self._data(request.node))
            descriptor = os.open(backing, os.O_RDONLY)
            self.backing_ids[request.node] = self.session.backings.register(descriptor)
            os.close(descriptor)
        return replies.open_file(request.node, Fopen.PASSTHROUGH | Fopen.NOFLUSH, self.backing_ids[request.node])

    def read(self, request: Request) -> bytes | None:
        if self.read_later:
            self.session.later.run("read", request, self._read)
            return None
        return self._read(request)

    def _read(self, request: Request) -> bytes:
        asked = requests.decode_read(request.body)
        return self._data(request.node)[asked.offset : asked.offset + asked.size]

    def readdir(self, request: Request) -> bytes:
        asked = requests.decode_read(request.body)
        packed = replies.Directory(asked.size)
        for place, (name, node) in enumerate(self.names.items(), 1):
            if place > asked.offset and not packed.add(node, place, stat.S_IFREG >> 12, name):
                break
        return packed.encoded()

    def readdirplus(self, request: Request) -> bytes:
        asked = requests.decode_read(request.body)
        packed = replies.Directory(asked.size)
        for place, (name, node) in enumerate(self.names.items(), 1):
            if place > asked.offset and not packed.add_plus(self._entry(node), node, place, stat.S_IFREG >> 12, name):
                break
        return packed.encoded()


class Mounted:
    """A session that serves, in threads of this process, and its tree."""

    def __init__(self, folder: Path, content: Mapping[bytes, bytes], *, threads: int = 2, clones: bool = False) -> None:
        self.folder = folder
        self.device = open_device()
        mount(self.device, folder)
        self.session = Session(self.device, Wanted(), threads=threads, slow_threads=8, clones=clones)
        self.tree = ToyTree(self.session, content)
        self.extra: dict[int, Handler] = {}
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.session.serve({**self.tree.handlers(), **self.extra})
        self.session.run(10.0)

    def start(self) -> "Mounted":
        self._thread.start()
        assert self.session.ready.wait(10)
        return self

    @property
    def negotiated(self) -> Negotiated:
        return self.session.negotiated

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        unmount(self.folder)
        if self._thread.ident is not None:
            self._thread.join(20)
            assert self.ended, "the session did not end with its mount"
        with contextlib.suppress(OSError):
            os.close(self.device)


@pytest.fixture
def mounted(require_root: None, require_fuse: None, no_leaks: None, tmp_path: Path) -> Iterator[Mounted]:
    """A mount of three files, not started yet: `mounted.start()`."""
    folder = tmp_path / "mount"
    folder.mkdir()
    toy = Mounted(folder, {b"one": b"1" * 10_000, b"two": b"22", b"\xff\n": b"odd"})
    try:
        yield toy
    finally:
        toy.end()


def missing(_: Request) -> bytes:
    """A handler for what is never there."""
    raise FileNotFoundError(ENOENT, "there is no such entry")
