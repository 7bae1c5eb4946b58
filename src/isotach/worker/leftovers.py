"""What this worker's writers would leave in an under storage if the process died: noted while it is there.

Owns: the notes, one small file each in `<worker dir>/leftovers`, and dropping what they name: at the start what a dead
process left, later what could not be dropped at once. Never: touches an upload that this worker did not begin: a bucket
may be in use by others, and nothing in it tells whose upload is whose.

A small new file is never in a store by halves, and costs no note. A worker that never comes back leaves its notes and
uploads: give the bucket a life-cycle rule for incomplete uploads.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.limits import LEFTOVERS_RETRY_S
from isotach.base.types import MountId, ReadBuffer
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UfsWriter, UnderStorage

log = get_logger("worker.leftovers")


class _Note(msgspec.Struct, array_like=True, frozen=True):
    mount_id: MountId
    path: bytes
    leftover: bytes


class Leftovers:
    """One per worker; any thread. Gives writers that are noted."""

    def __init__(self, folder: Path, storage: Callable[[MountId], UnderStorage]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder: Final = folder
        self._storage: Final = storage
        self._stop: Final = threading.Event()
        self._waiting: set[Path] = set(folder.iterdir())  # of a former process
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to drop what is left, in the background."""
        self._thread = threading.Thread(target=self._run, name="leftovers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what is left then is dropped by the next process."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def opener(self, mount_id: MountId) -> Callable[[str, int | None], UfsWriter]:
        """The storage's `open_write`, noted. Raises what looking up the mount does."""
        storage = self._storage(mount_id)

        def open_write(path: str, size_hint: int | None) -> UfsWriter:
            return _NotedWriter(storage.open_write(path, size_hint), self, mount_id, path)

        return open_write

    def note(self, mount_id: MountId, path: str, leftover: str) -> Path:
        """Writes a note; give it to `forget` or `drop_later`."""
        note = self._folder / uuid4().hex
        note.write_bytes(msgspec.msgpack.encode(_Note(mount_id, os.fsencode(path), os.fsencode(leftover))))
        return note

    def forget(self, note: Path) -> None:
        """It is visible, or gone."""
        note.unlink(missing_ok=True)

    def drop_later(self, note: Path) -> None:
        """It could not be dropped: it is tried again until it can."""
        self._waiting.add(note)

    def _run(self) -> None:
        while True:
            for note in list(self._waiting):
                if self._stop.is_set():
                    return
                if self._is_dropped(note):
                    self._waiting.discard(note)
                    self.forget(note)
            if self._stop.wait(LEFTOVERS_RETRY_S):
                return

    def _is_dropped(self, note: Path) -> bool:
        try:
            known = msgspec.msgpack.decode(note.read_bytes(), type=_Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return True  # its process died while it wrote the note
        path = os.fsdecode(known.path)
        try:
            self._storage(known.mount_id).drop_leftover(path, os.fsdecode(known.leftover))
        except (IsotachError, OSError) as error:
            log.warning("leftover_stays", path=path, error=error)
            return False
        log.info("leftover_dropped", path=path)
        return True


class _NotedWriter:
    """`UfsWriter` that is noted as soon as there is something to leave behind."""

    def __init__(self, inner: UfsWriter, leftovers: Leftovers, mount_id: MountId, path: str) -> None:
        self._inner: Final = inner
        self._leftovers: Final = leftovers
        self._mount_id: Final = mount_id
        self._path: Final = path
        self._note: Path | None = None
        self._keep_note()

    @property
    def leftover(self) -> str | None:
        return self._inner.leftover

    def write(self, data: ReadBuffer) -> None:
        self._inner.write(data)
        self._keep_note()

    def prepare(self) -> None:
        self._inner.prepare()
        self._keep_note()

    def commit(self) -> UfsStatus:
        status = self._inner.commit()
        self._drop_note()
        return status

    def abort(self) -> None:
        self._inner.abort()
        self._drop_note()

    def _keep_note(self) -> None:
        if self._note is None and (leftover := self._inner.leftover) is not None:
            self._note = self._leftovers.note(self._mount_id, self._path, leftover)

    def _drop_note(self) -> None:
        note, self._note = self._note, None
        if note is None:
            return
        if self._inner.leftover is None:
            self._leftovers.forget(note)
        else:
            self._leftovers.drop_later(note)
