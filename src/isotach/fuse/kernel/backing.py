"""Files registered with the kernel for passthrough: two ioctls, and why they may be refused.

Owns: registering and unregistering (`contract.Backings`). Never: decides which file may be read so, or shares an id
among opens (`files` does). Contract of the kernel: docs.kernel.org/filesystems/fuse-passthrough.html.
"""

import contextlib
import fcntl
import os
import threading
from errno import EINVAL, ELOOP, ENOTTY, EOPNOTSUPP, EPERM
from typing import Final

from isotach.base.errors import os_error
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import IOC_BACKING_CLOSE, IOC_BACKING_OPEN
from isotach.obs.log import get_logger

_log = get_logger("fuse.backing")

_NEVER_AGAIN: Final = {
    EPERM: "the daemon may not register files: it needs CAP_SYS_ADMIN (run it as root)",
    ENOTTY: "this kernel does not have it: Linux 6.9 with CONFIG_FUSE_PASSTHROUGH does",
}


class DeviceBackings:
    """Registers with the mount of `descriptor`. Any thread.

    EPERM and ENOTTY end passthrough for the mount; ELOOP (a file system stacked too high: overlayfs) and EOPNOTSUPP
    (one whose files cannot be passed through) only for the file system that they were met on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._reason_off = "the mount has not been negotiated yet"
        self._lock = threading.Lock()
        self._refused_devices: set[int] = set()

    @property
    def reason_off(self) -> str:
        """Why there is no passthrough; empty: there is."""
        return self._reason_off

    def settle(self, reason_off: str) -> None:
        """What INIT came to. To be called once, by the session."""
        self._reason_off = reason_off

    def register(self, descriptor: int) -> int:
        """The backing id (above 0). The kernel keeps the file (and its lock): the descriptor may be closed. Raises
        OSError: then the file is to be served another way, also if EOPNOTSUPP because passthrough is off."""
        if self._reason_off:
            raise OSError(EOPNOTSUPP, f"no passthrough: {self._reason_off}")
        if self._refused_devices and os.fstat(descriptor).st_dev in self._refused_devices:
            raise OSError(
                ELOOP, "files of this file system cannot be passed through: put the tier onto tmpfs, ext4 or xfs"
            )
        argument = bytearray(layouts.BACKING_MAP.pack(descriptor, 0))
        try:
            number = int(fcntl.ioctl(self._descriptor, IOC_BACKING_OPEN, argument))
        except OSError as error:
            self._refused(descriptor, error)
            raise os_error(
                error.errno or EOPNOTSUPP, f"the kernel does not take the file for passthrough: {error.strerror}"
            ) from error
        if number <= 0:
            raise OSError(EINVAL, f"the kernel answered with the backing id {number}; unmount, and report this")
        return number

    def unregister(self, backing_id: int) -> None:
        """The kernel lets the file go once nobody has it open. Never raises."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, IOC_BACKING_CLOSE, layouts.UINT32.pack(backing_id))

    def highest_given(self) -> int:
        """The highest id that was given for this mount so far, by whomever; 0 where there is no passthrough. The kernel
        gives ids in rising order."""
        probe = os.memfd_create("isotach-backing-probe", os.MFD_CLOEXEC)
        try:
            number = self.register(probe)
        except OSError:
            return 0
        finally:
            os.close(probe)
        self.unregister(number)
        return number

    def unregister_all(self, highest: int) -> int:
        """Lets go of what a daemon before this one registered, ids 1 to `highest`; how many there were. Files that are
        open keep theirs."""
        found = 0
        for backing_id in range(1, highest + 1):
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._descriptor, IOC_BACKING_CLOSE, layouts.UINT32.pack(backing_id))
                found += 1
        return found

    def _refused(self, descriptor: int, error: OSError) -> None:
        reason = _NEVER_AGAIN.get(error.errno or 0, "")
        with self._lock:
            if reason and not self._reason_off:
                self._reason_off = reason
                _log.warning("passthrough_off", reason=reason, errno=error.errno)
            elif error.errno in (ELOOP, EOPNOTSUPP):
                device = os.fstat(descriptor).st_dev
                if device not in self._refused_devices:
                    self._refused_devices.add(device)
                    _log.warning("passthrough_refused_for_file_system", device=device, errno=error.errno)
