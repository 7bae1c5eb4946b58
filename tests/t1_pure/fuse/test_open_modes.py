"""Opens, closes and replacements in any order: the kernel's rules of one mode for an inode are never broken.

The model of the kernel follows fs/fuse/iomode.c: what it would refuse with EIO fails the test. It leaves a mode at the
last close, and the daemon hears of it later (RELEASE is asynchronous).
"""

import errno
import os
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from isotach.base.types import Inode, Kind
from isotach.conf import load_settings
from isotach.fuse.contract import NODE_SHIFT, Request
from isotach.fuse.files.open_files import OpenFiles
from isotach.fuse.files.parts import Parts
from isotach.fuse.protocol.constants import Fopen, Opcode

FILE = 7
ALLOWED_BESIDE_PASSTHROUGH = Fopen.PASSTHROUGH | Fopen.DIRECT_IO | Fopen.NOFLUSH | Fopen.PARALLEL_DIRECT_WRITES


class FakeLive:
    """A file being written whose content is of no interest here."""

    def __init__(self, tree: "FakeTree", inode: Inode) -> None:
        self.tree, self.file_id = tree, inode.id
        self.length, self.mtime_ns, self.backing_descriptor = inode.length, 0, -1
        self.is_dirty = False
        self.closed = False

    def write(self, offset: int, data: memoryview) -> None:
        assert not self.closed
        self.is_dirty = True

    def truncate(self, length: int) -> None:
        self.is_dirty = True

    def at_hand(self, offset: int, size: int, writes: bool) -> bool:
        return True

    def flush(self) -> Inode | None:
        assert not self.closed
        if not self.is_dirty:
            return None
        self.is_dirty = False
        return self.tree.publish()

    def close(self) -> Inode | None:
        inode = self.flush()
        self.closed = True
        return inode


class FakeTree:
    """One file: its record, and the node that lookups give."""

    def __init__(self) -> None:
        self.record = Inode(FILE, Kind.FILE, 0o644, "", "", 100, 0, 0, 0, 1, 0, 0, 0)
        self.epoch = 0

    def publish(self) -> Inode:
        self.record = msgspec.structs.replace(self.record, version=self.record.version + 1)
        return self.record

    def inode(self, file_id: int) -> Inode:
        return self.record

    inode_now = inode

    def current_node(self, file_id: int) -> int:
        return file_id | self.epoch << NODE_SHIFT

    def renew(self, file_id: int) -> int:
        self.epoch += 1
        return self.current_node(file_id)

    def note(self, inode: Inode) -> None:
        pass


class FakeBackings:
    """The kernel's registered files: each is the descriptor's version."""

    reason_off = ""

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}
        self.made = 0

    def register(self, descriptor: int) -> int:
        self.made += 1
        self.versions[self.made] = int(os.pread(descriptor, 20, 0))
        return self.made

    def unregister(self, backing_id: int) -> None:
        del self.versions[backing_id]


def container(version: int, length: int) -> int:
    """A file that says which version it is of."""
    descriptor = os.memfd_create("container")
    os.pwrite(descriptor, b"%d" % version, 0)
    return descriptor


def at_once(pool: str, request: Request, work: Callable[[Request], Any]) -> None:
    """`Later` without threads: the reply goes where the channel says."""
    request.channel.reply(request.unique, work(request))


class KernelInode:
    """One inode of the kernel: fs/fuse/iomode.c."""

    def __init__(self) -> None:
        self.counter = 0  # > 0: cached opens; < 0: passthrough opens
        self.backing: tuple[int, int] | None = None  # (id, version of the file)

    def open(self, flags: int, backing_id: int, versions: dict[int, int]) -> None:
        if flags & Fopen.PASSTHROUGH:
            assert not flags & ~ALLOWED_BESIDE_PASSTHROUGH, "EINVAL: not allowed beside passthrough"
            assert backing_id in versions, "ENOENT: no such backing"
            assert self.counter <= 0, "ETXTBSY: the inode has cached opens"
            assert self.backing is None or self.backing[0] == backing_id, "EBUSY: another backing"
            self.backing = backing_id, versions[backing_id]
            self.counter -= 1
        else:
            assert self.backing is None, "EINVAL: the inode is open for passthrough"
            self.counter += 1

    def close(self, passes: bool) -> None:
        self.counter += 1 if passes else -1
        if not self.counter:
            self.backing = None


class Machine(RuleBasedStateMachine):
    """Programs, the kernel, and the open files of a mount."""

    def __init__(self) -> None:
        super().__init__()
        self.tree, self.backings = FakeTree(), FakeBackings()
        writing = SimpleNamespace(
            begin=lambda inode, created, truncate: FakeLive(self.tree, inode), unpublished=lambda file_id: None
        )
        nothing = lambda *given: None  # noqa: E731
        parts = Parts(
            link=SimpleNamespace(direct=SimpleNamespace(container=container)),  # type: ignore[arg-type]
            settings=load_settings(env={"ISOTACH_CONFIG": ""}).fuse,
            tree=self.tree,  # type: ignore[arg-type]
            writing=writing,  # type: ignore[arg-type]
            locks=SimpleNamespace(
                flushed=nothing, released=nothing, holds=lambda *given: False, any_held=lambda *given: False
            ),  # type: ignore[arg-type]
            later=SimpleNamespace(run=at_once),  # type: ignore[arg-type]
            notifier=SimpleNamespace(inval_inode=nothing),  # type: ignore[arg-type]
            backings=self.backings,
        )
        self.files = OpenFiles(parts)
        self.handlers = self.files.handlers()
        self.kernel: dict[int, KernelInode] = {}
        self.open_ones: list[tuple[int, int, bool, bool]] = []  # (node, handle, passthrough, writes)
        self.releases: list[tuple[int, int]] = []

    def ask(self, opcode: int, node: int, body: bytes, thread: int = 1) -> bytes:
        said: list[bytes] = []
        channel = SimpleNamespace(reply=lambda unique, data: said.append(data))
        request = Request(opcode, 1, node, 0, 0, thread, memoryview(body), channel)  # type: ignore[arg-type]
        reply = self.handlers[opcode](request)
        return said[0] if reply is None else bytes(reply)  # type: ignore[arg-type]

    def open_node(self, node: int, flags: int, thread: int) -> None:
        version = self.tree.record.version
        reply = self.ask(Opcode.OPEN, node, struct.pack("<II", flags, 0), thread)
        handle, kernel_flags, backing_id = struct.unpack("<QIi", reply)
        inode = self.kernel.setdefault(node, KernelInode())
        inode.open(kernel_flags, backing_id, self.backings.versions)
        passes = bool(kernel_flags & Fopen.PASSTHROUGH)
        if passes and node == self.tree.current_node(FILE):
            assert inode.backing == (backing_id, version), "an old version was opened by name"
        self.open_ones.append((node, handle, passes, bool(flags & os.O_RDWR)))

    def is_sent_away(self, node: int, flags: int, thread: int) -> bool:
        try:
            self.open_node(node, flags, thread)
        except OSError as problem:
            if problem.errno != errno.ESTALE:
                raise
            return True
        return False

    @rule(flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC]), thread=st.integers(1, 3))
    def open_by_name(self, flags: int, thread: int) -> None:
        if self.is_sent_away(self.tree.current_node(FILE), flags, thread):  # then it looks up with LOOKUP_REVAL
            self.open_node(self.tree.current_node(FILE), flags, thread)

    @precondition(lambda self: self.open_ones)
    @rule(which=st.integers(0), flags=st.sampled_from([os.O_RDONLY, os.O_RDWR]))
    def open_by_descriptor(self, which: int, flags: int) -> None:
        node = self.open_ones[which % len(self.open_ones)][0]
        if self.is_sent_away(node, flags, 9):
            is_refused = self.is_sent_away(node, flags, 9)
            assert not is_refused or flags == os.O_RDWR, "a reader gets what its descriptor has"

    @precondition(lambda self: self.open_ones)
    @rule(which=st.integers(0))
    def write(self, which: int) -> None:
        node, handle, _, writes = self.open_ones[which % len(self.open_ones)]
        if writes:
            self.ask(Opcode.WRITE, node, struct.pack("<QQIIQII", handle, 0, 1, 0, 0, 0, 0) + b"x")

    @precondition(lambda self: self.open_ones)
    @rule(which=st.integers(0))
    def close(self, which: int) -> None:
        node, handle, passes, writes = self.open_ones.pop(which % len(self.open_ones))
        if writes:
            self.ask(Opcode.FLUSH, node, struct.pack("<QIIQ", handle, 0, 0, 0))
        self.kernel[node].close(passes)
        self.releases.append((node, handle))

    @precondition(lambda self: self.releases)
    @rule(which=st.integers(0))
    def deliver_release(self, which: int) -> None:
        node, handle = self.releases.pop(which % len(self.releases))
        self.ask(Opcode.RELEASE, node, struct.pack("<QIIQ", handle, 0, 0, 0))

    @rule()
    def replaced_elsewhere(self) -> None:
        self.tree.publish()
        self.files.changed(FILE, self.tree.record)

    @invariant()
    def counts_agree(self) -> None:
        assert self.files.opens == len(self.open_ones) + len(self.releases)

    def teardown(self) -> None:
        while self.open_ones:
            self.close(0)
        while self.releases:
            self.deliver_release(0)
        assert self.files.opens == 0
        self.files.close()
        assert not self.backings.versions, "backings are left registered"


TestOpenModes = Machine.TestCase
TestOpenModes.settings = hypothesis_settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_handles_of_another_run_are_known() -> None:
    from isotach.fuse.files.handles import Handles

    one, other = Handles(), Handles()
    while other.is_ours(one.make()):  # one in 65,535
        other = Handles()
    handle = one.make(3)
    assert one.is_ours(handle)
    assert handle & 3 == 3
    assert not one.is_ours(0)


@pytest.mark.parametrize("limit", [1, 10])
def test_reads_wait_for_memory_but_one_alone_never(limit: int) -> None:
    from isotach.fuse.files.memory import ReadMemory

    memory = ReadMemory(limit)
    with memory.taken(100):
        pass
    with memory.taken(1):
        pass
