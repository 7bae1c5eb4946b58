"""Tells the kernel that what it remembers is no longer so (`contract.Notifier`), by writes to the device.

Owns: what a refusal means. Never: decides what has changed (`feed`, `tree`).
"""

import os
from collections.abc import Callable, Sequence
from errno import EBADF, EINVAL, ENODEV, ENOENT, ENOSYS, ENOTDIR, ENOTEMPTY
from typing import Final

from isotach.base.types import ReadBuffer
from isotach.fuse.protocol import notifications
from isotach.fuse.protocol.constants import EXPIRE_ONLY, ROOT
from isotach.fuse.protocol.negotiation import Negotiated
from isotach.obs.log import get_logger

_log = get_logger("fuse.notify")

#: Nothing to do: the kernel does not know the node, or the mount is gone.
_NO_NEWS: Final = frozenset({ENOENT, ENODEV, ENOTDIR, EBADF})


class DeviceNotifier:
    """Writes notifications to one descriptor of the mount. Any thread, but see `contract.Notifier`.

    `known_nodes` gives the nodes that the kernel may know, for kernels that cannot be told that all is void.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._negotiated: Negotiated | None = None
        self.known_nodes: Callable[[], Sequence[int]] = lambda: ()

    def settle(self, negotiated: Negotiated) -> None:
        """What INIT came to. To be called once, by the session."""
        self._negotiated = negotiated

    def inval_inode(self, node: int, offset: int = 0, length: int = 0) -> None:
        """Attributes and cached pages from `offset` on (`length` 0: to the end; `offset` -1: attributes only)."""
        self._tell(notifications.inval_inode(node, offset, length))

    def inval_entry(self, parent: int, name: bytes) -> None:
        """The name may mean something else now, or nothing."""
        self._tell(notifications.inval_entry(parent, name))

    def expire_entry(self, parent: int, name: bytes) -> None:
        """The name is to be looked up again before it is believed; a folder mounted over it stays."""
        negotiated = self._negotiated
        flags = EXPIRE_ONLY if negotiated is not None and negotiated.expire_only else 0
        self._tell(notifications.inval_entry(parent, name, flags))

    def delete_entry(self, parent: int, child: int, name: bytes) -> None:
        """The name is gone: also ends watches (inotify). What is busy (not empty for the kernel, or a mount point) is
        made void instead."""
        if self._tell(notifications.delete(parent, child, name)) == ENOTEMPTY:
            self._tell(notifications.inval_entry(parent, name))

    def inval_all(self) -> None:
        """Everything the kernel knows may be wrong: names by one number where the kernel can (Linux 6.16), then the
        attributes and pages of each node that it may know."""
        negotiated = self._negotiated
        if negotiated is not None and negotiated.inc_epoch:
            self._tell(notifications.inc_epoch())
        for node in self.known_nodes():
            self._tell(notifications.inval_inode(node, 0, 0))
        self._tell(notifications.inval_inode(ROOT, 0, 0))

    def store(self, node: int, offset: int, data: ReadBuffer) -> None:
        """Puts bytes into the kernel's page cache for a file that nobody is reading at that place."""
        self._tell(notifications.store(node, offset, data))

    def resend(self) -> bool:
        """Asks for all requests that were read and not answered; False: this kernel cannot (before Linux 6.9)."""
        negotiated = self._negotiated
        return negotiated is not None and negotiated.resend and self._tell(notifications.resend()) == 0

    def _tell(self, message: bytes) -> int:
        """The errno of the refusal; 0: done."""
        try:
            os.write(self._descriptor, message)
        except OSError as error:
            number = error.errno or EINVAL
            if number not in _NO_NEWS and number not in (ENOSYS, ENOTEMPTY):
                _log.warning("notification_refused", errno=number, reason=error.strerror)
            return number
        return 0
