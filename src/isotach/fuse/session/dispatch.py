"""Hands each request to its handler, and sends what it returns or raises.

Owns: the table of handlers, and that every request that wants an answer gets one. Never: blocks, or knows the device.
"""

from collections.abc import Callable, Mapping
from errno import EIO, ENOSYS

from isotach.base.errors import ProtocolError
from isotach.fuse.contract import Channel, Handler, Request
from isotach.fuse.protocol import layouts, requests
from isotach.fuse.protocol.constants import OPCODE_END, UNANSWERED, Opcode
from isotach.fuse.session.errnos import Errnos
from isotach.obs.log import get_logger

_log = get_logger("fuse.session")

_unpack_header = layouts.IN_HEADER.unpack_from
_HEADER_BYTES = layouts.IN_HEADER.size

#: Takes an interruption: the request's `unique`, where it was read, its own `unique`.
Interrupted = Callable[[int, Channel, int], None]


def _agree(_: Request) -> bytes:
    return b""


class Dispatcher:
    """The table. Any thread; one `message` at a time for each buffer."""

    def __init__(self, errnos: Errnos, interrupted: Interrupted) -> None:
        self._errnos = errnos
        self._interrupted = interrupted
        self._table: list[Handler | None] = [None] * OPCODE_END
        self._unanswered = [opcode in UNANSWERED for opcode in range(OPCODE_END)]
        self.served = [0] * OPCODE_END

    def set_handlers(self, handlers: Mapping[int, Handler]) -> None:
        """Opcodes without a handler are answered ENOSYS: the kernel then stops asking where it can do without."""
        table: list[Handler | None] = [handlers.get(opcode) for opcode in range(OPCODE_END)]
        table[Opcode.INTERRUPT] = self._interrupt
        if table[Opcode.DESTROY] is None:
            table[Opcode.DESTROY] = _agree
        self._table = table

    def message(self, view: memoryview, length: int, channel: Channel) -> int:
        """Serves the request in the first `length` bytes of `view`; its opcode. Raises ProtocolError for what is no
        request at all."""
        if length < _HEADER_BYTES:
            raise ProtocolError(f"the kernel sent {length} bytes, less than a header; unmount, and report this")
        claimed, opcode, unique, node, uid, gid, pid, extension = _unpack_header(view)
        end = length - extension * 8
        if claimed != length or end < _HEADER_BYTES:
            raise ProtocolError(f"the kernel sent {length} bytes for a request of {claimed}; unmount, and report this")
        handler = self._table[opcode] if opcode < OPCODE_END else None
        if handler is None:
            if opcode not in UNANSWERED:
                channel.fail(unique, ENOSYS)
            return int(opcode)
        self.served[opcode] += 1
        self.serve(Request(opcode, unique, node, uid, gid, pid, view[_HEADER_BYTES:end], channel), handler)
        return int(opcode)

    def serve(self, request: Request, handler: Handler) -> None:
        """Runs the handler and answers; the pools serve through this too. Never raises."""
        try:
            answer = handler(request)
        except Exception as error:
            number = self._errnos.of(error, request.opcode)
            if not self._unanswered[request.opcode]:
                self._refuse(request, number)
            return
        if answer is None:
            return
        try:
            if isinstance(answer, bytes):
                request.channel.reply(request.unique, answer)
            else:
                request.channel.reply(request.unique, *answer)
        except Exception:
            # The kernel does not take it (too long, malformed), or it is no reply at all: the program gets EIO.
            _log.exception("reply_refused", opcode=request.opcode)
            self._refuse(request, EIO)

    def _refuse(self, request: Request, number: int) -> None:
        try:
            request.channel.fail(request.unique, number)
        except OSError:
            _log.exception("errno_refused", opcode=request.opcode, errno=number)

    def _interrupt(self, request: Request) -> None:
        self._interrupted(requests.decode_interrupt(request.body), request.channel, request.unique)
