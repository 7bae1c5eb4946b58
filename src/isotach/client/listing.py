"""Listing directories, page by page, with flat memory however many entries there are.

Owns: the order of a recursive listing (depth first, each directory before what it holds) and the page that is under way
while the present one is consumed. Never: keeps more than one page of each directory on the way down.
"""

from collections.abc import Iterator

from isotach.base.errors import IsotachError
from isotach.base.paths import normalize
from isotach.base.types import FileInfo
from isotach.client import operations
from isotach.client.link import Link
from isotach.client.operations import ListPage, Operation
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.blocking_client import BlockingConnection

#: The first page brought the directory up to date; the others continue it.
_NEVER_SYNC_S = -1.0


def list_directory(link: Link, path: bytes, recursive: bool, sync_interval_s: float | None) -> Iterator[FileInfo]:
    """Lazy, in byte order of the names. The first page is asked for at once: raises FileNotFoundError,
    NotADirectoryError or PermissionError here, not at the first step."""
    first = link.run(operations.list_page(path, b"", sync_interval_s))
    entries = _entries(link, path, first)
    return _descend(link, entries, sync_interval_s) if recursive else entries


def _descend(link: Link, entries: Iterator[FileInfo], sync_interval_s: float | None) -> Iterator[FileInfo]:
    stack = [entries]
    try:
        while stack:
            info = next(stack[-1], None)
            if info is None:
                stack.pop()
                continue
            yield info
            if info.is_dir:
                path = normalize(info.path)
                try:
                    page = link.run(operations.list_page(path, b"", sync_interval_s))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it went away while we walked
                stack.append(_entries(link, path, page))
    finally:
        while stack:
            getattr(stack.pop(), "close", lambda: None)()


def _entries(link: Link, path: bytes, page: ListPage) -> Iterator[FileInfo]:
    ahead = _PageAhead(link)
    try:
        while True:
            following = None
            if page.next_after is not None:
                following = operations.list_page(path, page.next_after, _NEVER_SYNC_S)
                ahead.ask(following)
            yield from page.infos
            if following is None:
                return
            page = ahead.take(following)
    finally:
        ahead.close()


class _PageAhead:
    """One request under way on a connection of its own, leased when the first page is not the last."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: BlockingChannel | None = None
        self._connection: BlockingConnection | None = None
        self._call_id = 0

    def ask(self, operation: Operation[ListPage]) -> None:
        """Sends the request; whatever goes wrong shows in `take`."""
        try:
            if self._channel is None or self._connection is None:
                self._channel = self._link.reader()
                self._connection = self._channel.lease()
            self._call_id = self._connection.send(operation.method, operation.request)
        except (OSError, IsotachError):
            self.close()

    def take(self, operation: Operation[ListPage]) -> ListPage:
        """The page that was asked for; asked for again, with retries, if the connection broke meanwhile."""
        connection = self._connection
        if connection is not None:
            try:
                reply, size = connection.receive_header(self._call_id)
                body = memoryview(bytearray(size))
                connection.receive_payload_into(body)
                return operation.decode(reply, body)
            except (ConnectionError, TimeoutError):
                self.close()
        return self._link.run(operation)

    def close(self) -> None:
        """Gives the connection back; one with an answer under way is closed by its channel."""
        channel, connection = self._channel, self._connection
        self._channel = self._connection = None
        if channel is not None and connection is not None:
            channel.give_back(connection)
