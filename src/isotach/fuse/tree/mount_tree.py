"""The tree of one mount: its parts put together.

Owns: which directory of the namespace is mounted, and the table of handlers by opcode. Never: serves anything itself.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from isotach.base.errors import os_error
from isotach.base.paths import normalize
from isotach.base.types import Inode
from isotach.client.link import Link
from isotach.client.operations import Operation, Where
from isotach.conf.fuse_settings import FuseSettings
from isotach.fuse.contract import Files, Handler, Later, Notifier
from isotach.fuse.tree.attributes import Shown
from isotach.fuse.tree.capacity import Capacity
from isotach.fuse.tree.core import TreeCore
from isotach.fuse.tree.directories import Directories
from isotach.fuse.tree.lasting import Lasting
from isotach.fuse.tree.listener import Listener
from isotach.fuse.tree.lookups import Lookups
from isotach.fuse.tree.making import Making
from isotach.fuse.tree.moving import Moving
from isotach.fuse.tree.nodes import Nodes
from isotach.fuse.tree.records import Calls
from isotach.fuse.tree.setting import Setting
from isotach.fuse.tree.told_xattrs import ToldXattrs
from isotach.fuse.tree.xattrs import Xattrs
from isotach.wire import messages
from isotach.wire.messages import StatReply, StatRequest


class MountTree:
    """See the module. `core` is what other parts of the mount want (`contract.Tree`), `listener` what the feed does."""

    def __init__(
        self,
        link: Link,
        settings: FuseSettings,
        root: Inode,
        later: Later,
        notifier: Notifier,
        *,
        is_live: Callable[[], bool],
        shown: Shown | None = None,
        restarts: int = 0,
    ) -> None:
        calls = Calls(link, settings.server_timeout)
        lasting = Lasting(settings, is_live)
        core = TreeCore(Nodes(root.id, restarts), calls, lasting, shown or Shown(), later, notifier, settings.threads)
        self.core: Final = core
        self.listener: Final = Listener(core)
        told = ToldXattrs(core, str(settings.write_type or link.settings.write_type))
        self._parts: Final = (
            Lookups(core),
            Directories(core),
            Making(core, link.settings, settings),
            Moving(core),
            Setting(core),
            Xattrs(core, told),
            Capacity(core),
        )

    def serve(self, files: Files) -> None:
        """The open files of this mount; to be called before the first request comes."""
        self.core.files = files

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {opcode: handler for part in self._parts for opcode, handler in part.handlers().items()}

    def known_nodes(self) -> list[int]:
        """The nodes that the kernel may know."""
        return self.core.nodes.all()


def root_of(link: Link, source: str | bytes) -> Inode:
    """The directory to be mounted. Raises FileNotFoundError, NotADirectoryError, UnavailableError."""
    path = normalize(source)
    request = StatRequest(path)
    reply = link.run(Operation(messages.STAT, request, Where.READER, lambda found, _payload: found))
    assert isinstance(reply, StatReply)
    if not reply.inode.is_dir:
        raise os_error(errno.ENOTDIR, "only a directory can be mounted: give one, such as /", os.fsdecode(path))
    return reply.inode
