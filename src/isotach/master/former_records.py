"""What entries were before a batch changed them, read at the one moment when that is certain.

Owns: the reading of the old records, in the writer thread, just before the store's commit. Never: keeps them, or
changes what is committed.

On the event loop nobody can tell: when it hears of a batch, the writer may have committed the next one. Only the
writer thread stands exactly between two batches. It reads only while somebody follows the changes.
"""

from collections import deque
from typing import Final

from isotach.kv.interface import Batch, KeyValueStore
from isotach.master.change_ring import ENTRY_MARK, Former


class FormerRecords:
    """A journal (`pipeline.Journal`) that commits to the store, and reads first what it will overwrite. `watched` is
    set from the loop, and holds from the next batch on."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store: Final = store
        self._taken: Final[deque[tuple[int, Former]]] = deque()  # of batches that are durable, the oldest first
        self._index = 0  # of the last durable batch, as `CommitPipeline.on_commit` counts
        self.watched = False

    def append(self, batch: Batch) -> None:
        """See `Journal.append`."""
        former = self._read(batch) if self.watched else None
        self._store.commit(batch)
        self._index += 1
        if former is not None:
            self._taken.append((self._index, former))

    def take(self, index: int) -> Former | None:
        """Of the batch of that index, asked for in order, once; None: it was not watched."""
        taken = self._taken
        while taken and taken[0][0] < index:
            taken.popleft()
        return taken.popleft()[1] if taken and taken[0][0] == index else None

    def _read(self, batch: Batch) -> Former:
        found: dict[bytes, bytes] = {}
        with self._store.snapshot() as snapshot:
            get = snapshot.get
            for key, _ in batch:
                if key[0] == ENTRY_MARK and (old := get(key)) is not None:
                    found[key] = old
        return found
