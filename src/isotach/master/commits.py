"""The short time in which a worker makes a file visible in an under storage.

Owns: BEGIN_COMMIT and END_COMMIT, the open commits, their locks and leases. Never: completes a file (`writes.py`, and
`persistence.py` for files that were complete before).

    begin:   lock the path -> check that the version may still go there -> record the intent durably -> reply
    end:     the completing change drops the intent in its own batch -> release the lock
    silence: when the lease ends, the intent is resolved by what the under storage shows

A begin that is repeated for the same version renews the lease and gets the same answer. After a restart the open
intents become open commits again, with a short lease: a worker that lives ends them as if nothing had happened.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from isotach.base.errors import InvalidArgumentError, StaleVersionError
from isotach.base.failpoints import fail_at
from isotach.base.limits import COMMIT_LEASE_S, COMMIT_RECOVERY_LEASE_S, LATE_COMMITS_NOTED_MAX
from isotach.base.types import FileId, Mount, Version, WorkerId
from isotach.master.core import Core
from isotach.master.identity import numbered
from isotach.master.path_locks import PathLock, PathLocks
from isotach.master.sync import Syncer
from isotach.namespace import intents
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.completed import check_not_overtaken
from isotach.namespace.content import check_has_content, note_on_its_way, standing
from isotach.namespace.directories import check_writable
from isotach.namespace.files import plan_create
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import path_of, resolve
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.grants import unseal
from isotach.wire.messages import BeginCommitReply, BeginCommitRequest, Empty, EndCommitRequest, WriteGrant

log = get_logger("master.commits")
WRITE = "COMMIT"
PERSIST = "PERSIST"


class OpenCommit:
    """One commit between begin and end."""

    __slots__ = ("intent", "intent_id", "lock", "timer")

    def __init__(self, intent_id: int, intent: Intent, lock: PathLock) -> None:
        self.intent_id = intent_id
        self.intent = intent
        self.lock = lock
        self.timer: asyncio.TimerHandle | None = None


class _AsCreate(msgspec.Struct, frozen=True):
    """A write grant in the form in which a create is checked."""

    path: bytes
    mode: int
    overwrite: bool
    parents: bool = True


class Commits:
    """All open commits. For the event-loop thread."""

    def __init__(self, core: Core, locks: PathLocks, syncer: Syncer) -> None:
        self._core = core
        self._locks = locks
        self._syncer = syncer
        self._open: dict[Version, OpenCommit] = {}
        self._beginning: dict[Version, asyncio.Task[OpenCommit]] = {}
        self._expired: OrderedDict[int, Intent] = OrderedDict()  # by intent id: whose lease ended in this life
        #: Which file a version is being persisted for; set by the persistence service.
        self.file_to_persist: Callable[[Version], FileId | None] = lambda _version: None
        #: Records that a file is persisted and drops the intent; set by the persistence service.
        self.persisted: Callable[[int, Intent, str | None], Awaitable[None]] | None = None

    # --- handlers ---

    async def begin(self, request: BeginCommitRequest, _peer: Peer) -> BeginCommitReply:
        """Raises StaleVersionError when the version must not go to the store (any more)."""
        if request.renew:
            commit = self._renewed(request.version)
        elif request.grant:
            grant = unseal(self._core.secret, request.grant, WriteGrant, self._core.clock.now_s())
            commit = await self.begin_write(grant, request.worker_id)
        else:
            commit = await self._begin_once(request.version, lambda: self._begin_persist(request))
        return BeginCommitReply(commit.intent_id, commit.intent.mount_id, commit.intent.ufs_path)

    def _renewed(self, version: Version) -> OpenCommit:
        commit = self._open.get(version)
        if commit is None:
            raise StaleVersionError("this commit is not open any more: its lease has ended, or the master restarted")
        self._lease(commit, COMMIT_LEASE_S)
        return commit

    async def end(self, request: EndCommitRequest, _peer: Peer) -> Empty:
        """The end of a persist, or a worker that gives up."""
        commit = self._open.get(request.version)
        if commit is None or commit.intent_id != request.intent_id:
            if request.failed:
                return Empty()
            await self._undo_late(request)
            raise StaleVersionError(
                "this commit is not open any more: it took longer than its lease, or the file is gone"
            )
        self.take(request.version)
        try:
            if request.failed:
                await self.resolve(commit)
            elif commit.intent.kind == PERSIST and self.persisted is not None:
                await self.persisted(commit.intent_id, commit.intent, request.fingerprint)
            else:
                raise InvalidArgumentError("a written file is ended by COMPLETE, not by END_COMMIT")
        finally:
            self.close(commit)
        return Empty()

    # --- for the services that complete files ---

    async def begin_write(self, grant: WriteGrant, worker_id: str = "") -> OpenCommit:
        """Opens the commit of a write, or finds it open."""
        return await self._begin_once(grant.version, lambda: self._begin_write(grant, worker_id))

    def take(self, version: Version) -> OpenCommit | None:
        """The open commit of a version, for its end: its lease stops. Give it to `close` or `resolve`."""
        commit = self._open.pop(version, None)
        if commit is not None and commit.timer is not None:
            commit.timer.cancel()
        return commit

    def close(self, commit: OpenCommit) -> None:
        """The intent is dropped: the path is free."""
        self._locks.release(commit.lock)

    async def resolve(self, commit: OpenCommit) -> None:
        """A commit that did not end well: the namespace takes in what the store shows, and the intent is dropped."""
        intent = commit.intent
        try:
            if intent.kind == WRITE:
                await self._syncer.retake(intent.path)
        except OSError as error:  # the store is away: a later look-up of the path asks it again
            log.warning("commit_not_resolved", path=os.fsdecode(intent.path), error=str(error))
        finally:
            await self._core.pipeline.submit(lambda view: intents.drop(view, commit.intent_id))

    async def reopen(self, intent_id: int, intent: Intent) -> None:
        """After a restart: an intent found in the store becomes an open commit again."""
        lock = await self._locks.acquire(intent.path, owner="recovered commit")
        commit = OpenCommit(intent_id, intent, lock)
        self._open[intent.version] = commit
        self._lease(commit, COMMIT_RECOVERY_LEASE_S)

    async def settled(self, path: bytes) -> None:
        """Before a file is made: waits while an earlier change of its path is unclear. Raises UnavailableError."""
        await self._locks.settled(path)

    # --- inside ---

    async def _begin_once(self, version: Version, begin: Callable[[], "Awaitable[OpenCommit]"]) -> OpenCommit:
        commit = self._open.get(version)
        if commit is None:
            task = self._beginning.get(version)
            if task is None:
                task = self._core.background.spawn("begin-commit", _run(begin), awaited=True)
                self._beginning[version] = task
                task.add_done_callback(lambda _done: self._beginning.pop(version, None))
            commit = await asyncio.shield(task)
        self._lease(commit, COMMIT_LEASE_S)
        return commit

    async def _begin_write(self, grant: WriteGrant, worker_id: str) -> OpenCommit:
        if grant.by_id:
            path, lock = await self._locked_where_it_is(grant.file_id, "commit")
            return await self._open_under(lock, lambda view: self._intent_by_id(view, path, grant, worker_id))
        lock = await self._locks.acquire(grant.path, owner="commit")
        return await self._open_under(lock, lambda view: self._write_intent(view, grant, worker_id))

    async def _begin_persist(self, request: BeginCommitRequest) -> OpenCommit:
        file_id = self.file_to_persist(request.version)
        if file_id is None:
            raise StaleVersionError(
                "nobody asked for this version to be persisted: it was overtaken, or the master restarted"
            )
        path, lock = await self._locked_where_it_is(file_id, "persist")
        return await self._open_under(lock, lambda view: self._persist_intent(view, path, file_id, request))

    async def _locked_where_it_is(self, file_id: FileId, owner: str) -> tuple[bytes, PathLock]:
        """The file's path, locked. Raises StaleVersionError when it was removed."""
        while True:
            with self._core.reading() as view:
                path = standing(view, file_id).path
            lock = await self._locks.acquire(path, owner=owner)
            with self._core.reading() as view:
                if _path_or_none(view, file_id) == path:
                    return path, lock
            self._locks.release(lock)  # renamed while we waited

    async def _open_under(self, lock: PathLock, make: Callable[[View], Intent]) -> OpenCommit:
        def record(view: View) -> tuple[int, Intent]:
            intent = make(view)
            note_on_its_way(view, intent.file_id)
            return intents.put(view, intent, self._core.ids), intent

        try:
            intent_id, intent = await self._core.pipeline.submit(record)
        except BaseException:
            self._locks.release(lock)
            raise
        fail_at("master.after_commit_intent")
        commit = OpenCommit(intent_id, intent, lock)
        self._open[intent.version] = commit
        return commit

    def _write_intent(self, view: View, grant: WriteGrant, worker_id: str) -> Intent:
        actor = numbered(Actor(grant.user, frozenset(grant.groups), grant.superuser))
        asked = _AsCreate(grant.path, grant.mode, grant.overwrite)
        plan = plan_create(view, asked, actor, self._core.clock.now_ns())
        if plan.existing is not None:
            check_not_overtaken(view, plan.existing.version, grant.version, grant.path)
        return self._intent_of(grant, grant.path, plan.mount, plan.relative, worker_id)

    def _intent_by_id(self, view: View, path: bytes, grant: WriteGrant, worker_id: str) -> Intent:
        found = standing(view, grant.file_id)
        check_has_content(found.inode, path)
        check_not_overtaken(view, found.inode.version, grant.version, path)
        check_writable(found.mount, path)
        return self._intent_of(grant, path, found.mount, found.relative, worker_id)

    def _intent_of(
        self, grant: WriteGrant, path: bytes, mount: Mount | None, ufs_path: bytes, worker_id: str
    ) -> Intent:
        return Intent(
            WRITE,
            path,
            version=grant.version,
            mount_id=_mounted(mount).mount_id,
            ufs_path=ufs_path,
            user=grant.user,
            groups=grant.groups,
            superuser=grant.superuser,
            created_ns=self._core.clock.now_ns(),
            file_id=grant.file_id,
            worker_id=worker_id,
        )

    def _persist_intent(self, view: View, path: bytes, file_id: FileId, request: BeginCommitRequest) -> Intent:
        found = resolve(view, path, SYSTEM)
        if found.inode.id != file_id or found.inode.version != request.version:
            raise StaleVersionError("the file was written anew: this version is not persisted any more")
        mount = _mounted(found.mount)
        if mount.read_only:
            raise StaleVersionError("the mount became read-only: the file stays where it is")
        return Intent(
            PERSIST,
            path,
            version=request.version,
            mount_id=mount.mount_id,
            ufs_path=found.relative,
            created_ns=self._core.clock.now_ns(),
            file_id=file_id,
            worker_id=request.worker_id,
        )

    def _lease(self, commit: OpenCommit, lease_s: float) -> None:
        if commit.timer is not None:
            commit.timer.cancel()
        version = commit.intent.version
        commit.timer = asyncio.get_running_loop().call_later(lease_s, self._expire, version)

    def give_up(self, worker_id: WorkerId) -> None:
        """The worker's process is gone: the commits that it had begun are resolved now, not when their leases end."""
        for version, commit in list(self._open.items()):
            if commit.intent.worker_id == worker_id:
                self._expire(version)

    def _expire(self, version: Version) -> None:
        commit = self.take(version)
        if commit is not None:
            self._note_expired(commit)
            log.warning("commit_lease_ended", path=os.fsdecode(commit.intent.path), worker=commit.intent.worker_id)
            self._core.background.spawn("resolve-commit", self._resolve_and_close(commit))

    def _note_expired(self, commit: OpenCommit) -> None:
        if commit.intent.kind == PERSIST:
            self._expired[commit.intent_id] = commit.intent
            if len(self._expired) > LATE_COMMITS_NOTED_MAX:
                self._expired.popitem(last=False)

    async def _undo_late(self, request: EndCommitRequest) -> None:
        """A worker stored a file after its lease had ended. What it put there must not stand for a file that was
        removed or moved meanwhile; the caller raises that it was too late, and the queue decides about the rest."""
        intent = self._expired.pop(request.intent_id, None)
        if intent is not None and request.fingerprint is not None:
            async with self._locks.hold(intent.path, owner="late commit"):
                await self._syncer.drop_foreign(intent, request.fingerprint)

    async def _resolve_and_close(self, commit: OpenCommit) -> None:
        try:
            await self.resolve(commit)
        finally:
            self.close(commit)


async def _run(begin: Callable[[], Awaitable[OpenCommit]]) -> OpenCommit:
    return await begin()


def _mounted(mount: Mount | None) -> Mount:
    if mount is None:
        raise InvalidArgumentError("the path lies in no mount: nothing can be persisted there")
    return mount


def _path_or_none(view: View, file_id: FileId) -> bytes | None:
    try:
        return path_of(view, file_id)
    except FileNotFoundError:
        return None
