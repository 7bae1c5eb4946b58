"""Reads of files for which no open came: training mounts, and handles of before a restart of the daemon.

Owns: a bounded number of contents by file. Never: notices by itself that a file changed: the feed says so.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from isotach.base.limits import FUSE_UNOPENED_CONTENTS_MAX
from isotach.base.types import FileId, Inode, ReadBuffer, Version
from isotach.fuse.files.content import Content, WholeContent


class UnopenedReads:
    """The contents that such reads come from, those used last. Thread-safe."""

    def __init__(
        self,
        make: Callable[[FileId], tuple[Inode, Content]],
        container_now: Callable[[FileId], tuple[Inode, int] | None],
    ) -> None:
        """`make` gives a file's content, after long perhaps; `container_now` its record and a descriptor of the whole
        container, or None where somebody must be asked."""
        self._make: Final = make
        self._container_now: Final = container_now
        self._lock: Final = threading.Lock()
        self._contents: Final[OrderedDict[FileId, tuple[Version, Content]]] = OrderedDict()

    def read_now(self, file_id: FileId, offset: int, size: int) -> ReadBuffer | None:
        """The bytes if they are at hand; None: `read` must fetch them."""
        with self._lock:
            kept = self._contents.get(file_id)
            if kept is not None:
                self._contents.move_to_end(file_id)
                return kept[1].read_now(offset, size)
        found = self._container_now(file_id)
        if found is None:
            return None
        inode, descriptor = found
        if offset == 0 and size >= inode.length:  # all of it at once: the kernel keeps it, nobody asks again
            try:
                return os.pread(descriptor, inode.length, 0)
            finally:
                os.close(descriptor)
        return self._keep(file_id, inode.version, WholeContent(descriptor, inode.length))[1].read_now(offset, size)

    def read(self, file_id: FileId, offset: int, size: int) -> ReadBuffer:
        """The bytes, fewer at the end. May take long. Raises OSError, IsotachError."""
        with self._lock:
            kept = self._contents.get(file_id)
        if kept is None:
            inode, content = self._make(file_id)
            kept = self._keep(file_id, inode.version, content)
        return kept[1].read(offset, size)

    def forget(self, file_id: FileId) -> None:
        """The file changed, or is gone: the next read opens it anew."""
        if file_id in self._contents:
            with self._lock:
                kept = self._contents.pop(file_id, None)
            if kept is not None:
                kept[1].close()

    def close(self) -> None:
        """Ends all."""
        with self._lock:
            contents = [kept[1] for kept in self._contents.values()]
            self._contents.clear()
        for content in contents:
            content.close()

    def _keep(self, file_id: FileId, version: Version, content: Content) -> tuple[Version, Content]:
        ended: list[Content] = []
        with self._lock:
            former = self._contents.get(file_id)
            if former is not None and former[0] == version:  # another thread was quicker
                kept = former
                ended.append(content)
            else:
                if former is not None:
                    ended.append(former[1])
                kept = self._contents[file_id] = version, content
            self._contents.move_to_end(file_id)
            while len(self._contents) > FUSE_UNOPENED_CONTENTS_MAX:
                ended.append(self._contents.popitem(last=False)[1][1])
        for one in ended:
            one.close()
        return kept
