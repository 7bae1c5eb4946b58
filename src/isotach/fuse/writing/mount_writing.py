"""The files being written through one mount: how each begins, and how all of them end.

Owns: `MountWriting`, which implements `contract.Writing`. Never: knows the kernel's handles (`fuse.files` does).
"""

from collections.abc import Callable
from pathlib import Path

from isotach.base.errors import IsotachError
from isotach.base.limits import FUSE_ROOM_WATCH_S, FUSE_SESSION_KEEP_S
from isotach.base.types import FileId, Inode
from isotach.client.link import Link
from isotach.conf import FuseSettings
from isotach.fuse.writing.below import Granted
from isotach.fuse.writing.bodies import Bodies
from isotach.fuse.writing.content import Content
from isotach.fuse.writing.counters import WritingCounters
from isotach.fuse.writing.draft_session import DraftSession
from isotach.fuse.writing.live_file import RoomWatch, WrittenFile
from isotach.fuse.writing.publisher import Publisher
from isotach.obs.log import get_logger
from isotach.wire.messages import CreateReply

log = get_logger("fuse.writing")


class MountWriting:
    """For many threads."""

    def __init__(
        self,
        link: Link,
        settings: FuseSettings,
        granted: Granted,
        folder: Path,
        *,
        published_late: Callable[[Inode], None] | None = None,
    ) -> None:
        """`granted` gives a file's record with a grant to read it, from the master (`Tree.granted`). `folder` takes
        spool files: on a host without a worker, or when its tiers are full; made when it is needed. `published_late`
        is told of what was published in no call of a program (`Tree.note`)."""
        self._bodies = Bodies(link, settings, granted, folder)
        self._settings = settings
        self.counters = WritingCounters()
        self._publisher = Publisher(published_late)
        self._ticker = Publisher()  # for what must never wait for a store
        self._ticker.later(_SessionKeeper(self._bodies.session), FUSE_SESSION_KEEP_S)

    def begin(self, inode: Inode, created: CreateReply | None, truncate: bool) -> WrittenFile:
        """As `contract.Writing.begin`. A file that was closed and could not be published yet is the same one again.
        Raises OSError where a draft is begun at once (`fuse.write_passthrough`)."""
        known = self._publisher.take_back(inode.id)
        if isinstance(known, WrittenFile):
            known.reopen()
            if truncate:
                known.begin_empty()
            return known
        length = 0 if truncate else inode.length
        bodies = self._bodies
        content = Content(bodies, bodies.grants(inode.id, created), inode.id, length, inode.version)
        file = WrittenFile(inode, content, self._publisher, self.counters)
        if truncate and (inode.length or created is None):
            file.begin_empty()
        if not length and self._may_back() and file.begin_backed(self._settings.write_passthrough == "on"):
            self._ticker.later(RoomWatch(file), FUSE_ROOM_WATCH_S)
        return file

    def unpublished(self, file_id: FileId) -> WrittenFile | None:
        """The file, if it was closed here and could not be published yet: its bytes are newer than the namespace's."""
        known = self._publisher.kept(file_id)
        return known if isinstance(known, WrittenFile) else None

    def prepare(self) -> None:
        """Opens the session with the local worker, so that the first file does not wait for it. Never raises."""
        try:
            self._bodies.session.connect()
        except (OSError, IsotachError) as problem:
            log.info("no_local_drafts", error=problem)

    def close(self) -> None:
        """Tries once more to publish what is closed and unpublished, leaves the rest to the worker where it can, and
        ends. Open files are to be closed before."""
        for file in self._publisher.unpublished():
            file.late()
        self._publisher.close()
        self._ticker.close()
        for file in self._publisher.unpublished():
            if isinstance(file, WrittenFile):
                file.hand_over()
        self._bodies.session.close()

    def _may_back(self) -> bool:
        wanted = self._settings.write_passthrough
        return wanted == "on" or (wanted == "auto" and self._bodies.session.hard_limit)


class _SessionKeeper:
    """Looks after the session with the worker, as long as the mount lives."""

    def __init__(self, session: DraftSession) -> None:
        self._session = session

    def late(self) -> float | None:
        self._session.keep()
        return FUSE_SESSION_KEEP_S
