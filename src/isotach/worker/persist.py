"""Persisting: a file that is only cached is written to its under storage, at the master's command.

Owns: the order BEGIN_COMMIT, commit in the store, END_COMMIT, and checking every page on its way out. Never: decides
what is persisted, or tries again (the master's queue does).
"""

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final

from isotach.base.errors import DataCorruptionError, StaleVersionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.pages import page_count
from isotach.blockstore.store import BlockStore
from isotach.blockstore.verification import read_page
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsWriter
from isotach.wire.messages import BeginCommitReply, ReadGrant
from isotach.worker.committer import Committer
from isotach.worker.leftovers import Leftovers
from isotach.worker.sources import Source

log = get_logger("worker.persist")
_RENAMES_MAX: Final = 3


class Persister:
    """One per worker; any thread."""

    def __init__(self, store: BlockStore, leftovers: Leftovers, committer: Committer) -> None:
        self._store: Final = store
        self._leftovers: Final = leftovers
        self._committer: Final = committer
        self.running = 0

    def persist(self, grant: ReadGrant, others: Source) -> None:
        """Writes the version to where the master says. `others` gives the pages that are not here. A version that was
        overtaken or removed meanwhile is let be: no error. Raises what the store raised, UnavailableError,
        DataCorruptionError."""
        if grant.ufs_path is None:
            raise FileNotFoundError(
                errno.ENOENT, f"version {grant.version} has no place in an under storage: mount one"
            )
        self.running += 1
        try:
            target = (grant.mount_id, grant.ufs_path)
            for _ in range(_RENAMES_MAX):
                moved_to = self._persist_to(target, grant, others)
                if moved_to is None:
                    return
                target = moved_to  # renamed while it was being stored
            raise OSError(errno.EBUSY, f"version {grant.version} was renamed again and again: it is tried later")
        except StaleVersionError as stale:
            log.info("persist_overtaken", version=grant.version, reason=stale)
        finally:
            self.running -= 1

    def _persist_to(self, target: tuple[int, bytes], grant: ReadGrant, others: Source) -> tuple[int, bytes] | None:
        """None when it is done; the new place when the file has another one by now."""
        writer = self._leftovers.opener(target[0])(os.fsdecode(target[1]), grant.length)
        begun: BeginCommitReply | None = None
        try:
            for data in self._checked_pages(grant, others):
                writer.write(data)
                fail_at("worker.mid_persist")
            writer.prepare()
            begun = self._committer.begin_persist(grant.version)
            if (begun.mount_id, begun.ufs_path) != target:
                self._drop(writer, begun, grant)
                return begun.mount_id, begun.ufs_path
            with self._committer.held(grant.version):
                status = writer.commit()
        except BaseException:
            self._drop(writer, begun, grant)
            raise
        fail_at("worker.after_persist_commit")
        self._committer.end_persist(begun, grant.version, status.fingerprint)
        self._store.mark_persisted(grant.version, status.fingerprint)
        return None

    def _drop(self, writer: UfsWriter, begun: BeginCommitReply | None, grant: ReadGrant) -> None:
        writer.abort()
        if begun is not None:
            self._committer.give_up(begun.intent_id, grant.version)

    def _checked_pages(self, grant: ReadGrant, others: Source) -> Iterator[ReadBuffer]:
        """All bytes in order, page by page."""
        entry = self._store.get(grant.version)
        here = _LocalPages(self._store, entry) if entry is not None else None
        try:
            for page in range(page_count(grant.length)):
                data: ReadBuffer | None = None if here is None else here.page(page)
                if data is None:
                    offset = page * PAGE_BYTES
                    data = others.read(offset, min(PAGE_BYTES, grant.length - offset))
                yield data
        finally:
            if here is not None:
                here.close()


class _LocalPages:
    """The pages of one entry, compared with their checksums as they are read."""

    def __init__(self, store: BlockStore, entry: CachedVersion) -> None:
        self._entry = entry
        self._pages = store.pages_of(entry)
        self._descriptor = store.open_for_sending(entry)

    def page(self, page: int) -> bytes | None:
        """None when it is not here."""
        if not self._pages.has(page, page + 1):
            return None
        return read_page(self._descriptor, self._entry, self._pages, page)

    def close(self) -> None:
        os.close(self._descriptor)


def checked_range(store: BlockStore, version: int, offset: int, length: int) -> Sequence[ReadBuffer]:
    """Bytes of a cached version for another worker, checked. Raises StaleVersionError when they are not all here, and
    DataCorruptionError."""
    entry = store.reachable(version)
    end = min(entry.meta.length, offset + length)
    try:
        here = _LocalPages(store, entry)
    except FileNotFoundError:
        raise StaleVersionError(errno.ESTALE, f"version {version} has just left this worker: try another one") from None
    parts: list[ReadBuffer] = []
    bad: list[int] = []
    try:
        for page in range(offset // PAGE_BYTES, page_count(end)):
            try:
                data = here.page(page)
            except DataCorruptionError:
                if entry.dirty:
                    raise
                bad, data = [page], None
            if data is None:
                break
            start = page * PAGE_BYTES
            parts.append(memoryview(data)[max(0, offset - start) : end - start])
    finally:
        here.close()
    if bad:
        store.drop_pages(entry, store.pages_of(entry), bad)
    if sum(len(part) for part in parts) != max(0, end - offset):
        raise StaleVersionError(errno.ESTALE, f"version {version} is not all on this worker: try another one")
    return parts
