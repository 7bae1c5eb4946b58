"""The under-storage interface: what every driver offers, and what its callers may rely on.

Owns: the protocol, its value types and its promises (checked by the conformance suite in `isotach.testing.contracts`).
Never: talks to a store itself.

Drivers are blocking and thread-safe: the master and the workers call them from bounded thread pools, and the Rust or
kernel code underneath releases the GIL. Paths are relative to the root of the mount, without a leading slash; the
root itself is "". `str` with surrogateescape carries names of any bytes.

Errors, the only ones that cross this border: FileNotFoundError, FileExistsError, IsADirectoryError,
NotADirectoryError, PermissionError, OSError(ENOTEMPTY / ENOSPC / EROFS), and `UfsError` with its subclasses.
`is_transient` tells the retry wrapper what may be tried again.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from isotach.base.types import ReadBuffer


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do; callers ask instead of guessing by type."""

    atomic_rename: bool  # of one file, over an existing one
    real_directories: bool  # empty directories and directory mtimes exist
    object_store: bool  # rename is copy and delete; modes cannot be set
    set_mode: bool
    ranged_if_match: bool  # `read_range` checks the fingerprint in the store itself, at no cost
    streams_ranges: bool = False  # `open_range` receives as it is read; else it is `read_range`, given out in pieces


class UfsStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the under storage."""

    path: str  # relative to the root of the mount
    is_dir: bool
    length: int = 0  # bytes
    mtime_ns: int = 0
    fingerprint: str | None = None  # equal while the content is equal; None for a directory
    mode: int | None = None  # None where the store keeps none
    owner: str | None = None
    group: str | None = None


class UfsWriter(Protocol):
    """A streaming write. Nothing is visible under the final path until `commit`; a writer that is dropped, aborted
    or dies with its process leaves no visible file (leftovers are named so that they can be cleaned)."""

    @property
    def leftover(self) -> str | None:
        """By which `drop_leftover` finds what stays in the store if the process dies now, or after an `abort` that did
        not reach the store; None when there is nothing, or it goes by itself."""
        ...

    def write(self, data: ReadBuffer) -> None:
        """Appends; blocks while too many parts are in flight. The buffer may be reused once this returns."""

    def prepare(self) -> None:
        """Waits until every byte is stored; afterwards `commit` is short."""

    def commit(self) -> UfsStatus:
        """Makes the file visible, atomically, replacing any file of that name. Returns its new status."""

    def abort(self) -> None:
        """Drops all; safe to call more than once, and after a failure."""


class RangeReader(Protocol):
    """A range of one file, received as it is read. For one thread; to be closed whatever happened."""

    def read_into(self, view: memoryview) -> int:
        """Fills the start of `view` with what comes next; how many bytes, 0 at the end of the range or of the file."""
        ...

    def close(self) -> None:
        """Gives the connection back; in the middle of the range it drops it. Safe to call more than once."""


class UnderStorage(Protocol):
    """One mounted store."""

    @property
    def uri(self) -> str:
        """The root, without secrets and without a trailing slash."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def check(self, read_only: bool) -> None:
        """Called once at mount: raises within 10 s the error that says what is wrong (UfsUnreachableError,
        UfsAuthError, UfsBucketMissingError, NotADirectoryError)."""

    def stat(self, path: str) -> UfsStatus:
        """Raises FileNotFoundError. In an object store a prefix with objects below it is a directory."""
        ...

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        """The direct children, in pages of at most UFS_LIST_PAGE_ENTRIES, each child once, order unspecified across
        pages of a local folder, sorted by key in an object store. `start_after` is a child name, with a trailing "/"
        when that child was a directory: only children behind it (a directory stands in the key order as "name/").
        Raises FileNotFoundError (from the first page) and NotADirectoryError."""
        ...

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        """Every file below, in pages; directories only where they exist of themselves (folders, markers)."""
        ...

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        """At most `length` bytes from `offset` (fewer only at the end of the file). With a fingerprint: raises
        StaleVersionError when the file is not that content any more, before or after reading."""
        ...

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        """The same bytes and errors as `read_range`, piece by piece. An error may come from here or from the reader."""
        ...

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        """Starts a streaming write; missing parent directories are made."""
        ...

    def delete(self, path: str) -> None:
        """Removes one file. Raises FileNotFoundError, IsADirectoryError."""

    def delete_directory(self, path: str, recursive: bool) -> None:
        """Removes a directory. Raises FileNotFoundError, OSError(ENOTEMPTY)."""

    def rename(self, src: str, dst: str) -> None:
        """Moves a file (replacing a file) or a directory (not replacing a non-empty one) with all below it. In an
        object store: server-side copies, then deletes; running it again after a crash finishes the work."""

    def mkdir(self, path: str) -> None:
        """Makes the directory and its parents; no error when it is there already as a directory."""

    def set_mode(self, path: str, mode: int) -> None:
        """Sets permission bits where the store can; no effect elsewhere."""

    def clean_leftovers(self, older_than_s: float) -> int:
        """Removes temporary files and aborts multipart uploads of writers that died. Returns how many."""
        ...

    def drop_leftover(self, path: str, leftover: str) -> None:
        """Removes what a writer of `path` left that died. No error when it is gone already."""

    def is_transient(self, error: BaseException) -> bool:
        """Whether trying the same call again may help."""
        ...

    def close(self) -> None:
        """Releases connections and threads."""
