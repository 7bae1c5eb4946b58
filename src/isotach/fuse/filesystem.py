"""One mount's parts put together: session, tree, open files, writing, locks and the feed of changes.

Owns: which part gets which, the table of handlers by opcode, the order of start and end. Never: serves a request.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from isotach.base.errors import os_error
from isotach.client.link import Link
from isotach.conf import Settings
from isotach.fuse.contract import Handler, Later, Reply, Request
from isotach.fuse.feed import Feed, connections_to_master
from isotach.fuse.files.open_files import OpenFiles
from isotach.fuse.files.parts import Parts
from isotach.fuse.locks import ClusterLocks, KernelLocks, cluster_locks, kept_session
from isotach.fuse.plan import MountPlan
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.protocol.negotiation import Negotiated, Wanted
from isotach.fuse.session import Session
from isotach.fuse.state import name_of
from isotach.fuse.tree.attributes import Shown
from isotach.fuse.tree.mount_tree import MountTree, root_of
from isotach.fuse.writing.mount_writing import MountWriting

#: What the kernel asks in the name of no user, or about what a user holds already.
_ALWAYS_ALLOWED: Final = frozenset(
    {Opcode.READ, Opcode.WRITE, Opcode.FLUSH, Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.READDIR, Opcode.READDIRPLUS}
    | {Opcode.FSYNC, Opcode.FSYNCDIR, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.DESTROY}
    | {Opcode.NOTIFY_REPLY, Opcode.INIT}
)


class MountedFileSystem:
    """Everything between the kernel's requests and the cluster. `start`, run `session`, `close`."""

    def __init__(
        self, plan: MountPlan, settings: Settings, link: Link, device: int, inherited: Negotiated | None
    ) -> None:
        """Raises FileNotFoundError or NotADirectoryError for a source that is no directory."""
        fuse = settings.fuse
        root = root_of(link, plan.source)
        self.session: Final = Session(
            device, wanted_of(plan, settings), threads=fuse.threads, slow_threads=fuse.slow_threads, inherited=inherited
        )
        session = self.session
        options = plan.options
        shown = Shown(options.uid, options.gid, options.umask or 0)
        self._is_new: Final = inherited is None
        self._former_backings = 0
        self._tree: Final = MountTree(
            link,
            fuse,
            root,
            session.later,
            session.notifier,
            is_live=lambda: self._feed.is_live,
            shown=shown,
            restarts=plan.restarts,
        )
        listener = self._tree.listener
        self._feed: Final = Feed(connections_to_master(link), listener.changed, self._missed)
        core = self._tree.core
        spool = settings.dir / "fuse" / f"{name_of(Path(plan.mountpoint))}.spool"
        self._writing: Final = MountWriting(link, fuse, core.granted, spool, published_late=core.note)
        self._locks: Final = _locks_of(plan, settings, link, session.later, is_restart=inherited is not None)
        parts = Parts(
            link=link,
            settings=fuse,
            tree=core,
            writing=self._writing,
            locks=self._locks,
            later=session.later,
            notifier=session.notifier,
            backings=session.backings,
            read_only=options.read_only,
        )
        self._files: Final = OpenFiles(parts)
        self._tree.serve(self._files)
        self._locks.serve(self._files.locked, self._feed.catch_up)
        session.notifier.known_nodes = self._tree.known_nodes
        handlers = self._handlers()
        session.serve(_for_owner(handlers, os.geteuid()) if options.allow_root else handlers)

    def _handlers(self) -> dict[int, Handler]:
        return {**self._tree.handlers(), **self._files.handlers(), **self._locks.handlers()}

    def _missed(self) -> None:
        """The master may have restarted: it must be told at once which locks are held."""
        self._locks.hurry()
        self._tree.listener.missed()

    def start(self) -> None:
        """Before the first request: changes are heard of from here on."""
        self._feed.start()
        if not self._is_new:
            self._former_backings = self.session.backings.highest_given()
            self._locks.resume()
        self._writing.prepare()

    def forget_former(self) -> None:
        """Once it is served: what a process before this one has told the kernel is to be asked for again, and what it
        has registered for passthrough is let go: its locks would keep the cache from evicting it."""
        if not self._is_new:
            self._tree.listener.missed()
            self.session.backings.unregister_all(self._former_backings)

    def close(self) -> None:
        """After the last request: publishes what is left."""
        self._feed.stop()
        self._files.close()
        self._writing.close()
        self._locks.close()


def wanted_of(plan: MountPlan, settings: Settings) -> Wanted:
    """What is asked of the kernel for this mount."""
    fuse = settings.fuse
    return Wanted(
        max_readahead=fuse.read_ahead,
        max_background=fuse.max_background,
        passthrough=fuse.passthrough != "off" and not fuse.training,
        no_open=fuse.training,
        posix_locks=has_cluster_locks(settings),
        flock=has_cluster_locks(settings),
        posix_acl=plan.options.default_permissions,
    )


def _locks_of(
    plan: MountPlan, settings: Settings, link: Link, later: Later, *, is_restart: bool
) -> ClusterLocks | KernelLocks:
    if not has_cluster_locks(settings):
        return KernelLocks()
    file = settings.dir / "fuse" / f"{name_of(Path(plan.mountpoint))}.locks"
    return cluster_locks(link, later, kept_session(file, is_restart=is_restart), settings.fuse.server_timeout)


def has_cluster_locks(settings: Settings) -> bool:
    """Whether locks go to the master. Data that does not change is not worth it: training mounts keep their own."""
    return settings.fuse.locks == "cluster" and not settings.fuse.training


def _for_owner(handlers: Mapping[int, Handler], owner: int) -> dict[int, Handler]:
    """`allow_root`: the kernel lets all come, and here all but the owner and root are turned away."""

    def guarded(handler: Handler) -> Handler:
        def serve(request: Request) -> Reply:
            if request.uid not in (owner, 0):
                raise os_error(errno.EACCES, "this mount is its owner's and root's: mount with allow_other")
            return handler(request)

        return serve

    return {opcode: handler if opcode in _ALWAYS_ALLOWED else guarded(handler) for opcode, handler in handlers.items()}
