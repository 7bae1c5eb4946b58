"""One file being written at this worker: cached, sent through, or both.

Owns: the steps of a write and their order of durability. Never: talks to a socket (`writing.py` does).

    bytes   -> checksum and container (draft), and at the same time to the under storage for the through types
    commit  -> MUST_CACHE, ASYNC_THROUGH: seal the container (on disk tiers: fsync), then COMPLETE at the master
            -> CACHE_THROUGH, THROUGH:    prepare; BEGIN_COMMIT (the master locks the path and notes the intent);
                                          commit in the store; seal; COMPLETE
    a crash -> before the seal: the draft is removed at the next start; before COMPLETE: the master answers the report
               of the version that it is obsolete; between the store's commit and COMPLETE: the master's intent decides

A tier that fills up in mid-file hands over to the next; when none is left, the file goes through to the under storage
whatever its write type, and is not cached.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from isotach.base.errors import IsotachError, StaleVersionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import WRITE_CHUNK_BYTES
from isotach.base.types import BlockHolder, Inode, MountId, Version, WriteType
from isotach.blockstore.draft import Draft
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UfsWriter
from isotach.wire.messages import BeginCommitReply, CompleteRequest, WriteGrant
from isotach.worker.buffers import BufferBudget
from isotach.worker.committer import Committer
from isotach.worker.leftovers import Leftovers
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.through import ThroughWriter

log = get_logger("worker.write")


class WriteSession:
    """One write handle. For one thread at a time; ended by `commit` or `abort`."""

    def __init__(
        self,
        sealed: bytes,
        grant: WriteGrant,
        primary: bool,
        store: BlockStore,
        leftovers: Leftovers,
        committer: Committer,
        metrics: WorkerMetrics,
        budget: BufferBudget | None = None,
    ) -> None:
        self._budget: Final = budget
        self._sealed: Final = sealed
        self._grant: Final = grant
        self._primary: Final = primary
        self._store: Final = store
        self._leftovers: Final = leftovers
        self._committer: Final = committer
        self._metrics: Final = metrics
        self._type: Final = WriteType(grant.write_type)
        self._is_memory_only: Final = grant.policy is not None and grant.policy.memory_only
        self._draft: Draft | None = None
        self._through: ThroughWriter | None = None
        self._kept_to = 0  # the draft holds every byte before this one
        self._sent_to = 0  # the under storage was given every byte before this one
        self._is_lent = False  # whether the last buffer belongs to the through writer
        self._ended = False
        if primary and self._type.goes_through:
            self._through = self._open_through()
        if self._type is not WriteType.THROUGH:
            self._begin_draft()

    @property
    def version(self) -> Version:
        """The version being written."""
        return self._grant.version

    # --- bytes ---

    def buffer(self, size: int, reusable: bytearray) -> memoryview:
        """Memory for the next `size` bytes or fewer: the through writer's, which keeps it for a while, else the
        connection's own."""
        self._is_lent = self._through is not None
        return memoryview(reusable)[:size] if self._through is None else self._through.buffer(size)

    def write(self, offset: int, view: memoryview, keep: bool) -> None:
        """Takes the bytes in. Raises TierFullError when there is no room and the under storage cannot take them either,
        and whatever the under storage raised."""
        if keep and self._draft is not None:
            self._write_draft(offset, view)
        if self._through is not None:
            self._write_through(offset, view)
        fail_at("worker.mid_write")

    def _begin_draft(self) -> None:
        grant = self._grant
        meta = VersionMeta(
            grant.version,
            grant.file_id,
            0,
            grant.block_size,
            pinned=grant.pinned,
            spread=grant.spread,
            tier="" if grant.policy is None else grant.policy.tier,
            memory_only=self._is_memory_only,
        )
        try:
            self._draft = self._store.begin_write(meta)
        except TierFullError as full:
            self._leave_cache(0, full)

    def _write_draft(self, offset: int, view: memoryview) -> None:
        assert self._draft is not None
        try:
            self._draft.write(offset, view)
        except TierFullError as full:
            self._leave_cache(offset, full)
            return
        if offset == self._kept_to:
            self._kept_to += view.nbytes
        self._metrics.written(self._draft.tier_alias, view.nbytes)

    def _write_through(self, offset: int, view: memoryview) -> None:
        assert self._through is not None
        if offset != self._sent_to:
            raise OSError(errno.EINVAL, f"bytes for {offset} came where {self._sent_to} was next: write in order")
        if self._is_lent:
            self._through.feed(view)
        else:
            self._feed_copy(view)
        self._sent_to += view.nbytes
        self._metrics.written_through.add(view.nbytes)

    def _leave_cache(self, offset: int, full: TierFullError) -> None:
        """No tier has room: from here on the file only goes through, starting with what was cached so far."""
        draft, self._draft = self._draft, None
        self._metrics.full_fallbacks.add()
        log.warning("write_leaves_cache", version=self._grant.version, at=offset, error=full)
        try:
            if self._through is None:
                if not self._primary or self._kept_to != offset or self._is_memory_only:
                    raise full
                try:
                    self._go_through(draft)
                except (OSError, IsotachError) as error:
                    raise full from error
        finally:
            if draft is not None:
                draft.abort()

    def _go_through(self, draft: Draft | None) -> None:
        self._through = self._open_through()
        self._is_lent = False
        if draft is not None:
            self._send_kept(draft)

    def _send_kept(self, draft: Draft) -> None:
        self._sent_to = 0
        while self._sent_to < self._kept_to:
            part = draft.read(self._sent_to, min(WRITE_CHUNK_BYTES, self._kept_to - self._sent_to))
            self._feed_copy(memoryview(part))
            self._sent_to += len(part)

    def _feed_copy(self, view: memoryview) -> None:
        assert self._through is not None
        while view.nbytes:
            copy = self._through.buffer(min(view.nbytes, WRITE_CHUNK_BYTES))
            copy[:] = view[: copy.nbytes]
            view = view[copy.nbytes :]
            self._through.feed(copy)

    def _open_through(self) -> ThroughWriter:
        return ThroughWriter(self._opener(self._grant.mount_id, self._grant.ufs_path), self._budget)

    def _opener(self, mount_id: MountId, ufs_path: bytes) -> Callable[[int | None], UfsWriter]:
        open_write = self._leftovers.opener(mount_id)  # raises while the mount is not known
        path = os.fsdecode(ufs_path)
        return lambda size: open_write(path, size)

    # --- the end ---

    def commit(self, length: int, mtime_ns: int) -> Inode | None:
        """Makes the file visible. None for a secondary, which only keeps its blocks. After an error nothing is left."""
        try:
            if not self._primary:
                self._seal(length, dirty=not self._type.goes_through, fingerprint=None)
                inode = None
            elif self._through is not None:
                inode = self._commit_through(length, mtime_ns)
            else:
                inode = self._commit_cached(length, mtime_ns)
        except BaseException as error:
            self.abort()
            if self._primary and isinstance(error, Exception) and not self._committer.is_outcome_unknown(error):
                self._committer.abort(self._sealed)
            raise
        self._ended = True
        return inode

    def _commit_cached(self, length: int, mtime_ns: int) -> Inode:
        entry = self._seal(length, dirty=True, fingerprint=None)
        fail_at("worker.after_seal")
        request = CompleteRequest(
            self._sealed,
            length,
            mtime_ns=mtime_ns,
            persist_later=self._type is not WriteType.MUST_CACHE,
            holder=self._holder(entry),
        )
        return self._complete(request)

    def _commit_through(self, length: int, mtime_ns: int) -> Inode:
        assert self._through is not None
        if self._sent_to != length:
            raise OSError(errno.EINVAL, f"{self._sent_to} bytes came, but the file is to have {length}: write it again")
        self._through.prepare()
        begun = self._committer.begin_write(self._sealed)
        try:
            status = self._commit_store(begun)
        except BaseException:
            self._committer.give_up(begun.intent_id, self._grant.version)
            raise
        fail_at("worker.after_ufs_commit")
        entry = self._seal_if_kept(length, status)
        fail_at("worker.after_seal")
        request = CompleteRequest(
            self._sealed,
            length,
            status.fingerprint,
            mtime_ns,
            persisted=True,
            holder=None if entry is None else self._holder(entry),
            ufs_mtime_ns=status.mtime_ns,
        )
        try:
            return self._complete(request)
        except Exception as error:
            if not self._committer.is_outcome_unknown(error):
                self._committer.give_up(begun.intent_id, self._grant.version)
            raise

    def _commit_store(self, begun: BeginCommitReply) -> UfsStatus:
        assert self._through is not None
        with self._committer.held(self._grant.version):
            if (begun.mount_id, begun.ufs_path) != (self._grant.mount_id, self._grant.ufs_path):
                self._store_again(begun)
            fail_at("worker.before_ufs_commit")
            status = self._through.commit()
        self._through = None  # visible: nothing of it may be taken back any more
        return status

    def _store_again(self, begun: BeginCommitReply) -> None:
        """The file was renamed while it was written: its bytes go to where it is now, which is locked for us. Raises
        StaleVersionError when they are not here any more, or when the grant was for that path only."""
        assert self._through is not None
        opener = self._opener(begun.mount_id, begun.ufs_path)
        if self._grant.by_id and self._through.again(opener):
            return
        if not self._grant.by_id or self._draft is None or self._kept_to != self._sent_to:
            raise StaleVersionError(errno.ESTALE, "the path of this file changed while it was written: write it again")
        self._through.abort()
        self._through = ThroughWriter(opener, self._budget)
        self._send_kept(self._draft)
        self._through.prepare()

    def _complete(self, request: CompleteRequest) -> Inode:
        """COMPLETE; when the master refuses, what was cached goes."""
        try:
            inode = self._committer.complete(request)
        except Exception as error:
            if not self._committer.is_outcome_unknown(error):
                self._store.free(self._grant.version, force=True)
            raise
        fail_at("worker.after_complete")
        return inode

    def _seal_if_kept(self, length: int, status: UfsStatus) -> CachedVersion | None:
        """The under storage has the file: that the cache cannot take it is no reason to fail."""
        if self._draft is None:
            return None
        try:
            return self._seal(length, dirty=False, fingerprint=status.fingerprint)
        except OSError as error:
            log.warning("written_file_not_cached", version=self._grant.version, error=error)
            return None

    def _seal(self, length: int, *, dirty: bool, fingerprint: str | None) -> CachedVersion:
        assert self._draft is not None
        draft, self._draft = self._draft, None
        try:
            return draft.seal(length, dirty=dirty, fingerprint=fingerprint)
        except BaseException:
            draft.abort()
            raise

    def _holder(self, entry: CachedVersion) -> BlockHolder:
        report = entry.report()
        memory = report.cached_bytes if report.in_memory else 0
        return BlockHolder(self._committer.worker_id, memory, report.cached_bytes, report.blocks)

    def abort(self) -> None:
        """Drops all that has not become visible, here and in the under storage. Safe to call twice."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.abort()
        if self._through is not None and not self._ended:
            self._through.abort()
        self._ended = True

    def close(self) -> None:
        """The connection ended without a commit: nothing is left, and the master hears of it."""
        if not self._ended:
            self.abort()
            if self._primary:
                self._committer.abort(self._sealed)
