"""The streaming write of an object: small ones in one atomic PUT, larger ones in parts.

Owns: buffering, part sizes, how many parts are in flight, and that nothing is visible before `commit`.
Never: retries (the port retries parts), or keeps more than UFS_PARTS_IN_FLIGHT_MAX + 1 parts in memory.
"""

import threading
import time
from concurrent.futures import Executor, Future

from isotach.base.limits import MIB, UFS_PART_BYTES, UFS_PARTS_BEFORE_GROWTH, UFS_PARTS_IN_FLIGHT_MAX, UFS_PARTS_MAX
from isotach.base.types import ReadBuffer
from isotach.ufs.interface import UfsStatus
from isotach.ufs.objectstore.api import ObjectApi, ObjectEntry, Upload
from isotach.ufs.objectstore.part_buffers import PartBuffers
from isotach.ufs.objectstore.status import status_of


def part_bytes(number: int, size_hint: int | None) -> int:
    """How many bytes part `number` (from 0) has, so that the parts stay under the store's limit of 10,000.

    With a known size all parts are equal, as some stores insist; else the size doubles every 1,000 parts.
    """
    if size_hint is not None and size_hint <= UFS_PART_BYTES * UFS_PARTS_MAX * 9 // 10:
        return UFS_PART_BYTES
    if size_hint is not None:
        return -(-size_hint // (UFS_PARTS_MAX * 9 // 10) // MIB) * MIB
    return UFS_PART_BYTES << min(number // UFS_PARTS_BEFORE_GROWTH, 9)


class ObjectWriter:
    """`UfsWriter` of one object. Used by one thread at a time; part uploads run in `executor`."""

    def __init__(
        self,
        api: ObjectApi,
        key: str,
        path: str,
        size_hint: int | None,
        executor: Executor,
        buffers: PartBuffers | None = None,
    ) -> None:
        self._api = api
        self._buffers = buffers or PartBuffers()
        self._key = key
        self._path = path
        self._size_hint = size_hint
        self._executor = executor
        self._buffer = bytearray()
        self._filled = 0  # bytes in the buffer
        self._length = 0
        self._part_count = 0
        self._upload: Upload | None = None
        self.leftover: str | None = None
        self._pending: list[Future[None]] = []
        self._slots = threading.BoundedSemaphore(UFS_PARTS_IN_FLIGHT_MAX)
        self._is_over = False

    def write(self, data: ReadBuffer) -> None:
        self._require_open()
        with memoryview(data) as view, view.cast("B") as rest:
            start, self._length = 0, self._length + len(rest)
            while start < len(rest):
                room = part_bytes(self._part_count, self._size_hint) - self._filled
                if room <= 0:  # a full part leaves only when more follows: one part's worth stays a single PUT
                    self._send_part()
                    continue
                size = min(room, len(rest) - start)
                self._make_room(size)
                self._buffer[self._filled : self._filled + size] = rest[start : start + size]
                self._filled += size
                start += size

    def _make_room(self, size: int) -> None:
        """A small file gets what it needs; whatever is larger than its first bytes a whole part from the stock."""
        if self._filled + size <= len(self._buffer):
            return
        part = part_bytes(self._part_count, self._size_hint)
        hint = self._size_hint
        small = not self._filled and hint is not None and size <= hint < part // 2
        buffer = bytearray(hint or size) if small else self._buffers.take(part)
        buffer[: self._filled] = self._buffer[: self._filled]
        self._buffer = buffer

    def prepare(self) -> None:
        self._require_open()
        if self._upload is None:
            return  # one short PUT in commit: S3 has no hidden place for it before
        if self._filled:
            self._send_part()
        self._wait_for_parts()

    def commit(self) -> UfsStatus:
        self.prepare()
        self._is_over = True
        if self._upload is None:
            etag = self._api.put(self._key, memoryview(self._buffer)[: self._filled])
        else:
            etag = self._upload.complete()
        self._upload = self.leftover = None
        self._drop_buffer()
        if etag is None:
            return status_of(self._api.head(self._key), self._path)
        now_ns = int(time.time()) * 1_000_000_000
        return status_of(ObjectEntry(self._key, self._length, now_ns, etag), self._path)

    def abort(self) -> None:
        self._is_over = True
        self._drop_buffer()
        for future in self._pending:
            future.cancel()
        for future in self._pending:
            if not future.cancelled():
                future.exception()  # a part that arrives after the abort would stay for ever: wait for it
        self._pending = []
        upload, self._upload = self._upload, None
        if upload is not None and upload.abort():
            self.leftover = None

    def __del__(self) -> None:
        # A writer that is dropped leaves nothing: its parts are aborted, as far as the interpreter still lives.
        if not self._is_over and self._upload is not None:
            self.abort()

    def _require_open(self) -> None:
        if self._is_over:
            raise ValueError("the writer was committed or aborted: open another one")

    def _send_part(self) -> None:
        if self._upload is None:
            self._upload = self._api.start_upload(self._key)
            self.leftover = self._upload.begin()
        number, buffer, size = self._part_count, self._buffer, self._filled
        self._part_count += 1
        self._buffer, self._filled = bytearray(), 0
        if not self._api.parts_are_parallel:
            self._upload.put_part(number, bytes(memoryview(buffer)[:size]))  # it may keep what it is given
            self._buffers.give_back(buffer)
            return
        self._raise_failed_parts()
        self._slots.acquire()
        future = self._executor.submit(self._put_part, self._upload, number, buffer, size)
        future.add_done_callback(lambda _: self._slots.release())
        self._pending.append(future)

    def _put_part(self, upload: Upload, number: int, buffer: bytearray, size: int) -> None:
        with memoryview(buffer) as view, view[:size] as data:
            upload.put_part(number, data)
        self._buffers.give_back(buffer)  # after a failure it is not given back: who knows who still sends it

    def _drop_buffer(self) -> None:
        self._buffers.give_back(self._buffer)
        self._buffer, self._filled = bytearray(), 0

    def _raise_failed_parts(self) -> None:
        done = [future for future in self._pending if future.done()]
        self._pending = [future for future in self._pending if not future.done()]
        for future in done:
            future.result()

    def _wait_for_parts(self) -> None:
        while self._pending:
            self._pending.pop(0).result()
