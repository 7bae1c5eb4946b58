"""What a path in a request names, said once for all handlers: the path that it is, without ids and symbolic links.

Owns: turning id paths into paths, and following links when a handler met one. Never: costs a path that is neither
anything: a handler runs as if there were none, and only where it met a link is its request followed and served again.
That is safe because handlers check their paths before they change anything.
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec

from isotach.base.paths import ID_MARK
from isotach.master.core import Core
from isotach.namespace.lookup import canonical
from isotach.namespace.symlinks import SymlinkMetError, followed
from isotach.net.peer import Peer
from isotach.wire.message_base import Message
from isotach.wire.messages import SetAttrRequest

RequestT = TypeVar("RequestT", bound=Message)
_FIELDS: Final = ("path", "src", "dst")


class NamedPaths:
    """For one dispatcher of a master."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def named(self, handler: Callable[[RequestT, Peer], Any]) -> Callable[[RequestT, Peer], Awaitable[Any]]:
        """The handler for requests whose paths may be id paths or lead through links."""

        async def serve(request: RequestT, peer: Peer) -> object:
            by_id: set[str] = set()
            for name in _fields_of(type(request)):
                if getattr(request, name)[:1] == ID_MARK:
                    by_id.add(name)
            if by_id:
                request = self._by_path(request)
            try:
                return await _result(handler(request, peer))
            except (NotADirectoryError, SymlinkMetError) as error:
                paths = _paths_of(request)
                again = self._followed(paths, by_id, peer, isinstance(error, SymlinkMetError))
                if again == paths:
                    raise
            return await _result(handler(_with_paths(request, again), peer))

        return serve

    def _by_path(self, request: RequestT) -> RequestT:
        with self._core.reading() as view:
            paths = {name: canonical(view, path) for name, path in _paths_of(request).items()}
        named = _with_paths(request, paths)
        if isinstance(named, SetAttrRequest):
            return cast(RequestT, msgspec.structs.replace(named, follow=False))
        return named

    def _followed(self, paths: dict[str, bytes], by_id: set[str], peer: Peer, last: bool) -> dict[str, bytes]:
        """What came by id has no links in the middle, and is itself never followed."""
        actor = self._core.identity.actor(peer)
        with self._core.reading() as view:
            return {name: path if name in by_id else followed(view, path, actor, last) for name, path in paths.items()}


@cache
def _fields_of(kind: type[Message]) -> tuple[str, ...]:
    """The fields of such requests that hold paths."""
    return tuple(name for name in kind.__struct_fields__ if name in _FIELDS)


def _paths_of(request: Message) -> dict[str, bytes]:
    return {name: getattr(request, name) for name in _fields_of(type(request))}


def _with_paths(request: RequestT, paths: dict[str, bytes]) -> RequestT:
    return msgspec.structs.replace(request, **paths)


async def _result(result: object) -> object:
    return await result if inspect.isawaitable(result) else result
