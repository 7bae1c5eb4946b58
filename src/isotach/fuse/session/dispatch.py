"""Hands each request to its handler, and sends what it returns or raises.

Owns: the table of handlers, and that every request that wants an answer gets one. Never: blocks, or knows the device.
"""

from collections.abc import Callable, Mapping
from errno import ENOSYS

from isotach.base.errors import ProtocolError
from isotach.base.types import ReadBuffer
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
        self._table = table

    def message(self, view: memoryview, length: int, channel: Channel) -> int:
        """Serves the request in the first `length` bytes of `view`; its opcode. Raises ProtocolError for what is no
        request at all, OSError when the kernel does not take an answer."""
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
        """Runs the handler and answers (also what the pools do with theirs). Raises OSError as `message` does."""
        try:
            answer: object = handler(request)
        except Exception as error:
            number = self._errnos.of(error, request.opcode)
            if not self._unanswered[request.opcode]:
                request.channel.fail(request.unique, number)
            return
        if answer is None:
            return
        if isinstance(answer, bytes | bytearray | memoryview):
            request.channel.reply(request.unique, answer)
        else:
            pieces: list[ReadBuffer] = list(answer)  # type: ignore[call-overload]
            request.channel.reply(request.unique, *pieces)

    def _interrupt(self, request: Request) -> None:
        self._interrupted(requests.decode_interrupt(request.body), request.channel, request.unique)
