"""What programs do to files being written: WRITE, FLUSH, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE.

Owns: decoding them, and what is answered at once and what later. Never: keeps bytes (`writing`).
"""

import errno
import os
from typing import Final

from isotach.base.errors import os_error
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.files.changing import Changing
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.handles import APPENDS, WRITES
from isotach.fuse.files.lives import SharedLive
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.places import Places
from isotach.fuse.files.table import OpenNode, file_id_of
from isotach.fuse.protocol.constants import WRITE_CACHE, WRITE_KILL_SUIDGID, Opcode
from isotach.fuse.protocol.layouts import (
    COPY_FILE_RANGE_IN,
    COPY_FILE_RANGE_OUT,
    FALLOCATE_IN,
    FLUSH_IN,
    FSYNC_IN,
    LSEEK_IN,
    LSEEK_OUT,
    WRITE_IN,
    WRITE_OUT,
)

_DONE: Final = b""


class Writes:
    """The handlers. Any thread."""

    def __init__(self, parts: Parts, places: Places, changing: Changing, counters: FileCounters) -> None:
        self._parts: Final = parts
        self._later: Final = parts.later
        self._table: Final = places.table
        self._handles: Final = places.handles
        self._changing: Final = changing
        self._counters: Final = counters

    def write(self, request: Request) -> Reply:
        """Written at once where nothing must be asked for; else later."""
        handle, offset, size, write_flags, _, _ = WRITE_IN.unpack_from(request.body)
        shared = self._shared(request.node, handle)
        appends = handle & APPENDS and not write_flags & WRITE_CACHE
        kills = write_flags & WRITE_KILL_SUIDGID and self._changing.has_special_bits(shared.file_id)
        if not kills and shared.live.at_hand(shared.live.length if appends else offset, size, True):
            return self._write(request)
        self._later.run("write", request, self._write_late)
        return None

    def _write_late(self, request: Request) -> Reply:
        _, _, _, write_flags, _, _ = WRITE_IN.unpack_from(request.body)
        if write_flags & WRITE_KILL_SUIDGID:
            self._changing.take_special_bits(file_id_of(request.node))
        return self._write(request)

    def _write(self, request: Request) -> Reply:
        handle, offset, size, write_flags, _, _ = WRITE_IN.unpack_from(request.body)
        live = self._shared(request.node, handle).live
        data = request.body[WRITE_IN.size : WRITE_IN.size + size]
        if handle & APPENDS and not write_flags & WRITE_CACHE:
            live.append(data)
        else:
            live.write(offset, data)
        counters = self._counters
        counters.writes += 1
        counters.written_bytes += size
        return WRITE_OUT.pack(size)

    def flush(self, request: Request) -> Reply:
        """close(2): publishes; the error of publishing is this call's."""
        handle, owner = FLUSH_IN.unpack_from(request.body)
        is_lost = self._is_lost(handle)
        file_id, locks = file_id_of(request.node), self._parts.locks
        open_node = self._table.find(request.node)
        shared = None if open_node is None else open_node.shared
        # What the kernel writes itself is published after the last close.
        publishes = shared is not None and shared.live.is_dirty and shared.live.backing_descriptor < 0
        if not (publishes or is_lost) and not locks.holds(file_id, owner):
            return _DONE

        def publish(_: Request) -> Reply:
            try:
                if publishes and shared is not None:
                    self._changing.flush(shared)
            finally:
                locks.flushed(file_id, owner)
            if is_lost:
                raise _lost()
            return _DONE

        return self._run_later(request, publish)

    def fsync(self, request: Request) -> Reply:
        """As docs/posix.md promises for each write type."""
        handle, _ = FSYNC_IN.unpack_from(request.body)
        if self._is_lost(handle):
            raise _lost()
        open_node = self._table.find(request.node)
        shared = None if open_node is None else open_node.shared
        if shared is None:
            return _DONE

        def sync(_: Request) -> Reply:
            self._changing.sync(shared)
            return _DONE

        return self._run_later(request, sync)

    def fallocate(self, request: Request) -> Reply:
        """May have to make room: later."""
        handle, offset, length, mode = FALLOCATE_IN.unpack_from(request.body)
        shared = self._shared(request.node, handle)

        def allocate(_: Request) -> Reply:
            shared.live.allocate(mode, offset, length)
            return _DONE

        return self._run_later(request, allocate)

    def lseek(self, request: Request) -> Reply:
        """SEEK_DATA and SEEK_HOLE: a file that is only read is all data."""
        _, offset, whence = LSEEK_IN.unpack_from(request.body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise os_error(errno.EINVAL, f"whence {whence} is not one that the kernel asks for")
        open_node = self._table.find(request.node)
        hole = whence == os.SEEK_HOLE
        if open_node is not None and open_node.shared is not None:
            return LSEEK_OUT.pack(open_node.shared.live.seek(offset, hole))
        length = self._parts.tree.inode(file_id_of(request.node)).length
        if offset >= length:
            raise os_error(errno.ENXIO, "there is nothing at or after this offset")
        return LSEEK_OUT.pack(length if hole else offset)

    def copy_file_range(self, request: Request) -> Reply:
        """Between files of the mount, without the bytes passing through a program."""
        return self._run_later(request, self._copy)

    def _copy(self, request: Request) -> Reply:
        _, offset_in, node_out, handle_out, offset_out, length, _ = COPY_FILE_RANGE_IN.unpack_from(request.body)
        source = self._table.find(request.node)
        target = self._shared(node_out, handle_out)
        descriptor = -1 if source is None else self._lent(source, offset_in, length)
        if descriptor < 0:
            raise os_error(errno.EOPNOTSUPP, "the bytes are not in a file here: they are read and written instead")
        try:
            available = os.fstat(descriptor).st_size - offset_in
            count = target.live.copy_in(offset_out, min(length, max(0, available)), descriptor, offset_in)
        finally:
            os.close(descriptor)
        wide = request.opcode == Opcode.COPY_FILE_RANGE_64
        return COPY_FILE_RANGE_OUT.pack(count) if wide else WRITE_OUT.pack(count)

    def _lent(self, source: OpenNode, offset: int, length: int) -> int:
        if source.shared is not None:
            return source.shared.live.lend(offset, length)
        direct = self._parts.link.direct
        inode = self._parts.tree.inode(source.file_id)
        if direct is None or inode.version != source.version:
            return -1
        return direct.container(source.version, inode.length)

    def _shared(self, node: int, handle: int) -> SharedLive:
        open_node = self._table.find(node)
        if open_node is None or open_node.shared is None or not self._handles.is_ours(handle):
            raise _lost()
        return open_node.shared

    def _is_lost(self, handle: int) -> bool:
        """Whether it was open for writing when the daemon before this one died: what became of its bytes is not known
        here, and must not pass for success."""
        return bool(handle & WRITES) and not self._handles.is_ours(handle)

    def _run_later(self, request: Request, work: Handler) -> Reply:
        self._later.run("write", request, work)
        return None


def _lost() -> OSError:
    return os_error(errno.EIO, "the file was being written when the mount's daemon restarted: open it again")
