"""Which mounts use locks on a file, so that what one wrote under a lock is seen by the next that takes it.

Owns: the users of each file, who of them knows that others are there, and who waits until they know. Never: knows which
locks are held.

A mount that is alone with a file publishes it when it is closed, not at every unlock. The first lock of a second mount
waits until the first one has been told (with its next sign of life), has published what it wrote, and said so; from
then on each publishes before it gives a lock up, and looks for a newer content when it has taken one. The idea is that
of NFSv4's delegations, recalled when somebody else comes.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from isotach.base.limits import LOCK_USERS_MAX
from isotach.base.types import FileId

#: Users of one file: whether each knows that it is not alone.
_Users = dict[bytes, bool]


class LockUsers:
    """For the event-loop thread."""

    def __init__(self, users_max: int = LOCK_USERS_MAX) -> None:
        self._users_max: Final = users_max
        self._files: Final[dict[FileId, _Users]] = {}
        self._files_of: Final[dict[bytes, set[FileId]]] = {}
        self._told_later: Final[dict[FileId, asyncio.Event]] = {}
        self.count = 0

    def enter(self, file_id: FileId, session: bytes) -> bool:
        """The session uses locks on the file; whether all others know that they are not alone. Raises nothing: beyond
        the bounds a user is not noted, and is told that it shares the file."""
        users = self._files.get(file_id)
        if users is None:
            users = self._files[file_id] = {}
        if session not in users:
            if self.count >= self._users_max:
                if not users:
                    del self._files[file_id]
                return True
            users[session] = False
            self._files_of.setdefault(session, set()).add(file_id)
            self.count += 1
        return all(knows for user, knows in users.items() if user != session)

    def is_shared(self, file_id: FileId, session: bytes) -> bool:
        """Whether the session must publish before it unlocks; it knows from now on."""
        users = self._files.get(file_id, {})
        if session not in users:
            return True
        users[session] = users[session] or len(users) > 1
        return users[session]

    def wanted_of(self, session: bytes) -> list[FileId]:
        """The files that it is to publish, and does not know yet that others want."""
        return [
            file_id
            for file_id in self._files_of.get(session, ())
            if len(self._files[file_id]) > 1 and not self._files[file_id][session]
        ]

    def published(self, session: bytes, file_ids: Iterable[FileId]) -> None:
        """The session knows, and has published what it wrote."""
        for file_id in file_ids:
            users = self._files.get(file_id)
            if users is not None and session in users:
                users[session] = True
                self._tell(file_id)

    def leave(self, session: bytes, file_ids: Iterable[FileId]) -> None:
        """The session uses no locks on these files any more."""
        mine = self._files_of.get(session, set())
        for file_id in list(file_ids):
            if file_id in mine:
                mine.discard(file_id)
                users = self._files[file_id]
                del users[session]
                self.count -= 1
                if not users:
                    del self._files[file_id]
                self._tell(file_id)
        if not mine:
            self._files_of.pop(session, None)

    def end(self, session: bytes) -> None:
        """The session is gone."""
        self.leave(session, list(self._files_of.get(session, ())))

    async def all_know(self, file_id: FileId, session: bytes) -> None:
        """Returns once every other user knows, or is gone."""
        while not self.enter(file_id, session):
            await self._told_later.setdefault(file_id, asyncio.Event()).wait()

    def _tell(self, file_id: FileId) -> None:
        event = self._told_later.pop(file_id, None)
        if event is not None:
            event.set()
