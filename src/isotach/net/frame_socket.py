"""A blocking socket that reads and writes frames: what the blocking client and the threaded server share.

Owns: a small receive buffer (header and message usually come in one receive), kernel time-outs, descriptors passed over
Unix sockets, sends of several buffers. Never: keeps protocol state, retries, or closes by itself.

Time-outs are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO): Python's own would cost a poll before every receive.
"""

import array
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from isotach.base.errors import DeadlineExceededError, ProtocolError, UnavailableError
from isotach.base.limits import HEADER_BYTES, PAYLOAD_BYTES_MAX, RECEIVE_BUFFER_BYTES, SILENCE_S
from isotach.base.types import ReadBuffer
from isotach.wire import frames

_TIMEVAL: Final = struct.Struct("ll")
_FD_SPACE: Final = socket.CMSG_SPACE(4 * 4)
_IOV_MAX: Final = 512


class FrameSocket:
    """Not thread-safe: one thread at a time."""

    __slots__ = (
        "_buffer", "_end", "_on_silence", "_payload_bytes_max", "_start", "_timeout_s", "_view", "fds", "name", "sock",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        self.sock = sock
        self._on_silence = on_silence
        self.name = name  # of the peer, for messages
        self.fds: list[int] = []  # received and not yet taken
        self._payload_bytes_max = payload_bytes_max
        self._buffer = bytearray(RECEIVE_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0  # of what has been received and not yet used
        self._end = 0
        self._timeout_s = 0.0

    # --- time ---

    def set_timeout(self, seconds: float) -> None:
        """Bounds every single wait from now on; cheap when it does not change. 0: wait for ever.

        With `on_silence` the wait is bounded by SILENCE_S, too: it is asked then, and raises when the peer is known to
        be gone; otherwise the wait goes on until its deadline.
        """
        if seconds == self._timeout_s:
            return
        self._timeout_s = seconds
        if self._on_silence is not None:
            seconds = min(seconds or SILENCE_S, SILENCE_S)
        microseconds = max(1, int(seconds * 1e6)) if seconds else 0
        value = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    # --- receiving ---

    @property
    def buffered_bytes(self) -> int:
        """Received and not yet used."""
        return self._end - self._start

    def wait_for_data(self) -> bool:
        """Waits for the first byte of a frame; False when the time-out passed without one. Raises EOFError when the
        peer closed the connection."""
        try:
            if self._end == self._start:
                self._fill(1, 0.0)
        except DeadlineExceededError:
            return False
        return True

    def receive_header(self, deadline: float = 0.0, *, with_fds: bool = False) -> frames.Header:
        """The next frame's header. `deadline` is monotonic seconds, 0 for none.

        Raises EOFError when the peer closed between frames, UnavailableError when it did in the middle,
        DeadlineExceededError when time is up, ProtocolError for what no frame may say.
        """
        if self._end - self._start < HEADER_BYTES:
            self._fill(HEADER_BYTES, deadline, with_fds)
        header = frames.read_header(self._buffer, self._start, self._payload_bytes_max)
        self._start += HEADER_BYTES
        return header

    def receive_message(self, size: int, deadline: float = 0.0) -> frames.Bytes:
        """The message behind the header; valid only until the next receive."""
        if size > len(self._buffer):
            message = bytearray(size)
            self.receive_into(memoryview(message), deadline)
            return message
        if self._end - self._start < size:
            self._fill(size, deadline, between_frames=False)
        start = self._start
        self._start = start + size
        return self._view[start : start + size]

    def receive_into(self, view: memoryview, deadline: float = 0.0) -> None:
        """Fills `view` (of bytes) with the next bytes of a payload, as a whole."""
        size = len(view)
        filled = min(size, self._end - self._start)
        if filled:
            view[:filled] = self._view[self._start : self._start + filled]
            self._start += filled
        while filled < size:
            count = self._receive_some(view[filled:], deadline, socket.MSG_WAITALL)
            if not count:
                raise self._broken_off()
            filled += count

    def discard(self, size: int, deadline: float = 0.0) -> None:
        """Drops the next `size` bytes of a payload."""
        taken = min(size, self._end - self._start)
        self._start += taken
        size -= taken
        while size:
            self._start = self._end = 0
            count = self._receive_some(self._view[: min(size, len(self._view))], deadline)
            if not count:
                raise self._broken_off()
            size -= count

    def take_fd(self) -> int | None:
        """The descriptor that came with the last header; extra ones are closed."""
        taken = self.fds.pop(0) if self.fds else None
        self.close_fds()
        return taken

    def close_fds(self) -> None:
        """Closes descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())

    def _fill(self, need: int, deadline: float, with_fds: bool = False, *, between_frames: bool = True) -> None:
        """Receives until `need` bytes are held, in one piece of the buffer."""
        held = self._end - self._start
        if held == 0:
            self._start = self._end = 0
        elif self._start + need > len(self._buffer):
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        while self._end - self._start < need:
            free = self._view[self._end :]
            count = self._receive_with_fds(free, deadline) if with_fds else self._receive_some(free, deadline)
            if not count:
                if between_frames and self._start == self._end:
                    raise EOFError(f"{self.name} closed the connection")
                raise self._broken_off()
            self._end += count
            if deadline and self._end - self._start < need:
                self._check_deadline(deadline)

    def _receive_some(self, view: memoryview, deadline: float, flags: int = 0) -> int:
        while True:
            try:
                count = self.sock.recv_into(view, 0, flags)
                break
            except OSError as problem:
                if not self._may_wait_on(problem, deadline):
                    raise self._receive_failed(problem) from problem
        if deadline and flags and 0 < count < len(view):
            self._check_deadline(deadline)
        return count

    def _receive_with_fds(self, view: memoryview, deadline: float) -> int:
        while True:
            try:
                count, ancillary, flags, _ = self.sock.recvmsg_into([view], _FD_SPACE, socket.MSG_CMSG_CLOEXEC)
                break
            except OSError as problem:
                if not self._may_wait_on(problem, deadline):
                    raise self._receive_failed(problem) from problem
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self.fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            self.close_fds()
            raise ProtocolError(
                f"{self.name} passed more descriptors than the protocol allows (or too many are open here)"
            )
        return count

    def _check_deadline(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise self._late()
        self.set_timeout(left_s)

    def _broken_off(self) -> Exception:
        return UnavailableError(f"{self.name} closed the connection in the middle of a frame: try again")

    def _may_wait_on(self, problem: OSError, deadline: float) -> bool:
        """Whether a wait that timed out may go on: there is time, and nobody knows that the peer is gone."""
        if not isinstance(problem, BlockingIOError) or self._on_silence is None:
            return False
        if deadline and time.monotonic() >= deadline:
            return False
        self._on_silence()
        if deadline:
            self.set_timeout(max(0.001, deadline - time.monotonic()))
        return True

    def _receive_failed(self, problem: OSError) -> Exception:
        if isinstance(problem, BlockingIOError):
            return self._late()
        return UnavailableError(f"the connection to {self.name} was lost ({problem.strerror or problem}): try again")

    def _late(self) -> Exception:
        return DeadlineExceededError(f"{self.name} did not answer in time: the outcome of the call is unknown")

    # --- sending ---

    def send(self, frame: bytes, buffers: list[ReadBuffer] | None = None) -> None:
        """Sends header and message, then the payload's buffers, without joining them."""
        try:
            if buffers or self._on_silence is not None:
                self._send_buffers([frame, *(buffers or ())])
            else:
                self.sock.sendall(frame)
        except OSError as problem:
            raise self._send_failed(problem) from problem

    def send_bytes(self, view: memoryview) -> None:
        """Sends part of a payload."""
        try:
            self.sock.sendall(view)
        except OSError as problem:
            raise self._send_failed(problem) from problem

    def send_with_fd(self, frame: bytes, fd: int) -> None:
        """Sends a frame with a descriptor on its first byte. Unix sockets only."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            sent = self.sock.sendmsg([frame], rights)
            if sent < len(frame):
                self.sock.sendall(memoryview(frame)[sent:])
        except OSError as problem:
            raise self._send_failed(problem) from problem

    def _send_failed(self, problem: OSError) -> Exception:
        if isinstance(problem, BlockingIOError):
            return DeadlineExceededError(f"{self.name} did not take what was sent in time")
        return UnavailableError(f"the connection to {self.name} was lost ({problem.strerror or problem}): try again")

    def send_file(self, fd: int, offset: int, length: int) -> None:
        """Sends `length` bytes of a file from `offset`, by the kernel alone. Raises OSError (EIO) when the file ends
        before: the connection is then of no use, as its peer waits for bytes that do not exist."""
        out = self.sock.fileno()
        while length:
            try:
                sent = os.sendfile(out, fd, offset, length)
            except (BlockingIOError, ConnectionError) as problem:
                raise self._send_failed(problem) from problem
            if not sent:
                raise OSError(errno.EIO, "the file ended before the bytes that were promised")
            offset += sent
            length -= sent

    def _send_buffers(self, buffers: list[ReadBuffer]) -> None:
        views = [memoryview(part).cast("B") for part in buffers]
        deadline = time.monotonic() + self._timeout_s if self._timeout_s else 0.0
        while views:
            try:
                sent = self.sock.sendmsg(views[:_IOV_MAX])
            except BlockingIOError as problem:  # nothing of these went
                if not self._may_wait_on(problem, deadline):
                    raise
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    # --- closing ---

    def has_news(self) -> bool:
        """Whether an idle connection has become readable: it was closed, or its server says goodbye."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Closes this process's end only: a forked parent's connection goes on."""
        self.close_fds()
        self.sock.close()
