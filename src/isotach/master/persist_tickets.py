"""How far calls of PERSIST are, for whoever asks.

Owns: the tickets, a bounded number of them. Never: decides anything by them: they only count.
"""

from collections import OrderedDict
from typing import Final

from isotach.base.limits import PERSIST_ERRORS_TOLD_MAX, PERSIST_FAILING_NOTED_MAX, PERSIST_TICKETS_MAX
from isotach.base.paths import is_within
from isotach.base.types import FileId
from isotach.wire.messages import PersistStatusReply


class PersistTicket:
    """One call: `total` files were queued for it. What is persisted below its path meanwhile counts as done."""

    def __init__(self, path: bytes) -> None:
        self.path: Final = path
        self.total = 0
        self.done = 0
        self.finished = False
        self._failing: dict[FileId, str] = {}  # the latest failure of those that are tried again

    def note_done(self, file_id: FileId) -> None:
        self.done += 1
        self._failing.pop(file_id, None)

    def note_failed(self, file_id: FileId, error: str) -> None:
        if file_id in self._failing or len(self._failing) < PERSIST_FAILING_NOTED_MAX:
            self._failing[file_id] = error

    def status(self) -> PersistStatusReply:
        errors = list(self._failing.values())[:PERSIST_ERRORS_TOLD_MAX]
        return PersistStatusReply(True, self.total, self.done, len(self._failing), errors, self.finished)


class PersistTickets:
    """By the number that the caller chose. The oldest is forgotten when there are too many."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[int, PersistTicket] = OrderedDict()

    def open(self, number: int, path: bytes) -> PersistTicket:
        """Number 0 is nobody's: it cannot be asked for."""
        ticket = PersistTicket(path)
        if number:
            self._tickets[number] = ticket
            if len(self._tickets) > PERSIST_TICKETS_MAX:
                self._tickets.popitem(last=False)
        return ticket

    def status(self, number: int) -> PersistStatusReply:
        ticket = self._tickets.get(number)
        return PersistStatusReply() if ticket is None else ticket.status()

    def note_done(self, path: bytes, file_id: FileId) -> None:
        """A file was persisted."""
        for ticket in self._tickets.values():
            if not ticket.finished and is_within(path, ticket.path):
                ticket.note_done(file_id)

    def note_failed(self, path: bytes, file_id: FileId, error: str) -> None:
        """A try failed; the file stays queued."""
        for ticket in self._tickets.values():
            if not ticket.finished and is_within(path, ticket.path):
                ticket.note_failed(file_id, error)
