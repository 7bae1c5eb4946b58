"""The bytes of one file being written: those that were written, over those of the version below.

Owns: the two layers and the length, when the lower one is copied up, and moving the upper one to another body when its
present one is too small or lost. Never: decides when something is published, or keeps time.

Reads take no lock unless bytes of the version below may be among them: the layers are replaced whole, and who still
reads the old ones reads what was there a moment ago.
"""

import errno
import os
import threading

from isotach.base.errors import os_error
from isotach.base.limits import DRAFT_BYTES_MAX, FUSE_BASE_RANGES_MAX, FUSE_COPY_BYTES
from isotach.base.types import FileId, Inode, ReadBuffer, Version, WriteType
from isotach.fuse.writing.bodies import Bodies
from isotach.fuse.writing.body import Body, BodyFullError, BodyLostError
from isotach.fuse.writing.descriptors import OwnedDescriptor, copy_across, copy_data, read_only
from isotach.fuse.writing.extents import BaseRanges
from isotach.fuse.writing.file_body import DraftBody
from isotach.fuse.writing.grants import Grants

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_BODIES_TRIED_MAX = 4


class Content:
    """Changed under `lock` only, which the caller takes; read by any thread."""

    def __init__(self, bodies: Bodies, grants: Grants, file_id: FileId, length: int, version: Version) -> None:
        """`length` bytes of `version` are there at first."""
        self.lock = threading.RLock()
        self.length = length
        self._bodies = bodies
        self._grants = grants
        self._file_id = file_id
        self._ranges = BaseRanges(length)
        self._body: Body | None = None
        self._below = bodies.below(file_id, version) if length else None
        self._layers: tuple[Body | None, BaseRanges] = (None, self._ranges)

    # --- reading ---

    def read(self, offset: int, size: int) -> ReadBuffer:
        """Bytes as they are now; fewer at the end."""
        size = min(size, self.length - offset)
        if size <= 0:
            return b""
        body, ranges = self._layers
        if not ranges:
            return bytes(size) if body is None else body.read(offset, size)
        with self.lock:
            return self._read_layers(offset, min(size, self.length - offset))

    def seek(self, offset: int, hole: bool) -> int:
        """The next hole or data from `offset` on. Raises OSError(ENXIO)."""
        if offset < 0 or offset >= self.length:
            raise os_error(errno.ENXIO, "the offset is beyond the end of the file")
        body, ranges = self._layers
        if ranges:
            with self.lock:
                body, pieces = self._body, self._ranges.pieces(offset, self.length)
        else:
            pieces = [(offset, self.length, False)]
        for start, stop, below in pieces:
            if below:
                if not hole:
                    return start
            elif (found := _seek_body(body, start, stop, hole)) < stop:
                return found
        if not hole:
            raise os_error(errno.ENXIO, "there is no data from this offset on")
        return self.length

    def is_at_hand(self, offset: int, size: int, writes: bool) -> bool:
        """Whether this is served from here, without a call to anybody."""
        body, ranges = self._layers
        if writes and body is None:
            return not ranges and offset + size <= self._bodies.settings.small_file
        if writes:
            return body is not None and body.has_room(offset + size, size)
        return not ranges or (self._below is not None and self._below.is_at_hand)

    def lend(self, offset: int, length: int) -> int:
        """A new descriptor of a file that has these bytes at the same place; -1: there is none."""
        pieces = self._ranges.pieces(offset, min(offset + length, self.length))
        if len(pieces) != 1:
            return -1
        body = self._body
        if pieces[0][2]:
            held = None if self._below is None else self._below.held()
        elif body is not None and body.descriptor is not None:
            self._ready(self.length, 0).set_length(self.length)
            held = self._body.descriptor if self._body is not None else None
        else:
            held = None
        return -1 if held is None else os.dup(held.number)

    # --- changing ---

    def write(self, offset: int, data: memoryview) -> None:
        """Raises OSError: ENOSPC, EIO."""
        end = offset + len(data)
        self._check_size(end)
        self._ready(end, len(data)).write(offset, data)
        self._wrote(offset, end)

    def copy_in(self, offset: int, length: int, source: int, source_offset: int) -> int:
        """Copies from another file's descriptor, in the kernel where it can; how many bytes, fewer where that ends."""
        self._check_size(offset + length)
        body = self._ready(offset + length, length)
        if body.descriptor is not None:
            count = copy_across(source, source_offset, body.descriptor.number, offset, length)
        else:
            data = os.pread(source, length, source_offset)
            count = len(data)
            body.write(offset, memoryview(data))
        if count:
            self._wrote(offset, offset + count)
        return count

    def set_length(self, length: int) -> None:
        """Bytes beyond are gone for good; new ones are zeros. Nothing is read for it."""
        self._check_size(length)
        if length < self.length:
            if self._body is not None:
                self._ready(length, 0).set_length(length)
            self._ranges.cut(length)
            self._leave_below()
        elif self._body is not None:
            self._ready(length, 0)
        self.length = length

    def zero(self, offset: int, length: int) -> None:
        """Zeros up to the end of the file at most, giving their room back where that can be."""
        stop = min(offset + length, self.length)
        if offset < stop:
            self._ready(stop, 0).punch(offset, stop - offset)
            self._ranges.remove(offset, stop)

    def reserve(self, offset: int, length: int, grow: bool) -> None:
        """Room for these bytes, so that writing them does not fail for want of it. `grow`: the file reaches there."""
        self._check_size(offset + length)
        body = self._ready(max(self.length, offset + length), length)
        if grow and offset + length > self.length:
            self.length = offset + length
        if grow and body.descriptor is not None:
            os.posix_fallocate(body.descriptor.number, offset, length)

    # --- ends ---

    @property
    def patience_s(self) -> float:
        """How long a program waits for who is away."""
        return self._grants.patience_s

    def publish(self, mtime_ns: int, keep: bool) -> Inode | None:
        """Makes it the file's content. `keep`: more will be written. None: the file was removed. Raises what forbids
        it; everything is as before then."""
        if not self.length:
            return self._grants.publish_bytes(memoryview(b""), mtime_ns)
        for _ in range(_BODIES_TRIED_MAX):
            body = self._whole_body()
            try:
                inode = body.publish(self.length, mtime_ns, keep)
            except BodyLostError:
                self._replace(body, self.length)
                continue
            if inode is not None and not keep and not body.lasts:
                self._rest_on(body, inode.version)
            return inode
        raise os_error(errno.EIO, "the worker loses the file again and again while it is published: see its log")

    def rebase(self, length: int, version: Version) -> None:
        """All of it is this version's from now on: nothing may be unpublished."""
        old_body, old_below = self._body, self._below
        self._below = self._bodies.below(self._file_id, version) if length else None
        self._set_layers(None, BaseRanges(length))
        self.length = length
        if old_body is not None:
            old_body.drop()
        if old_below is not None:
            old_below.close()

    def sync(self) -> bool:
        """Sees to it that the bytes outlive this process, without publishing them; False: that is not possible."""
        if self._body is None and not self._ranges:
            return False
        for _ in range(_BODIES_TRIED_MAX):
            body = self._whole_body()
            try:
                return body.sync(self.length)
            except BodyLostError:
                self._replace(body, self.length)
        return False

    def hand_over(self) -> bool:
        """Leaves it to the local worker to publish once this process is gone; False: it cannot."""
        body = self._whole_body() if self.length else None
        if not isinstance(body, DraftBody):
            return False
        try:
            body.hand_over(self.length)
        except BodyLostError:
            return False
        return True

    def hold(self) -> None:
        """Sees to it that the version below can be read on, though its name goes."""
        if self._ranges and self._below is not None and self._below.held() is None:
            self._whole_body()

    def begin_backed(self, mtime_ns: int, wanted: bool) -> OwnedDescriptor | None:
        """A draft at once, for a file without bytes, which the kernel writes to; None where there is none to have, or
        it is not `wanted` in a tier that does not end by itself."""
        body = self._bodies.large(self._grants, 0)
        self._set_layers(body, self._ranges)
        if not isinstance(body, DraftBody) or not (wanted or body.hard_limit):
            return None
        backing = body.pin()
        os.utime(backing.number, ns=(mtime_ns, mtime_ns))
        return backing

    def watch_room(self) -> None:
        """Keeps room ahead of what the kernel writes to the draft. Raises BodyLostError, OSError(ENOSPC)."""
        if isinstance(self._body, DraftBody):
            self._body.watch_room()

    def current_version(self) -> Version:
        """The version that the namespace has now. Raises FileNotFoundError."""
        return self._bodies.current_version(self._file_id)

    def drop(self) -> None:
        """Gives up what is not published. Never raises."""
        if self._body is not None:
            self._body.drop()
        if self._below is not None:
            self._below.close()

    @property
    def write_type(self) -> WriteType:
        """Where the file goes by the rules of its path. May ask the master."""
        return self._grants.write_type

    @property
    def body(self) -> Body | None:
        """The upper layer, if anything was written."""
        return self._body

    # --- inside ---

    def _check_size(self, end: int) -> None:
        if end > DRAFT_BYTES_MAX:
            raise os_error(errno.EFBIG, f"no file written through a mount is longer than {DRAFT_BYTES_MAX} bytes")

    def _wrote(self, start: int, stop: int) -> None:
        self.length = max(self.length, stop)
        if self._ranges:
            self._ranges.remove(start, stop)
            if len(self._ranges) > FUSE_BASE_RANGES_MAX:
                self._whole_body()

    def _read_layers(self, offset: int, size: int) -> ReadBuffer:
        body, ranges = self._layers
        result = bytearray(max(0, size))
        view = memoryview(result)
        for start, stop, below in ranges.pieces(offset, offset + len(result)):
            target = view[start - offset : stop - offset]
            if below:
                assert self._below is not None
                self._below.read_into(start, target)
            elif body is not None:
                target[:] = body.read(start, stop - start)
        return result

    def _ready(self, end: int, size: int) -> Body:
        """The body, with room for `size` bytes up to `end`: begun, or replaced, if need be."""
        for _ in range(_BODIES_TRIED_MAX):
            body = self._body or self._begin(max(end, self.length), size)
            try:
                body.prepare(end, size)
                return body
            except (BodyFullError, BodyLostError):
                self._replace(body, size)
            except OSError as problem:
                if problem.errno not in _FULL or not self._bodies.may_spool(self._grants, body):
                    raise
                self._replace(body, size, self._bodies.spool(self._grants))
        raise os_error(errno.EIO, "the worker loses the file again and again while it is written: see its log")

    def _begin(self, end: int, size: int) -> Body:
        below = self._ranges.total
        body = self._bodies.small(self._grants, end)
        small = body is not None
        if body is None:
            copied = below if below <= self._bodies.settings.copy_ahead else 0
            body = self._bodies.large(self._grants, size + copied)
        try:
            if below and (small or below <= self._bodies.settings.copy_ahead):
                body.prepare(end, below)
                self._fill(body)
            else:
                self._set_layers(body, self._ranges)
        except BaseException:
            body.drop()
            raise
        return body

    def _whole_body(self) -> Body:
        """A body with all bytes in it."""
        if self._body is not None and self._body.is_frozen and not self._ranges:
            return self._body
        body = self._ready(self.length, self._ranges.total)
        if self._ranges:
            self._fill(body)
        return body

    def _fill(self, body: Body) -> None:
        """Copies up what still is of the version below; there must be room for it."""
        assert self._below is not None
        held, target = self._below.held(), body.descriptor
        for start, stop in self._ranges:
            if held is not None and target is not None:
                copy_data(held.number, target.number, start, stop)
                continue
            buffer = memoryview(bytearray(min(FUSE_COPY_BYTES, stop - start)))
            for at in range(start, stop, len(buffer)):
                view = buffer[: stop - at]
                self._below.read_into(at, view)
                body.write(at, view)
        self._set_layers(body, BaseRanges())
        self._leave_below()

    def _replace(self, old: Body, size: int, new: Body | None = None) -> None:
        """Goes on in another body: takes over all that was written, with room for `size` more bytes."""
        held = old.descriptor
        if new is None:
            new = self._bodies.large(self._grants, size)
        try:
            if held is None:
                data = memoryview(old.read(0, self.length))
                new.prepare(len(data), len(data))
                new.write(0, data)
            else:
                assert new.descriptor is not None
                new.prepare(self.length, os.fstat(held.number).st_blocks * 512)
                copy_data(held.number, new.descriptor.number, 0, self.length)
        except BaseException:
            new.drop()
            raise
        self._set_layers(new, self._ranges)
        old.drop()

    def _rest_on(self, body: Body, version: Version) -> None:
        """The draft is a version now: what is written next begins another one, over it."""
        assert body.descriptor is not None
        held = read_only(body.descriptor)  # nobody shall write to a version, by no mistake
        self._below = self._bodies.below(self._file_id, version, held)
        self._set_layers(None, BaseRanges(self.length))

    def _leave_below(self) -> None:
        if self._below is not None and not self._ranges:
            self._below.close()
            self._below = None

    def _set_layers(self, body: Body | None, ranges: BaseRanges) -> None:
        self._body, self._ranges = body, ranges
        self._layers = (body, ranges)


def _seek_body(body: Body | None, start: int, stop: int, hole: bool) -> int:
    if body is None:
        return start if hole else stop
    if body.descriptor is None:
        return stop if hole else start
    try:
        found = os.lseek(body.descriptor.number, start, os.SEEK_HOLE if hole else os.SEEK_DATA)
    except OSError as problem:
        if problem.errno != errno.ENXIO:
            raise
        return start if hole else stop
    return min(found, stop)
