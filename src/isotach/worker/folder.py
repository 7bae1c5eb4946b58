"""The worker's own folder: whose it is, and the worker's lasting identity.

Owns: `<dir>/worker/lock` (held while the worker runs) and `<dir>/worker/id`. Never: anything in the tiers' folders.
"""

import fcntl
import os
import uuid
from pathlib import Path

from isotach.base.errors import AlreadyRunningError


class WorkerFolder:
    """Open while this process owns the folder; the kernel frees it however the process ends.

    Raises AlreadyRunningError that names the other worker's process id.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise AlreadyRunningError(
                f"{path} is in use by the worker with process id {owner}: stop it first, or give another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self.worker_id = _lasting_id(path / "id")

    def close(self) -> None:
        """Leaves the folder to the next worker."""
        os.close(self._lock)


def _lasting_id(path: Path) -> str:
    try:
        found = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = ""
    if not found:
        found = f"worker-{uuid.uuid4().hex[:16]}"
        scratch = path.with_suffix(".new")
        scratch.write_text(found + "\n", encoding="ascii")
        scratch.replace(path)
    return found
