"""What object stores lack: operations on whole directories, done key by key.

Owns: the order of copies and deletes, so that a crash in between leaves something that running again finishes.
Never: holds more than one page of keys.

A directory rename works page by page: copy the page, delete its sources. From before the first copy until the end the
target holds the object `.isotach-rename` with the source's path in it: that is how a second run tells its own half-done
work from a directory that was there before, which a rename must not touch.
"""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

from isotach.base.errors import os_error
from isotach.base.limits import UFS_THREADS
from isotach.ufs.objectstore.api import ObjectApi, ObjectEntry
from isotach.ufs.objectstore.keys import RENAME_NAME, KeySpace

_SOURCE_PATH_BYTES_MAX = 8192


def has_keys(api: ObjectApi, prefix: str) -> bool:
    """Whether any key starts with `prefix`."""
    return any(api.list_all(prefix, keys_max=1))


def delete_tree(api: ObjectApi, prefix: str) -> None:
    """Deletes every key below, page by page."""
    sweeper = _Sweeper(api, prefix)
    for page in api.list_all(prefix):
        sweeper.delete(page)
    sweeper.finish()


def rename_tree(api: ObjectApi, keys: KeySpace, src: str, dst: str, executor: Executor) -> None:
    """Moves every key below directory `src` to below `dst`. Raises OSError(ENOTEMPTY) for a non-empty `dst`."""
    source, target = keys.prefix(src), keys.prefix(dst)
    intent = target + RENAME_NAME
    if not _is_resumed(api, intent, src):
        marker = keys.marker(dst)
        if any(entry.key != marker for page in api.list_all(target, keys_max=2) for entry in page):
            raise os_error(errno.ENOTEMPTY, "the target directory is not empty: remove its entries first", dst)
        api.put(intent, src.encode())
    sweeper = _Sweeper(api, source)
    for page in api.list_all(source):
        _copy_page(api, page, source, target, executor)
        sweeper.delete(page)
    sweeper.finish()
    api.delete_many([intent])


def finish_rename(api: ObjectApi, keys: KeySpace, src: str, dst: str) -> bool:
    """Whether `dst` is where an earlier run moved all of `src` to; takes away what that run left."""
    intent = keys.prefix(dst) + RENAME_NAME
    if not _is_resumed(api, intent, src):
        return False
    api.delete_many([intent])
    return True


def is_empty_tree(api: ObjectApi, prefix: str, marker: str) -> bool | None:
    """Whether a directory holds nothing but its marker; None when it is not there at all."""
    found = False
    for page in api.list_all(prefix, keys_max=2):
        for entry in page:
            if entry.key != marker:
                return False
            found = True
    return True if found else None


class _Sweeper:
    """Deletes pages of keys in key order, and behind them the markers of the directories that they were in.

    Some stores (SeaweedFS) keep real folders and go on listing an empty one as a prefix until its own key is deleted;
    elsewhere deleting a marker that is not there costs nothing: it travels with the next page.
    """

    def __init__(self, api: ObjectApi, prefix: str) -> None:
        self._api = api
        self._open: list[str] = [prefix] if prefix else []  # directories of the last key, outermost first
        self._left: list[str] = []  # directories that no later key is in, innermost first

    def delete(self, page: Sequence[ObjectEntry]) -> None:
        for entry in page:
            self._visit(entry.key)
        if page:
            self._api.delete_many([entry.key for entry in page])
            self._delete_left()

    def finish(self) -> None:
        self._left.extend(reversed(self._open))
        self._delete_left()

    def _visit(self, key: str) -> None:
        while self._open and not key.startswith(self._open[-1]):
            self._left.append(self._open.pop())
        start = len(self._open[-1]) if self._open else 0
        while (slash := key.find("/", start)) >= 0:
            self._open.append(key[: slash + 1])
            start = slash + 1

    def _delete_left(self) -> None:
        if self._left and self._api.has_markers:
            self._api.delete_many(self._left)
        self._left = []


def _copy_page(api: ObjectApi, page: Sequence[ObjectEntry], source: str, target: str, executor: Executor) -> None:
    def copy(entry: ObjectEntry) -> None:
        target_key = target + entry.key[len(source) :]
        if entry.key.endswith("/"):
            api.put(target_key, b"")
        else:
            api.copy(entry, target_key)

    for slice_ in _slices(page, UFS_THREADS):
        for future in [executor.submit(copy, entry) for entry in slice_]:
            future.result()


def _slices(page: Sequence[ObjectEntry], size: int) -> Iterator[Sequence[ObjectEntry]]:
    return (page[start : start + size] for start in range(0, len(page), size))


def _is_resumed(api: ObjectApi, intent: str, src: str) -> bool:
    try:
        data, _ = api.get_range(intent, 0, _SOURCE_PATH_BYTES_MAX, None)
    except FileNotFoundError:
        return False
    return bytes(data) == src.encode()
