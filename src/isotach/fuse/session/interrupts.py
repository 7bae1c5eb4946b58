"""Requests that the kernel wants to end early because their program got a signal.

Owns: which callback belongs to which request under way, and interruptions that came before their request. Never: ends
anything itself. Contract of the kernel: docs.kernel.org/filesystems/fuse.html, "Interrupting filesystem operations".
"""

import threading
from collections.abc import Callable
from errno import EAGAIN

from isotach.base.limits import FUSE_INTERRUPTS_REMEMBERED_MAX
from isotach.fuse.contract import Channel
from isotach.obs.log import get_logger

_log = get_logger("fuse.session")

#: Asks a request to end; False: it could not be asked, and is to be once more when it can.
InterruptCallback = Callable[[], bool | None]


class Interrupts:
    """Brings interruptions and requests together, in whichever order they come. Any thread.

    Several threads read the device, so the interruption of a request may be met by another thread before the request
    itself is known here. It is remembered; when too many are, the oldest goes back to the kernel by EAGAIN, which sends
    it again if it still matters. Answered requests leave both tables (`DeviceChannel` sees to it).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.callbacks: dict[int, InterruptCallback] = {}
        self.early: dict[int, tuple[Channel, int]] = {}

    def watch(self, unique: int, callback: InterruptCallback) -> None:
        """Calls back, once and in another thread or at once, when the request is to end early. The last one given for
        a request is the one that holds."""
        with self._lock:
            if self.early.pop(unique, None) is None:
                self.callbacks[unique] = callback
                return
        callback()

    def watch_queued(self, unique: int, callback: InterruptCallback) -> bool:
        """The same for a request that is about to be queued; False: it is to end already, and is not to be queued."""
        with self._lock:
            if self.early.pop(unique, None) is None:
                self.callbacks[unique] = callback
                return True
        return False

    def arrived(self, unique: int, channel: Channel, own_unique: int) -> None:
        """The kernel wants the request `unique` to end; the wish itself has the number `own_unique`."""
        with self._lock:
            callback = self.callbacks.pop(unique, None)
        if callback is not None:
            try:
                if callback() is not False:
                    return
            except Exception:
                _log.exception("interrupt_callback_failed", unique=unique)
                return
        self._remember(unique, channel, own_unique)

    def _remember(self, unique: int, channel: Channel, own_unique: int) -> None:
        given_back: tuple[Channel, int] | None = None
        with self._lock:
            callback = self.callbacks.pop(unique, None)
            if callback is None:
                if len(self.early) >= FUSE_INTERRUPTS_REMEMBERED_MAX:
                    given_back = self.early.pop(min(self.early), None)
                self.early[unique] = (channel, own_unique)
        if callback is not None:
            callback()
        if given_back is not None:
            given_back[0].fail(given_back[1], EAGAIN)

    def forget(self, unique: int) -> None:
        """The request has been answered."""
        self.callbacks.pop(unique, None)
        self.early.pop(unique, None)
