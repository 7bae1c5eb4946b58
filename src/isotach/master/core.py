"""What nearly every service of the master needs, in one place.

Owns: nothing of its own; it bundles the store, the commit pipeline, the ids, the clock, who is who, and the background
tasks. Never: grows services (they are arguments of one another, see `server.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from isotach.kv.interface import KeyValueStore
from isotach.master.background import Background
from isotach.master.clock import Clock
from isotach.master.identity import Identity
from isotach.master.pipeline import CommitPipeline
from isotach.namespace.counters import IdAllocator
from isotach.namespace.view import View


class Core(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all services; for the event-loop thread."""

    store: KeyValueStore
    pipeline: CommitPipeline
    clock: Clock
    identity: Identity
    background: Background
    secret: bytes

    @property
    def ids(self) -> IdAllocator:
        """Versions, file ids, intents: all from one counter."""
        return self.pipeline.ids

    @contextmanager
    def reading(self) -> Iterator[View]:
        """The last committed state that was answered for. Not to be kept across an `await`."""
        view = self.pipeline.committed_view()
        if view is not None:
            yield view
            return
        with self.store.snapshot() as snapshot:
            yield View(snapshot)
