"""Files being written, each shared by every node and call of this mount that has it open.

Owns: how many hold a live file, and that its end is awaited by who would begin the next. Never: its content.
"""

import threading
from collections.abc import Callable
from typing import Final

from isotach.base.types import FileId, Inode
from isotach.fuse.contract import LiveFile


class SharedLive:
    """One live file and who holds it. `publishing`: so many calls publish it at this moment: whatever version the
    namespace has then may be theirs."""

    __slots__ = ("file_id", "holds", "live", "over", "publishing")

    def __init__(self, file_id: FileId, live: LiveFile) -> None:
        self.file_id: Final = file_id
        self.live: Final = live
        self.publishing = 0
        self.holds = 1
        self.over: threading.Event | None = None  # set once it has ended; there while it ends


class Lives:
    """The live files of a mount."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._lives: Final[dict[FileId, SharedLive]] = {}

    def find(self, file_id: FileId) -> SharedLive | None:
        """The file if it is being written, also while its last content is being published."""
        return self._lives.get(file_id)

    def take(self, file_id: FileId, begin: Callable[[], LiveFile]) -> tuple[SharedLive, bool]:
        """The file, held once more; begun if nobody has it. True: it was begun. Waits for the end of one that ends:
        see `is_ending`. Raises what `begin` raises."""
        while True:
            with self._lock:
                found = self._lives.get(file_id)
                if found is None:
                    made = self._lives[file_id] = SharedLive(file_id, begin())
                    return made, True
                if found.over is None:
                    found.holds += 1
                    return found, False
                over = found.over
            over.wait()

    def hold(self, file_id: FileId) -> SharedLive | None:
        """The file held once more if it is being written and does not end."""
        with self._lock:
            found = self._lives.get(file_id)
            if found is None or found.over is not None:
                return None
            found.holds += 1
            return found

    def hold_more(self, shared: SharedLive) -> SharedLive:
        """The same, held once more: by who holds it already."""
        with self._lock:
            shared.holds += 1
        return shared

    def is_ending(self, file_id: FileId) -> bool:
        """Whether `take` would wait."""
        found = self._lives.get(file_id)
        return found is not None and found.over is not None

    def wait_for_end(self, file_id: FileId) -> None:
        """Returns once the file does not end (any more)."""
        found = self._lives.get(file_id)
        if found is not None and found.over is not None:
            found.over.wait()

    def leave(self, shared: SharedLive) -> bool:
        """One hold less. True: it was the last one, and the caller must call `end`."""
        with self._lock:
            shared.holds -= 1
            if shared.holds:
                return False
            shared.over = threading.Event()
            return True

    def end(self, shared: SharedLive) -> Inode | None:
        """Publishes what is left and ends it. May take long."""
        try:
            return shared.live.close()
        finally:
            with self._lock:
                del self._lives[shared.file_id]
            if shared.over is not None:
                shared.over.set()

    def all(self) -> list[SharedLive]:
        """Every live file, for the end of the mount."""
        with self._lock:
            return list(self._lives.values())
