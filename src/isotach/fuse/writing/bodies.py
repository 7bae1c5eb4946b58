"""Which kind of body a file being written gets: memory, a draft of the worker, or a spool file.

Owns: the choice, and what all bodies of a mount share. Never: moves bytes between bodies (`live_file.py`).
"""

import errno
from pathlib import Path

from isotach.base.errors import UnavailableError
from isotach.base.limits import FUSE_FIRST_ROOM_BYTES, FUSE_MEMORY_FILES_SHARE
from isotach.base.types import FileId, WriteType
from isotach.client.link import Link
from isotach.conf import FuseSettings
from isotach.fuse.writing.below import Below, Granted
from isotach.fuse.writing.body import Body, BodyFullError, MemoryBody, MemoryBudget
from isotach.fuse.writing.descriptors import OwnedDescriptor
from isotach.fuse.writing.draft_session import DraftSession
from isotach.fuse.writing.file_body import DraftBody, SpoolBody
from isotach.fuse.writing.grants import Grants
from isotach.wire.messages import CreateReply

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class Bodies:
    """Of one mount; for many threads."""

    def __init__(self, link: Link, settings: FuseSettings, granted: Granted, folder: Path) -> None:
        """`folder`: for spool files, made if it is missing."""
        self.settings = settings
        self.session = DraftSession(link)
        self._link = link
        self._granted = granted
        self._folder = folder
        self._budget = MemoryBudget(int(settings.buffer_memory * FUSE_MEMORY_FILES_SHARE))

    def grants(self, file_id: FileId, created: CreateReply | None) -> Grants:
        """The leave to replace a file's content."""
        return Grants(self._link, file_id, self.settings.write_type, created)

    def below(self, file_id: FileId, version: int, held: OwnedDescriptor | None = None) -> Below:
        """A version, to be read."""
        return Below(self._link, self._granted, file_id, version, held)

    def current_version(self, file_id: FileId) -> int:
        """The version that the namespace has now. Raises FileNotFoundError."""
        return self._granted(file_id).inode.version

    def small(self, grants: Grants, end: int) -> Body | None:
        """A body in memory for `end` bytes, if that is right for so many."""
        if end > self.settings.small_file:
            return None
        body = MemoryBody(self._budget, self.settings.small_file, grants)
        try:
            body.prepare(end, end)
        except BodyFullError:
            return None
        return body

    def large(self, grants: Grants, room: int) -> Body:
        """A draft with room for so many bytes; a spool file where there is no worker here, or where its tiers are full
        of what cannot be evicted and the file is for the under storage anyway. Raises OSError(ENOSPC) else."""
        try:
            return DraftBody(self.session, grants, max(room, FUSE_FIRST_ROOM_BYTES))
        except UnavailableError:
            return self.spool(grants)
        except FileNotFoundError:  # nobody will publish it: it is written on without a name
            return self.spool(grants)
        except OSError as problem:
            if problem.errno not in _FULL or grants.write_type is WriteType.MUST_CACHE:
                raise
            return self.spool(grants)

    def may_spool(self, grants: Grants, body: Body) -> bool:
        """Whether a file for which the tiers have no room goes on in a spool file: not when the cache is all it has."""
        try:
            return isinstance(body, DraftBody) and grants.write_type is not WriteType.MUST_CACHE
        except FileNotFoundError:  # it has no name any more, and goes with its last handle
            return True

    def spool(self, grants: Grants) -> Body:
        """A spool file."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SpoolBody(self._folder, grants)
