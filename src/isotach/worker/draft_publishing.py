"""Making a draft the content of its file: into the cache, through to the under storage, or both.

Owns: the steps and their order of durability. Never: knows sessions or sockets (`drafts.py`), or drops a draft that
could be published by another try.

    MUST_CACHE, ASYNC_THROUGH   checksums -> seal (on disk tiers: fsync) -> COMPLETE
    CACHE_THROUGH, THROUGH      checksums and upload in one pass -> prepare; BEGIN_COMMIT -> (renamed meanwhile: upload
                                anew) -> commit in the store -> seal, for CACHE_THROUGH -> COMPLETE

After an error the draft is as it was before. Only when nobody can tell whether COMPLETE took effect, it stays sealed
until it is published again, or dropped (then the master decides about the version). With `keep` all is done to a copy,
which shares its bytes with the draft where the file system can.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from isotach.base.errors import StaleVersionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import DRAFT_BYTES_MAX, GIB
from isotach.base.types import BlockHolder, Inode, WriteType
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.open_draft import OpenDraft
from isotach.blockstore.summing import Summed, sum_pages
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus
from isotach.wire.messages import BeginCommitReply, CompleteRequest, WriteGrant
from isotach.worker.buffers import BufferBudget
from isotach.worker.committer import Committer
from isotach.worker.leftovers import Leftovers
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.through import ThroughWriter

log = get_logger("worker.draft_publishing")


class DraftPublisher:
    """One per worker; any thread, one at a time for each draft."""

    def __init__(
        self, leftovers: Leftovers, committer: Committer, metrics: WorkerMetrics, budget: BufferBudget | None
    ) -> None:
        self._leftovers: Final = leftovers
        self._committer: Final = committer
        self._metrics: Final = metrics
        self._budget: Final = budget

    def publish(
        self, draft: OpenDraft, sealed: bytes, grant: WriteGrant, length: int, mtime_ns: int, *, keep: bool
    ) -> Inode | None:
        """The file as it now is; None when it was removed meanwhile. Without `keep` the draft is gone then. Raises
        OSError (EFBIG for a length that no file may have; ENOSPC), StaleVersionError when a later write won, and what
        the under storage raised."""
        check_length(length)
        one = _Publishing(self, draft, sealed, grant, mtime_ns)
        through = WriteType(grant.write_type).goes_through
        try:
            _set_length(draft, length)
            inode = one.through(length, keep=keep) if through else one.cached(length, keep=keep)
        except StaleVersionError as stale:
            if stale.errno != errno.ENOENT:
                raise
            inode = None
        if not keep:
            draft.finish()
        if inode is not None:
            self._metrics.drafts_published.add()
            self._metrics.written(draft.tier_alias, length)
        return inode

    def salvage(self, draft: OpenDraft, sealed: bytes, grant: WriteGrant, length: int) -> Inode | None:
        """Publishes what was synced, for a mount that is gone: to the cache, whatever the write type, and to the store
        later. A mount that lives but cannot be reached may still write to the draft: then a copy is published."""
        with _opened(draft) as descriptor:
            mtime_ns = os.fstat(descriptor).st_mtime_ns
        source = draft
        try:
            if draft.is_being_written():
                source = draft.copy()
            _set_length(source, length)
            return _Publishing(self, source, sealed, grant, mtime_ns).cached(length, keep=False)
        except StaleVersionError as stale:
            log.info("draft_overtaken", version=grant.version, reason=stale)
            return None
        finally:
            if source is not draft:
                source.finish()

    def opener(self, mount_id: int, ufs_path: bytes) -> ThroughWriter:
        """A writer to the under storage."""
        open_write = self._leftovers.opener(mount_id)  # raises while the mount is not known
        path = os.fsdecode(ufs_path)
        return ThroughWriter(lambda size: open_write(path, size), self._budget)

    @property
    def committer(self) -> Committer:
        """The way to the master."""
        return self._committer


class _Publishing:
    """One content on its way."""

    def __init__(
        self, publisher: DraftPublisher, draft: OpenDraft, sealed: bytes, grant: WriteGrant, mtime_ns: int
    ) -> None:
        self._publisher: Final = publisher
        self._committer: Final = publisher.committer
        self._draft: Final = draft
        self._sealed: Final = sealed
        self._grant: Final = grant
        self._mtime_ns: Final = mtime_ns

    # --- into the cache ---

    def cached(self, length: int, *, keep: bool) -> Inode:
        self._draft.unseal()
        target = self._draft.copy() if keep else self._draft
        try:
            entry = self._seal(target, length, _summed(target, length), dirty=True)
            fail_at("worker.after_seal")
            later = self._grant.write_type != WriteType.MUST_CACHE
            request = CompleteRequest(
                self._sealed, length, mtime_ns=self._mtime_ns, persist_later=later, holder=self._holder(entry)
            )
            inode = self._complete(target, request)
        finally:
            if keep:
                target.finish()
        return inode

    def _seal(
        self, target: OpenDraft, length: int, summed: Summed, *, dirty: bool, fingerprint: str | None = None
    ) -> CachedVersion:
        return target.seal(meta_of(self._grant, length, fingerprint), summed, dirty=dirty)

    def _holder(self, entry: CachedVersion) -> BlockHolder:
        report = entry.report()
        memory = report.cached_bytes if report.in_memory else 0
        return BlockHolder(self._committer.worker_id, memory, report.cached_bytes, report.blocks)

    def _complete(self, target: OpenDraft, request: CompleteRequest) -> Inode:
        """COMPLETE; when the master refuses, the version leaves the cache, and the draft is a draft again."""
        try:
            inode = self._committer.complete(request)
        except Exception as error:
            if not self._committer.is_outcome_unknown(error):
                target.unseal()
            raise
        fail_at("worker.after_complete")
        return inode

    # --- through to the store ---

    def through(self, length: int, *, keep: bool) -> Inode:
        self._draft.unseal()
        caches = self._grant.write_type == WriteType.CACHE_THROUGH
        source = self._copied() if keep and caches else self._draft
        try:
            return self._through(source or self._draft, length, caches=caches and source is not None)
        finally:
            if source is not None and source is not self._draft:
                source.finish()

    def _copied(self) -> OpenDraft | None:
        """What is cached while the draft goes on; the store has the file even if there is no room for that."""
        try:
            return self._draft.copy()
        except TierFullError as full:
            log.warning("kept_draft_not_cached", version=self._grant.version, error=full)
            return None

    def _through(self, source: OpenDraft, length: int, *, caches: bool) -> Inode:
        committer, version = self._committer, self._grant.version
        summed, begun, status = self._store(source, length)
        fail_at("worker.after_ufs_commit")
        entry = self._seal_if_possible(source, length, summed, status) if caches else None
        fail_at("worker.after_seal")
        request = CompleteRequest(
            self._sealed,
            length,
            status.fingerprint,
            self._mtime_ns,
            persisted=True,
            holder=None if entry is None else self._holder(entry),
            ufs_mtime_ns=status.mtime_ns,
        )
        try:
            return self._complete(source, request)
        except Exception as error:
            if not committer.is_outcome_unknown(error):
                committer.give_up(begun.intent_id, version)
            raise

    def _store(self, source: OpenDraft, length: int) -> tuple[Summed, BeginCommitReply, UfsStatus]:
        """Puts the bytes where the file is now. After an error nothing of it is in the store."""
        committer, version = self._committer, self._grant.version
        target = (self._grant.mount_id, self._grant.ufs_path)
        through = self._publisher.opener(*target)
        begun: BeginCommitReply | None = None
        try:
            summed = _upload(source, length, through)
            begun = committer.begin_write(self._sealed)
            with committer.held(version):
                if (begun.mount_id, begun.ufs_path) != target:  # renamed; now the path is locked
                    through.abort()
                    through = self._publisher.opener(begun.mount_id, begun.ufs_path)
                    summed = _upload(source, length, through)
                fail_at("worker.before_ufs_commit")
                status = through.commit()
        except BaseException:
            through.abort()
            if begun is not None:
                committer.give_up(begun.intent_id, version)
            raise
        return summed, begun, status

    def _seal_if_possible(
        self, source: OpenDraft, length: int, summed: Summed, status: UfsStatus
    ) -> CachedVersion | None:
        """The under storage has the file: that the cache cannot take it is no reason to fail."""
        try:
            return self._seal(source, length, summed, dirty=False, fingerprint=status.fingerprint)
        except OSError as error:
            log.warning("written_file_not_cached", version=self._grant.version, error=error)
            return None


def check_length(length: int) -> None:
    """Raises OSError(EFBIG)."""
    if not 0 <= length <= DRAFT_BYTES_MAX:
        limit = f"{DRAFT_BYTES_MAX // GIB} GiB"
        raise OSError(errno.EFBIG, f"a file of {length} bytes is too long: a mount takes up to {limit}, split it")


def meta_of(grant: WriteGrant, length: int, fingerprint: str | None = None) -> VersionMeta:
    """What the block store must know of the grant's version."""
    policy = grant.policy
    return VersionMeta(
        grant.version,
        grant.file_id,
        length,
        grant.block_size,
        fingerprint,
        pinned=grant.pinned,
        tier="" if policy is None else policy.tier,
        memory_only=policy is not None and policy.memory_only,
    )


def _set_length(draft: OpenDraft, length: int) -> None:
    with _opened(draft) as descriptor:
        if os.fstat(descriptor).st_size != length:
            os.ftruncate(descriptor, length)


def _summed(draft: OpenDraft, length: int) -> Summed:
    with _opened(draft) as descriptor:
        return sum_pages(descriptor, length)


def _upload(draft: OpenDraft, length: int, through: ThroughWriter) -> Summed:
    with _opened(draft) as descriptor:
        summed = sum_pages(descriptor, length, through.buffer, through.feed)
    through.prepare()
    return summed


@contextmanager
def _opened(draft: OpenDraft) -> Iterator[int]:
    descriptor = draft.open()
    try:
        yield descriptor
    finally:
        os.close(descriptor)
