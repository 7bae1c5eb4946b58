"""The body of one S3 answer, received straight into the reader's memory.

Owns: the connection for as long as its body is being received, and what a short body means. Never: sends requests, or
retries.

On a plain socket one `recv(MSG_WAITALL)` without the GIL fills a whole piece, with the kernel's own time-out: no poll,
no buffer between. Everything else (TLS, chunked bodies, a server that closes behind its answer) goes through
http.client, which copies no large reads either.
"""

import http.client
import socket
import struct
from collections.abc import Callable
from typing import Final

_TIMEVAL: Final = struct.Struct("@ll")


class S3Body:
    """A good answer whose body is still to come. `headers` have names in lower case. For one thread."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        give_back: Callable[[http.client.HTTPConnection], None],
        timeout_s: float,
    ) -> None:
        self.status: Final = response.status
        self.headers: Final = {name.lower(): value for name, value in response.getheaders()}
        self._connection = connection
        self._response = response
        self._give_back = give_back
        self._left = response.length  # None: chunked
        self._is_open = True
        self._first = b""
        self._socket: socket.socket | None = None
        if type(connection.sock) is socket.socket and self._left is not None:
            self._go_raw(connection.sock, timeout_s)

    @property
    def length(self) -> int | None:
        """Bytes still to come; None when the server did not say."""
        return self._left

    def read_into(self, view: memoryview) -> int:
        """Fills `view`; fewer bytes only where the body ends or is about to fail, 0 at its end. Raises
        http.client.IncompleteRead for a body shorter than announced, TimeoutError, OSError."""
        wanted = len(view) if self._left is None else min(len(view), self._left)
        if not wanted or not self._is_open:
            return 0
        count = self._receive(view[:wanted])
        if not count and self._left:
            self.close()
            raise http.client.IncompleteRead(b"", self._left)
        if self._left is not None:
            self._left -= count
        if self._left == 0 or not count:
            self._end()
        return count

    def close(self) -> None:
        """Safe at any time and more than once. In mid-body it costs the connection."""
        if self._is_open:
            self._is_open = False
            self._response.close()
            self._connection.close()

    def _end(self) -> None:
        """The connection is free for the next request."""
        self._is_open = False
        self._response.close()
        self._give_back(self._connection)

    def _go_raw(self, plain: socket.socket, timeout_s: float) -> None:
        """Takes what http.client has read beyond the headers; from there on the socket is read past it."""
        if self._left:
            plain.settimeout(timeout_s)
            self._first = self._response.fp.read(min(self._left, len(self._response.fp.peek())))
        plain.settimeout(None)
        whole_s = int(timeout_s)
        plain.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(whole_s, int((timeout_s - whole_s) * 1e6))
        )
        self._socket = plain

    def _receive(self, view: memoryview) -> int:
        if self._socket is None:
            return self._response.readinto(view)
        count = min(len(self._first), len(view))
        if count:
            view[:count] = self._first[:count]
            self._first = self._first[count:]
            view = view[count:]
        if not view:
            return count
        try:
            return count + self._socket.recv_into(view, len(view), socket.MSG_WAITALL)
        except BlockingIOError:
            if count:
                return count  # the next call waits anew
            raise TimeoutError("timed out in the middle of an answer") from None
