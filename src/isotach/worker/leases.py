"""Keeping open the commits whose under storage takes long over the last step.

Owns: one thread that renews them while they last. Never: begins or ends a commit (`committer.py` does).

Without it the master would take a slow store's commit for a dead worker's, free the path, and the file could appear
after it was removed. A commit that is over in COMMIT_RENEW_S, as nearly all are, costs two dictionary operations.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from isotach.base.errors import IsotachError
from isotach.base.limits import COMMIT_RENEW_S
from isotach.base.types import Version
from isotach.obs.log import get_logger

log = get_logger("worker.leases")


class Leases:
    """One per worker; any thread. `renew` tells the master that the commit of a version goes on."""

    def __init__(self, renew: Callable[[Version], None], interval_s: float = COMMIT_RENEW_S) -> None:
        self._renew: Final = renew
        self._interval_s: Final = interval_s
        self._held: dict[Version, int] = {}  # rounds of renewal so far
        self._changed: Final = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Renews nothing any more: the worker is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def held(self, version: Version) -> Iterator[None]:
        """For the length of a `with` block."""
        with self._changed:
            self._held[version] = 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
            elif len(self._held) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._held.pop(version, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._held and not self._closed:
                    self._changed.wait()
                self._changed.wait_for(lambda: self._closed, self._interval_s)
                if self._closed:
                    return
                late = [version for version, rounds in self._held.items() if rounds]
                self._held = {version: rounds + 1 for version, rounds in self._held.items()}
            for version in late:
                try:
                    self._renew(version)
                except (IsotachError, OSError) as error:
                    log.warning("lease_not_renewed", version=version, error=error)
