"""What the object-store driver needs of a store: keys and bytes, no directories.

Owns: the port between the driver (which knows files and directories) and the two ways to reach a store: `ObstoreApi`
for any of them, and `S3Api`, which adds what obstore cannot say. Keys have no leading slash; only a marker ends in "/".
Never: sends anything itself.

Errors: FileNotFoundError for a missing key, StaleVersionError for a failed if-match, else UfsError and its subclasses.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from isotach.base.types import ReadBuffer
from isotach.ufs.interface import RangeReader


class ObjectEntry(msgspec.Struct, frozen=True, gc=False):
    """One object, or a common prefix: a key that ends in "/" and has `is_prefix` set."""

    key: str
    length: int = 0  # bytes
    mtime_ns: int = 0
    etag: str | None = None  # as the store gives it, with its quotes
    version_id: str | None = None
    is_prefix: bool = False


class Upload(Protocol):
    """A multipart upload. Parts are numbered from 0, and `put_part` may run in several threads at once."""

    def begin(self) -> str | None:
        """Starts it, if nothing has yet; the id by which `abort_upload` finds it, None where there is none."""
        ...

    def put_part(self, number: int, data: ReadBuffer) -> None: ...

    def complete(self) -> str | None:
        """Makes the object visible. Its ETag, when it is sure without asking for it."""

    def abort(self) -> bool:
        """Drops the parts; safe after a failure and when called twice. False when the store could not be told."""
        ...


class ObjectApi(Protocol):
    """One bucket."""

    @property
    def has_markers(self) -> bool:
        """Whether keys that end in "/" can be made and seen."""
        ...

    @property
    def parts_are_parallel(self) -> bool:
        """Whether `put_part` gains from being called by several threads (else it is called in order by one)."""
        ...

    def check(self, prefix: str, read_only: bool) -> None: ...

    @property
    def streams_ranges(self) -> bool:
        """Whether `open_range` receives as it is read."""
        ...

    def head(self, key: str) -> ObjectEntry: ...

    def get_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[ReadBuffer, ObjectEntry]:
        """The bytes, and the object's state as of this very answer. An offset at or past the end gives b""."""
        ...

    def open_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[RangeReader, ObjectEntry]:
        """The same, to be received piece by piece."""
        ...

    def put(self, key: str, data: ReadBuffer) -> str | None:
        """Stores a whole object, atomically. Its ETag, when the store tells."""

    def start_upload(self, key: str) -> Upload: ...

    def copy(self, source: ObjectEntry, target_key: str) -> None:
        """Server-side, of any size."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """No error for keys that are not there."""

    def list_children(self, prefix: str, start_after: str) -> Iterator[Sequence[ObjectEntry]]:
        """The objects and common prefixes directly below `prefix` ("" or ending in "/"), in key order, whose key is
        above `start_after` ("" for all), each once, in pages."""
        ...

    def list_all(self, prefix: str, keys_max: int | None = None) -> Iterator[Sequence[ObjectEntry]]:
        """Every object whose key starts with `prefix` ("" or ending in "/"), in key order, in pages of at most
        `keys_max` when given (for a caller that only asks whether there are any)."""
        ...

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drops the upload of a dead process; no error when it is gone."""

    def abort_stale_uploads(self, prefix: str, older_than_s: float) -> int:
        """Aborts multipart uploads begun that long ago; how many. 0 where the store cannot be asked."""
        ...

    def close(self) -> None: ...
