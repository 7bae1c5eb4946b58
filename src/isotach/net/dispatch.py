"""The dispatcher: which handler serves which method, and how.

Owns: the handler table of an asynchronous server and the shapes a handler may have. Never: touches a connection
(`server.py` does).
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from isotach.base.types import ReadBuffer
from isotach.wire.messages import AnyMethod, Method, ReplyT, RequestT

#: One buffer or several, sent one after the other.
Payload = ReadBuffer | Sequence[ReadBuffer]

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Reply(msgspec.Struct, Generic[StructT], gc=False):
    """A reply with a payload behind it."""

    reply: StructT
    payload: Payload = b""


class Route(msgspec.Struct, frozen=True):
    """One row of the table."""

    method: AnyMethod
    handler: Callable[..., Any]
    takes_payload: bool
    detach: bool


class Dispatcher:
    """Handlers by method.

    A handler is `h(request, peer)`, or `h(request, peer, payload)` when added with `takes_payload`. It returns the
    reply, or `Reply(reply, payload)`; or, for work that waits, it is `async def` (a task, with the call's deadline), or
    a plain function that returns an asyncio.Future of the reply (no task at all: the cheapest way to wait for another
    thread). Exceptions become ERROR frames. Plain handlers run in the event loop, so they must never block.

    `before_batch` and `after_batch` are called around the calls that came in one piece of data (a reader process renews
    its snapshot there).
    """

    def __init__(
        self, *, before_batch: Callable[[], None] | None = None, after_batch: Callable[[], None] | None = None
    ) -> None:
        self.before_batch = before_batch
        self.after_batch = after_batch
        self._routes: dict[int, Route] = {}

    def add(
        self,
        method: Method[RequestT, ReplyT],
        handler: Callable[..., Any],
        *,
        takes_payload: bool = False,
        detach: bool = False,
    ) -> None:
        """Serves `method`. `detach`: once begun, the call is finished even if its deadline passes or the client goes,
        as a change that must not stop half-way. ValueError when the method has a handler already."""
        if method.number in self._routes:
            raise ValueError(f"{method.name} has a handler already")
        self._routes[method.number] = Route(method, handler, takes_payload, detach)

    def route(self, number: int) -> Route | None:
        """The row for a method number."""
        return self._routes.get(number)

    @property
    def takes_payloads(self) -> bool:
        """Whether any method takes a payload; a server without one allows none."""
        return any(route.takes_payload for route in self._routes.values())


def buffers_of(payload: Payload) -> tuple[list[ReadBuffer], int]:
    """(the non-empty buffers, their bytes together)."""
    if isinstance(payload, bytes | bytearray | memoryview):
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        return ([payload] if size else []), size
    buffers = [part for part in payload if len(part)]
    return buffers, sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in buffers)
