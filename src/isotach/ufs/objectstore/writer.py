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

    def __init__(self, api: ObjectApi, key: str, path: str, size_hint: int | None, executor: Executor) -> None:
        self._api = api
        self._key = key
        self._path = path
        self._size_hint = size_hint
        self._executor = executor
        self._buffer = bytearray()
        self._length = 0
        self._part_count = 0
        self._upload: Upload | None = None
        self._pending: list[Future[None]] = []
        self._slots = threading.BoundedSemaphore(UFS_PARTS_IN_FLIGHT_MAX)
        self._is_over = False

    def write(self, data: ReadBuffer) -> None:
        self._require_open()
        with memoryview(data) as view, view.cast("B") as rest:
            start, self._length = 0, self._length + len(rest)
            while start < len(rest):
                room = part_bytes(self._part_count, self._size_hint) - len(self._buffer)
                if room <= 0:  # a full part leaves only when more follows: one part's worth stays a single PUT
                    self._send_part()
                    continue
                self._buffer += rest[start : start + room]
                start += room

    def prepare(self) -> None:
        self._require_open()
        if self._upload is None:
            return  # one short PUT in commit: S3 has no hidden place for it before
        if self._buffer:
            self._send_part()
        self._wait_for_parts()

    def commit(self) -> UfsStatus:
        self.prepare()
        self._is_over = True
        etag = self._api.put(self._key, bytes(self._buffer)) if self._upload is None else self._upload.complete()
        self._upload = None
        self._buffer = bytearray()
        if etag is None:
            return status_of(self._api.head(self._key), self._path)
        now_ns = int(time.time()) * 1_000_000_000
        return status_of(ObjectEntry(self._key, self._length, now_ns, etag), self._path)

    def abort(self) -> None:
        self._is_over = True
        self._buffer = bytearray()
        for future in self._pending:
            future.cancel()
        for future in self._pending:
            if not future.cancelled():
                future.exception()  # a part that arrives after the abort would stay for ever: wait for it
        self._pending = []
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.abort()

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
        number, data = self._part_count, self._buffer
        self._part_count += 1
        self._buffer = bytearray()
        if not self._api.parts_are_parallel:
            self._upload.put_part(number, data)
            return
        self._raise_failed_parts()
        self._slots.acquire()
        future = self._executor.submit(self._upload.put_part, number, data)
        future.add_done_callback(lambda _: self._slots.release())
        self._pending.append(future)

    def _raise_failed_parts(self) -> None:
        done = [future for future in self._pending if future.done()]
        self._pending = [future for future in self._pending if not future.done()]
        for future in done:
            future.result()

    def _wait_for_parts(self) -> None:
        while self._pending:
            self._pending.pop(0).result()
