"""Writing files: where a write may go, and the moment it becomes visible.

Owns: CREATE, COMPLETE and ABORT, and the table of writes that are under way. Never: moves bytes.

CREATE commits nothing: the sealed grant carries all that completing needs, so that a master that restarted in between
still accepts it. The table only serves to know, when a worker reports a version that no path leads to, whether it is
being written or was abandoned.
"""

import errno
import os

import msgspec

from isotach.base.errors import InvalidArgumentError, StaleVersionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, PAGE_BYTES
from isotach.base.paths import split
from isotach.base.types import BlockHolder, Flag, Inode, PathPolicy, TtlAction, Version, WriteType
from isotach.master.commits import Commits, OpenCommit
from isotach.master.core import Core
from isotach.master.freeing import Freeing
from isotach.master.identity import numbered
from isotach.master.location_rows import Share
from isotach.master.locations import Locations
from isotach.master.mount_set import MountSet
from isotach.master.pending_writes import PendingWrites
from isotach.master.placement import place
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.namespace import completed, intents, persist_queue, policies
from isotach.namespace.actor import Actor
from isotach.namespace.content import file_to_write, replace_content, standing
from isotach.namespace.files import Completed, CreatePlan, complete_file, plan_create
from isotach.namespace.lookup import Resolved, first_name, inode_of, is_current, path_of
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.ufs.interface import UfsStatus, UnderStorage
from isotach.wire.grants import seal, unseal
from isotach.wire.messages import (
    AbortRequest,
    CompleteReply,
    CompleteRequest,
    CreateReply,
    CreateRequest,
    Empty,
    MakeRequest,
    WriteGrant,
)

log = get_logger("master.writes")
_WRITE_TYPES = {kind.value: kind for kind in WriteType}
_TO_PERSIST = int(Flag.TO_PERSIST)


class Writes:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        syncer: Syncer,
        commits: Commits,
        locations: Locations,
        workers: WorkerRegistry,
        freeing: Freeing,
        timeout_s: float,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._syncer = syncer
        self._commits = commits
        self._locations = locations
        self._workers = workers
        self._freeing = freeing
        self._timeout_s = timeout_s
        self._pending = PendingWrites(timeout_s)
        self._turn = 0
        self.wake_persistence = _nothing

    def pending(self) -> frozenset[Version]:
        """The versions that are being written, as far as this master knows. From any thread."""
        return self._pending.versions()

    def is_pending(self, version: Version) -> bool:
        """Whether the version is being written, as far as this master knows."""
        return version in self._pending

    def refuse(self, version: Version) -> None:
        """The bytes of this version are gone with the process that wrote them: a late COMPLETE must not bring it."""
        self._pending.refuse(version)

    # --- CREATE ---

    async def create(self, request: CreateRequest, peer: Peer) -> CreateReply:
        """Raises what `plan_create` does (by id: what `file_to_write` does), UnavailableError when too many writes are
        under way."""
        _check_words(request)
        if request.by_id or request.renews:
            return await self._create_by_id(request, self._core.identity.actor(peer))
        await self._commits.settled(request.path)
        plan = await self._plan(request, peer)
        return self._grant(request, self._core.identity.actor(peer), plan)

    async def _create_by_id(self, request: CreateRequest, actor: Actor) -> CreateReply:
        with self._core.reading() as view:
            if request.renews:
                if not actor.superuser:
                    raise PermissionError(errno.EACCES, "a grant is renewed for workers: create the write anew")
                former = unseal(self._core.secret, request.renews, WriteGrant, 0.0)
                actor = numbered(Actor(former.user, frozenset(former.groups), former.superuser))
                found = standing(view, former.file_id)
                completed.check_not_overtaken(view, found.inode.version, former.version, found.path)
            else:
                found = file_to_write(view, request.path, actor)
        await self._commits.settled(found.path)
        return self._grant_by_id(request, actor, found)

    def grant_for(self, found: Resolved, request: MakeRequest | CreateRequest, peer: Peer) -> CreateReply:
        """The grant to replace the content of a file that the caller has just made, or may write: nothing of that is
        checked. Commits nothing. Raises InvalidArgumentError, UnavailableError, StaleVersionError when it is gone."""
        if isinstance(request, MakeRequest):
            request = _as_create(request)
        _check_words(request)
        if found.inode.links > 1:  # the store has it under its first name, which may be another one
            with self._core.reading() as view:
                found = standing(view, found.inode.id)
        return self._grant_by_id(request, self._core.identity.actor(peer), found)

    def _grant_by_id(self, request: CreateRequest, actor: Actor, found: Resolved) -> CreateReply:
        there = found.inode
        pinned = bool(there.flags & Flag.PINNED)
        plan = CreatePlan(found.mount, found.relative, there.mode, there, there.policy, pinned)
        asked = msgspec.structs.replace(request, path=found.path, by_id=True, overwrite=True, ttl_ms=-1, pinned=False)
        return self._grant(asked, actor, plan)

    async def _plan(self, request: CreateRequest, peer: Peer) -> CreatePlan:
        """What the namespace says; where only the under storage may know better, it is asked first."""
        actor, now_ns = self._core.identity.actor(peer), self._core.clock.now_ns()
        try:
            with self._core.reading() as view:
                plan = plan_create(view, request, actor, now_ns)
        except FileNotFoundError:
            await self._syncer.ensure_current(split(request.path)[0])
            with self._core.reading() as view:
                plan = plan_create(view, request, actor, now_ns)
        if plan.existing is not None:
            return plan
        if request.overwrite:
            await self._syncer.learn(request.path)
        else:
            await self._syncer.ensure_current(request.path)
        with self._core.reading() as view:
            return plan_create(view, request, actor, now_ns)

    def _grant(self, request: CreateRequest, actor: Actor, plan: CreatePlan) -> CreateReply:
        """Chooses workers, and remembers the write as one under way."""
        self._pending.check_room(by_id=request.by_id)
        block_size = _checked_block_size(request.block_size)
        policy, effective = policies.for_write(plan.policy, plan.existing, request)
        placement = (policy.placement if policy is not None else "") or request.placement
        request = msgspec.structs.replace(request, write_type=effective, placement=placement)
        workers, spread = place(self._workers.live_rows(), request, block_size, self._next_turn())
        spread = spread and not request.by_id  # what is open for writing here is here as a whole
        grant = self._write_grant(request, actor, plan, block_size, spread, policy)
        self._pending.begin(grant.version, self._core.clock.monotonic(), by_id=request.by_id)
        return CreateReply(grant.version, effective, block_size, workers, seal(self._core.secret, grant), spread)

    def _write_grant(
        self,
        request: CreateRequest,
        actor: Actor,
        plan: CreatePlan,
        block_size: int,
        spread: bool,
        policy: PathPolicy | None,
    ) -> WriteGrant:
        version = self._core.ids.allocate()
        return WriteGrant(
            version=version,
            file_id=self._core.ids.allocate() if plan.existing is None else plan.existing.id,
            path=request.path,
            user=actor.user,
            groups=sorted(actor.groups),
            superuser=actor.superuser,
            write_type=request.write_type,
            mode=plan.mode,
            block_size=block_size,
            overwrite=request.overwrite,
            ttl_ms=request.ttl_ms if request.ttl_ms >= 0 else plan.ttl_ms,
            ttl_action=request.ttl_action if request.ttl_ms >= 0 else plan.ttl_action,
            pinned=request.pinned or plan.pinned,
            mount_id=0 if plan.mount is None else plan.mount.mount_id,
            ufs_path=plan.relative,
            expires_s=int(self._core.clock.now_s() + self._timeout_s),
            spread=spread,
            policy=policy,
            by_id=request.by_id,
        )

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    # --- COMPLETE ---

    async def complete(self, request: CompleteRequest, _peer: Peer) -> CompleteReply:
        """Raises AuthenticationError for a grant that is forged or expired, StaleVersionError when a later write won,
        and what `plan_create` does."""
        grant = unseal(self._core.secret, request.grant, WriteGrant, self._core.clock.now_s())
        through = WriteType(grant.write_type).goes_through
        if through and not request.persisted and request.length == 0 and not self._is_completed(grant.version):
            request = await self._put_empty(grant, request)
        later = request.persist_later or (not request.persisted and grant.write_type != WriteType.MUST_CACHE)
        commit = self._commits.take(grant.version)
        if grant.by_id and request.persisted and commit is None and not self._is_completed(grant.version):
            # The file may have been renamed since: nobody knows that the store has it where it stands now.
            raise StaleVersionError("this commit is not open any more, it took longer than its lease: write it again")
        try:
            done = await self._swap_in(grant, request, commit, later)
        except BaseException:
            if commit is not None:
                await self._commits.resolve(commit)
            raise
        finally:
            if commit is not None:
                self._commits.close(commit)
        self._pending.end(grant.version)
        await self._after(request, done, later)
        return CompleteReply(done.inode)

    def _is_completed(self, version: Version) -> bool:
        with self._core.reading() as view:
            return completed.was_completed(view, version)

    async def _swap_in(
        self, grant: WriteGrant, request: CompleteRequest, commit: OpenCommit | None, later: bool
    ) -> Completed:
        now_ns = self._core.clock.now_ns()

        def apply(view: View) -> Completed:
            if self._pending.is_refused(grant.version):
                raise StaleVersionError(
                    "this write was given up, by its client or with its worker's process: write the file again"
                )
            again = _completed_before(view, grant)
            if again is not None:
                return again
            done = self._completed(view, grant, request, later, now_ns)
            if later and done.inode.flags & _TO_PERSIST:
                persist_queue.enqueue(view, done.inode.id, now_ns // 1_000_000)
            elif done.replaced is not None:
                persist_queue.dequeue(view, done.inode.id)
            if request.persisted:
                directory_id = first_name(view, done.inode)[0]
                persist_queue.mark_directories_stored(view, directory_id, done.inode.mount_id)
            if commit is not None:
                intents.drop(view, commit.intent_id)
            return done

        fail_at("master.before_complete")
        done = await self._core.pipeline.submit(apply)
        fail_at("master.after_complete")
        return done

    def _completed(
        self, view: View, grant: WriteGrant, request: CompleteRequest, later: bool, now_ns: int
    ) -> Completed:
        """The content in place of what the file had."""
        length, fingerprint, persisted = request.length, request.fingerprint, request.persisted
        mtime_ns = request.mtime_ns or request.ufs_mtime_ns
        if grant.by_id:
            return replace_content(view, grant, length, fingerprint, mtime_ns, persisted, later, now_ns)
        ids, actor = self._core.ids, numbered(Actor(grant.user, frozenset(grant.groups), grant.superuser))
        return complete_file(view, grant, length, fingerprint, mtime_ns, persisted, later, now_ns, ids, actor)

    async def _after(self, request: CompleteRequest, done: Completed, later: bool) -> None:
        """What readers must learn before the reply: who holds the new version. And the old one goes."""
        inode = done.inode
        replaced = [each.version for each in (done.replaced, done.also_replaced) if each is not None]
        self._freeing.drop_soon(version for version in replaced if version != inode.version)
        if request.holder is not None:
            try:
                await self._locations.add(inode.version, request.holder.worker_id, _share(inode, request.holder))
            except OSError as error:  # soft state: the worker's next report brings it again
                log.error("locations_not_written", error=str(error))
        if later:
            self.wake_persistence()

    async def _put_empty(self, grant: WriteGrant, request: CompleteRequest) -> CompleteRequest:
        """An empty file that must be in the under storage: no worker has any part in it."""
        commit = await self._commits.begin_write(grant)
        try:
            driver = await self._mounts.driver(self._mounts.table[commit.intent.mount_id])
            status = await self._pool.run("write", put_empty, driver, os.fsdecode(commit.intent.ufs_path))
        except BaseException:
            taken = self._commits.take(grant.version)
            if taken is not None:
                await self._commits.resolve(taken)
                self._commits.close(taken)
            raise
        return msgspec.structs.replace(
            request, persisted=True, fingerprint=status.fingerprint, ufs_mtime_ns=status.mtime_ns
        )

    # --- ABORT ---

    async def abort(self, request: AbortRequest, _peer: Peer) -> Empty:
        """No error for a write that is gone already, nor for one that was completed: that one stays.

        Decided in the order of the changes. A worker that was frozen may be about to complete what its client has given
        up: either the file is there before this is answered, or it never comes.
        """
        grant = unseal(self._core.secret, request.grant, WriteGrant, 0.0)

        def decide(view: View) -> bool:
            if completed.was_completed(view, grant.version) or is_current(view, grant.file_id, grant.version):
                return False
            self.refuse(grant.version)
            return True

        if await self._core.pipeline.submit(decide):
            await self._freeing.drop([grant.version])
        return Empty()

    async def expire(self) -> None:
        """Gives up the writes that nobody has finished in time."""
        late = self._pending.take_late(self._core.clock.monotonic())
        if late:
            log.info("writes_given_up", count=len(late))
            await self._freeing.drop(late)


def _check_words(request: CreateRequest) -> None:
    if request.write_type not in _WRITE_TYPES:
        known = ", ".join(_WRITE_TYPES)
        raise InvalidArgumentError(f"there is no write type {request.write_type!r}: give one of {known}")
    if request.ttl_action not in TtlAction.__members__:
        raise InvalidArgumentError(f"the action {request.ttl_action!r} is unknown: give DELETE or FREE")
    _checked_block_size(request.block_size)


def _as_create(request: MakeRequest) -> CreateRequest:
    return CreateRequest(
        request.path,
        request.write_type,
        placement=request.placement,
        host_key=request.host_key,
        write_type_given=request.write_type_given,
        by_id=True,
    )


def _share(inode: Inode, holder: BlockHolder) -> Share:
    """What the worker that took in a file holds of it."""
    dirty = not inode.flags & Flag.PERSISTED
    return Share(
        inode.length, inode.block_size, inode.id, dirty, holder.memory_bytes, holder.cached_bytes, holder.blocks
    )


def _completed_before(view: View, grant: WriteGrant) -> Completed | None:
    """What a COMPLETE that is sent again is answered by. Raises StaleVersionError when the file was removed or written
    anew since: it must not come back."""
    if not completed.was_completed(view, grant.version):
        return None
    try:
        inode = inode_of(view, grant.file_id)
        path_of(view, grant.file_id)
    except FileNotFoundError:
        inode = None
    if inode is None or inode.version != grant.version:
        text = "this write was completed before, and the file was removed or written anew since"
        raise StaleVersionError(errno.ESTALE, text, os.fsdecode(grant.path))
    return Completed(inode, None)


def put_empty(driver: UnderStorage, ufs_path: str) -> UfsStatus:
    """Blocking: writes a file of no bytes."""
    writer = driver.open_write(ufs_path, 0)
    try:
        writer.prepare()
        return writer.commit()
    except BaseException:
        writer.abort()
        raise


def _checked_block_size(block_size: int) -> int:
    if block_size == 0:
        return BLOCK_BYTES_DEFAULT
    if not PAGE_BYTES <= block_size <= BLOCK_BYTES_MAX or block_size % PAGE_BYTES:
        text = f"the block size {block_size} is not possible: give a multiple of {PAGE_BYTES} up to {BLOCK_BYTES_MAX}"
        raise InvalidArgumentError(text)
    return block_size


def _nothing() -> None:
    return
