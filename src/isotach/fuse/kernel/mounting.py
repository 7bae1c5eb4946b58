"""Mounting and unmounting: as root by mount(2), as an ordinary user by fusermount3.

Owns: the system calls, and the words for what they refuse. Never: reads or answers a request of the kernel.

The protocol with fusermount3 is libfuse's (lib/mount.c): one end of a socket pair in `_FUSE_COMMFD`, on which the open
device comes back as SCM_RIGHTS; with `auto_unmount` the program stays, and unmounts when that socket closes.
"""

import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError, IsotachError, os_error
from isotach.fuse.kernel.busy import holders
from isotach.fuse.kernel.device import PATH as DEVICE
from isotach.fuse.kernel.device import open_device
from isotach.fuse.kernel.options import FS_TYPE, SUBTYPE, MountOptions
from isotach.fuse.kernel.stale import is_stale, mount_at

FUSERMOUNT: Final = "fusermount3"
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_FUSERMOUNT_S: Final = 30.0
_WORDS: Final = {
    errno.EPERM: "this process may not mount: run as root, or install fusermount3 (Debian: apt-get install fuse3)",
    errno.ENODEV: "the kernel has no FUSE: load it with `modprobe fuse`",
    errno.EBUSY: "something is mounted there already: unmount it first",
}


class Mounted(msgspec.Struct):
    """A fresh mount. `device` is the open /dev/fuse; `keeper` the socket that `auto_unmount` watches, or None;
    `identity` its "major:minor"."""

    mountpoint: Path
    device: int
    identity: str
    keeper: socket.socket | None = None

    def close(self) -> None:
        """The kernel ends the file system, unless another process has the device open."""
        os.close(self.device)
        if self.keeper is not None:
            self.keeper.close()


def mount(mountpoint: Path, source: str, options: MountOptions) -> Mounted:
    """Mounts: from here on the kernel sends requests, and whoever touches the folder waits for answers.

    `source` is what `findmnt` shows. Raises OSError or IsotachError that say what is missing and what to do.
    """
    check_mountpoint(mountpoint)
    name = options.fsname or source
    if os.geteuid() == 0 and not options.auto_unmount:
        device, keeper = _by_system_call(mountpoint, name, options), None
    else:
        device, keeper = _by_fusermount(mountpoint, name, options)
    row = mount_at(mountpoint)
    if row is None or row.fs_type != FS_TYPE:
        os.close(device)
        raise IsotachError(f"{mountpoint} was mounted and is gone again: somebody unmounted it; mount again")
    return Mounted(mountpoint, device, row.device, keeper)


def check_mountpoint(mountpoint: Path) -> None:
    """Raises unless the path is a folder to mount on; a dead mount of ours that lies on it is unmounted first."""
    row = mount_at(mountpoint)
    if row is not None and row.fs_type == FS_TYPE:
        if not is_stale(mountpoint):
            what = f"{mountpoint} is a mount of Isotach already: `isotach fuse unmount {mountpoint}` ends it"
            raise os_error(errno.EBUSY, what)
        unmount(mountpoint, lazy=True)
    try:
        mode = os.stat(mountpoint).st_mode
    except FileNotFoundError:
        raise os_error(errno.ENOENT, f"{mountpoint} does not exist: make the folder first") from None
    if not stat.S_ISDIR(mode):
        raise os_error(errno.ENOTDIR, f"{mountpoint} is no folder: give one to mount on")


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmounts; `lazy`: the folder is free at once, and the file system ends when nobody uses it any more.

    Raises OSError(EBUSY) that names who uses it, OSError(EINVAL) where nothing is mounted.
    """
    row = mount_at(mountpoint)
    if row is None:
        raise os_error(errno.EINVAL, f"nothing is mounted at {mountpoint}: `isotach fuse list` shows what is")
    try:
        _umount2(mountpoint, lazy=lazy)
    except PermissionError:
        if os.geteuid() == 0 and shutil.which(FUSERMOUNT) is None:
            raise
        _unmount_by_fusermount(mountpoint, lazy=lazy)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise busy_error(mountpoint, row.device) from None


def busy_error(mountpoint: Path, device: str) -> OSError:
    """Who uses the mount, in words."""
    users = holders(mountpoint, device)
    who = f": used by {users}; end that, or unmount with --lazy" if users else "; unmount with --lazy"
    return os_error(errno.EBUSY, f"{mountpoint} is busy{who}")


# --- as root ---


def _by_system_call(mountpoint: Path, name: str, options: MountOptions) -> int:
    device = open_device()
    words = [f"fd={device}", f"rootmode={stat.S_IFDIR:o}", f"user_id={os.geteuid()}", f"group_id={os.getegid()}"]
    words += _kernel_words(options, is_root=True)
    try:
        _mount(name, mountpoint, options.flags, ",".join(words))
    except OSError as error:
        os.close(device)
        raise os_error(
            error.errno or errno.EIO, _WORDS.get(error.errno or 0, error.strerror or "it failed"), str(mountpoint)
        ) from None
    except BaseException:
        os.close(device)
        raise
    return device


def _kernel_words(options: MountOptions, *, is_root: bool) -> list[str]:
    allow_other = is_root if options.allow_other is None else options.allow_other
    words = ["default_permissions"] if options.default_permissions else []
    # The kernel knows nothing of `allow_root`: all may come, and the daemon turns others away.
    words += ["allow_other"] if allow_other or options.allow_root else []
    return words + ([f"max_read={options.max_read}"] if options.max_read else [])


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, flags: int, data: str) -> None:
    arguments = (os.fsencode(source), os.fsencode(target), FS_TYPE.encode(), ctypes.c_ulong(flags), data.encode())
    if _libc().mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _umount2(target: Path, *, lazy: bool) -> None:
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if _libc().umount2(os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


# --- as a user ---


def _fusermount() -> str:
    found = shutil.which(FUSERMOUNT)
    if found is None:
        raise os_error(
            errno.ENOENT, f"{FUSERMOUNT} is not here, and only root mounts without it: install it (Debian: fuse3)"
        )
    return found


def _by_fusermount(mountpoint: Path, name: str, options: MountOptions) -> tuple[int, socket.socket | None]:
    words = [*options.flag_words(), *_kernel_words(options, is_root=os.geteuid() == 0)]
    words += ["auto_unmount"] if options.auto_unmount else []
    escaped = name.replace("\\", "\\\\").replace(",", "\\,")
    words += [f"fsname={escaped}", f"subtype={SUBTYPE}"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = subprocess.Popen(
            [_fusermount(), "-o", ",".join(words), "--", str(mountpoint)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # with auto_unmount it stays: Ctrl-C is not for it
        )
    ours.settimeout(_FUSERMOUNT_S)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except OSError:
        descriptors = []
    if not descriptors:
        ours.close()
        told = process.communicate(timeout=_FUSERMOUNT_S)[1].decode(errors="replace").strip()
        raise _refusal(told, mountpoint)
    os.set_inheritable(descriptors[0], False)
    if not options.auto_unmount:
        process.communicate(timeout=_FUSERMOUNT_S)
        ours.close()
    elif process.stderr is not None:
        process.stderr.close()
    return descriptors[0], ours if options.auto_unmount else None


def _refusal(told: str, mountpoint: Path) -> Exception:
    if "user_allow_other" in told:
        return InvalidArgumentError(
            "allow_other is for root, unless /etc/fuse.conf has a line `user_allow_other`: add it, or leave the option"
        )
    if DEVICE in told:
        hint = "let users open it (udev does with the package fuse3: chmod 666)"
        return os_error(errno.EACCES, f"{told}: {hint}")
    if "ermission denied" in told or "not permitted" in told:
        return os_error(errno.EACCES, f"{told or 'fusermount3 refused'}: give a folder of your own", str(mountpoint))
    return IsotachError(f"fusermount3 could not mount {mountpoint}: {told or 'it did not say why'}")


def _unmount_by_fusermount(mountpoint: Path, *, lazy: bool) -> None:
    command = [_fusermount(), "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_FUSERMOUNT_S, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode == 0:
        return
    told = done.stderr.strip()
    if "busy" in told:
        row = mount_at(mountpoint)
        raise busy_error(mountpoint, "" if row is None else row.device)
    raise os_error(errno.EPERM, told or "fusermount3 could not unmount it: ask who mounted it", str(mountpoint))
