"""The under storage in an object store: files are objects, directories are prefixes and markers.

Owns: the directory semantics over `ObjectApi`. A directory exists while a key starts with its prefix; `mkdir`
puts a marker, so that it exists while empty. Where an object and a prefix share a name, the object is seen.
Never: speaks to a store but through the port, or shows keys that no namespace can hold (empty, `.` or `..` components).
"""

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from isotach.base.errors import StaleVersionError, UfsBucketMissingError, UfsError, os_error
from isotach.base.limits import UFS_MOUNT_CHECK_TIMEOUT_S, UFS_THREADS
from isotach.base.types import ReadBuffer
from isotach.obs.log import get_logger
from isotach.ufs.deadline import run_within
from isotach.ufs.interface import Capabilities, RangeReader, UfsStatus, UfsWriter
from isotach.ufs.objectstore import tree
from isotach.ufs.objectstore.api import ObjectApi, ObjectEntry
from isotach.ufs.objectstore.faults import is_transient
from isotach.ufs.objectstore.keys import DIRECTORY_NAME, KeySpace, is_hidden, is_legal_name
from isotach.ufs.objectstore.part_buffers import PartBuffers
from isotach.ufs.objectstore.status import etag_of, fingerprint_of, status_of
from isotach.ufs.objectstore.writer import ObjectWriter
from isotach.ufs.ranges import WholeRange

log = get_logger("ufs.objectstore")

CAPABILITIES: Final = Capabilities(
    atomic_rename=False, real_directories=False, object_store=True, set_mode=False, ranged_if_match=True
)


class ObjectUnderStorage:
    """`UnderStorage` over one bucket and prefix."""

    def __init__(self, api: ObjectApi, uri: str, prefix: str, check_hint: str = "") -> None:
        self._api = api
        self._check_hint = check_hint
        self._uri = uri
        self._capabilities = msgspec.structs.replace(CAPABILITIES, streams_ranges=api.streams_ranges)
        self._prefix = prefix
        self._keys = KeySpace(prefix, api.has_markers)
        self._buffers = PartBuffers()
        self._executor = ThreadPoolExecutor(UFS_THREADS, thread_name_prefix="ufs-object")

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def check(self, read_only: bool) -> None:
        """Lists one key. What `check_hint` says is added to a failure to get an answer."""
        try:
            run_within(UFS_MOUNT_CHECK_TIMEOUT_S, self._uri, lambda: self._api.check(self._keys.prefix(""), read_only))
        except UfsBucketMissingError:
            raise
        except UfsError as error:
            if not self._check_hint:
                raise
            message = f"{error.strerror}; {self._check_hint}"
            raise type(error)(error.errno, message, error.filename) from None

    def stat(self, path: str) -> UfsStatus:
        if path:
            key = self._keys.existing_key(path)
            try:
                return status_of(self._api.head(key), path)
            except FileNotFoundError:
                if not tree.has_keys(self._api, self._keys.prefix(path)):
                    raise
        return UfsStatus(path=path, is_dir=True)

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        prefix = self._keys.existing_prefix(path)
        is_known, names_above = False, _FileNames()
        for entries in self._api.list_children(prefix, prefix + start_after if start_after else ""):
            is_known = is_known or bool(entries)
            page = [
                self._child_status(entry)
                for entry in entries
                if self._is_shown(entry, prefix, start_after) and names_above.admits(entry)
            ]
            if page:
                yield page
        if not is_known:
            self._require_directory(path)

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        prefix = self._keys.existing_prefix(path)
        is_known = False
        for entries in self._api.list_all(prefix):
            is_known = is_known or bool(entries)
            page = [status for entry in entries if (status := self._walked_status(entry, prefix)) is not None]
            if page:
                yield page
        if not is_known:
            self._require_directory(path)

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        key = self._keys.existing_key(path)
        if length <= 0:
            offset, length = 0, 1  # no store gives an empty range: ask for a byte, to learn of the file's state
            self._verified(key, offset, length, fingerprint, path)
            return b""
        return self._verified(key, offset, length, fingerprint, path)

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        if length <= 0:
            return WholeRange(self.read_range(path, offset, length, fingerprint))
        reader, entry = self._api.open_range(self._keys.existing_key(path), offset, length, etag_of(fingerprint))
        try:
            self._require_same(entry, fingerprint, path)
        except StaleVersionError:
            reader.close()
            raise
        return reader

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        return ObjectWriter(self._api, self._keys.key(path), path, size_hint, self._executor, self._buffers)

    def delete(self, path: str) -> None:
        if self.stat(path).is_dir:
            raise os_error(errno.EISDIR, "is a directory: remove it as one", path)
        self._api.delete_many([self._keys.key(path)])

    def delete_directory(self, path: str, recursive: bool) -> None:
        self._refuse_root(path)
        prefix, marker = self._keys.prefix(path), self._keys.marker(path)
        is_empty = tree.is_empty_tree(self._api, prefix, marker)
        if is_empty is None:
            self._require_directory(path)
        if is_empty is False and not recursive:
            raise os_error(errno.ENOTEMPTY, "the directory is not empty: remove its entries first", path)
        if is_empty is False:
            tree.delete_tree(self._api, prefix)
        else:
            self._api.delete_many([marker])

    def rename(self, src: str, dst: str) -> None:
        self._refuse_root(src)
        self._refuse_root(dst)
        if src == dst:
            self.stat(src)
            return
        if dst.startswith(f"{src}/"):
            raise os_error(errno.EINVAL, "a directory cannot be moved into itself: choose another target", dst)
        target_key = self._keys.key(dst)
        target_is_dir = self._is_directory(dst)
        try:
            source_is_dir = self.stat(src).is_dir
        except FileNotFoundError:
            if tree.finish_rename(self._api, self._keys, src, dst):
                return  # an earlier run had only its last step left
            raise
        if source_is_dir:
            if target_is_dir is False:
                raise os_error(errno.ENOTDIR, "the target is a file: remove it first", dst)
            tree.rename_tree(self._api, self._keys, src, dst, self._executor)
            return
        if target_is_dir:
            raise os_error(errno.EISDIR, "the target is a directory: give the full name of the file", dst)
        source = self._api.head(self._keys.key(src))
        self._api.copy(source, target_key)
        self._api.delete_many([source.key])

    def mkdir(self, path: str) -> None:
        """Puts markers for the directory and its parents (up to the first that is there)."""
        while path:
            is_dir = self._is_directory(path)
            if is_dir is False:
                raise os_error(errno.EEXIST, "a file of that name is in the way: remove it first", path)
            if is_dir:
                return
            self._api.put(self._keys.marker(path), b"")
            path = path.rpartition("/")[0]
            if self._parent_file(path):
                raise os_error(errno.ENOTDIR, "a parent of that name is a file: remove it first", path)

    def set_mode(self, path: str, mode: int) -> None:
        return

    def clean_leftovers(self, older_than_s: float) -> int:
        return self._api.abort_stale_uploads(self._keys.prefix(""), older_than_s)

    def drop_leftover(self, path: str, leftover: str) -> None:
        self._api.abort_upload(self._keys.key(path), leftover)

    def is_transient(self, error: BaseException) -> bool:
        return is_transient(error)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    def _verified(self, key: str, offset: int, length: int, fingerprint: str | None, path: str) -> ReadBuffer:
        data, entry = self._api.get_range(key, offset, length, etag_of(fingerprint))
        self._require_same(entry, fingerprint, path)
        return data

    def _require_same(self, entry: ObjectEntry, fingerprint: str | None, path: str) -> None:
        if fingerprint is not None and fingerprint_of(entry) != fingerprint:
            raise StaleVersionError(
                errno.ESTALE, "the object is not that content any more: look the path up again", path
            )

    def _child_status(self, entry: ObjectEntry) -> UfsStatus:
        path = self._keys.path(entry.key)
        return UfsStatus(path=path, is_dir=True) if entry.key.endswith("/") else status_of(entry, path)

    def _walked_status(self, entry: ObjectEntry, prefix: str) -> UfsStatus | None:
        """What a walk shows for a key: files, and directories for their markers."""
        key = entry.key
        if not self._api.has_markers and key.endswith(f"/{DIRECTORY_NAME}"):
            key = key.removesuffix(DIRECTORY_NAME)
        if key == prefix or not self._is_visible(key[len(prefix) :]):
            return None
        return self._child_status(entry if key == entry.key else ObjectEntry(key, is_prefix=True))

    def _is_shown(self, entry: ObjectEntry, prefix: str, start_after: str) -> bool:
        name = entry.key[len(prefix) :].removesuffix("/")
        return entry.key != prefix and name != start_after.removesuffix("/") and self._is_visible(name)

    def _is_visible(self, relative: str) -> bool:
        names = relative.removesuffix("/").split("/")
        if is_hidden(names[-1]):
            return False
        if all(is_legal_name(name) for name in names):
            return True
        log.debug("ufs_key_not_shown", uri=self._uri, key=relative)
        return False

    def _is_directory(self, path: str) -> bool | None:
        """True, False for a file, None when nothing is there."""
        try:
            return self.stat(path).is_dir
        except FileNotFoundError:
            return None

    def _parent_file(self, path: str) -> bool:
        return bool(path) and self._is_directory(path) is False

    def _require_directory(self, path: str) -> None:
        """Raises what is right for a listing of nothing."""
        if path and not self.stat(path).is_dir:
            raise os_error(errno.ENOTDIR, "not a directory", path)

    def _refuse_root(self, path: str) -> None:
        if not path:
            raise os_error(errno.EACCES, "the root of a mount is not moved or removed: unmount it instead", self._uri)


class _FileNames:
    """Drops a prefix whose name an object has too. In key order other names may stand between "d" and "d/" ("d-x"), but
    all of them start with "d": so a stack of the files that the current key starts with is enough."""

    def __init__(self) -> None:
        self._open: list[str] = []

    def admits(self, entry: ObjectEntry) -> bool:
        key = entry.key
        while self._open and not key.startswith(self._open[-1]):
            self._open.pop()
        if entry.is_prefix:
            return key[:-1] not in self._open
        self._open.append(key)
        return True
