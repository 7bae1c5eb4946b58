"""What this machine can do for a mount, and where it cannot: why, and what to do about it.

Owns: asking the kernel, the file systems and the limits; each finding is a `Capability`. Never: changes anything, but
for a mount on a folder of its own that lasts as long as the question whether there is passthrough.
"""

import os
import platform
import re
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from isotach.blockstore.container import is_in_memory
from isotach.fuse.kernel.backing import DeviceBackings
from isotach.fuse.kernel.device import PATH as DEVICE
from isotach.fuse.kernel.device import open_device
from isotach.fuse.kernel.mounting import FUSERMOUNT, mount, unmount
from isotach.fuse.kernel.options import MountOptions
from isotach.fuse.protocol.layouts import IN_HEADER, OUT_HEADER
from isotach.fuse.protocol.negotiation import Negotiated, Wanted, negotiate
from isotach.fuse.protocol.requests import decode_init

_CAP_SYS_ADMIN: Final = 21
_PASSTHROUGH_KERNEL: Final = (6, 9)
_FILES_WISHED: Final = 65_536
FUSE_CONF: Final = Path("/etc/fuse.conf")
_URING: Final = Path("/sys/module/fuse/parameters/enable_uring")


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a mount uses. `needed`: without it there is no mount at all. `remedy` empty: nothing to do."""

    name: str
    ok: bool
    reason: str = ""
    remedy: str = ""
    needed: bool = False


def capabilities(tier_folder: Path | None) -> list[Capability]:
    """Everything, in the order of its weight. `tier_folder`: of the memory tier of this host's worker, if any."""
    found = [device(), mount_right(), kernel_version(), passthrough(tier_folder)]
    found += [] if tier_folder is None else [tier_in_memory(tier_folder)]
    return [*found, fusermount(), user_allow_other(), open_files(), io_uring()]


def device() -> Capability:
    """Whether /dev/fuse opens."""
    try:
        os.close(open_device())
    except OSError as error:
        what, _, remedy = (error.strerror or str(error)).partition(": ")
        return Capability(name=DEVICE, ok=False, reason=what, remedy=remedy, needed=True)
    return Capability(name=DEVICE, ok=True, needed=True)


def mount_right() -> Capability:
    """Whether this process may mount, by itself or with help."""
    name = "right to mount"
    if has_sys_admin():
        return Capability(name=name, ok=True, reason="CAP_SYS_ADMIN", needed=True)
    if shutil.which(FUSERMOUNT):
        return Capability(name=name, ok=True, reason=f"by {FUSERMOUNT}, as this user", needed=True)
    remedy = f"run as root, or install {FUSERMOUNT} (Debian: apt-get install fuse3)"
    return Capability(name=name, ok=False, reason="neither CAP_SYS_ADMIN nor fusermount3", remedy=remedy, needed=True)


def has_sys_admin() -> bool:
    """Whether this process has CAP_SYS_ADMIN, as root has outside of containers."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return match is not None and bool(int(match[1], 16) >> _CAP_SYS_ADMIN & 1)


def kernel_version() -> Capability:
    """Whether the kernel is new enough for all of it."""
    release = platform.release()
    ok = version_of(release) >= _PASSTHROUGH_KERNEL
    remedy = "" if ok else "run 6.9 or newer, for passthrough and for mounts that outlive a crash; 5.4 is the least"
    return Capability(name="kernel", ok=ok, reason=f"Linux {release}", remedy=remedy)


def version_of(release: str) -> tuple[int, int]:
    """Its first two numbers; zeros for what has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def passthrough(tier_folder: Path | None) -> Capability:
    """Whether the kernel reads cached files itself: tried with a mount on a folder of its own."""
    name = "passthrough"
    if not has_sys_admin():
        remedy = "mount as root"
        return Capability(name=name, ok=False, reason="the kernel allows it to CAP_SYS_ADMIN only", remedy=remedy)
    try:
        reason = _probe(lambda device: _passthrough_off(device, tier_folder))
    except (OSError, ValueError) as error:
        return Capability(name=name, ok=False, reason=f"it could not be tried: {error}", remedy="see the lines above")
    if not reason:
        where = "" if tier_folder is None else f" of files in {tier_folder}"
        return Capability(name=name, ok=True, reason=f"hot reads{where} do not enter the daemon")
    remedy = "put the memory tier (worker.mem_dir) on tmpfs" if "stack" in reason else "see the reason"
    return Capability(name=name, ok=False, reason=reason, remedy=remedy)


def _probe(question: Callable[[int], str]) -> str:
    folder = Path(tempfile.mkdtemp(prefix="isotach-probe-"))
    try:
        mounted = mount(folder, "isotach:probe", MountOptions())
        try:
            return question(mounted.device)
        finally:
            os.close(mounted.device)
            unmount(folder, lazy=True)
    finally:
        folder.rmdir()


def _passthrough_off(device: int, tier_folder: Path | None) -> str:
    agreed = answer_init(device, Wanted())
    if agreed.passthrough_off:
        return agreed.passthrough_off
    with tempfile.TemporaryFile(dir=_nearest_folder(tier_folder)) as file:
        backings = DeviceBackings(device)
        backings.settle("")
        try:
            backings.unregister(backings.register(file.fileno()))
        except OSError as error:
            return backings.reason_off or str(error)
    return ""


def answer_init(device: int, wanted: Wanted) -> Negotiated:
    """Reads the first request of a fresh mount, which is INIT, and agrees."""
    message = os.read(device, 1 << 17)
    length, _opcode, unique, *_ = IN_HEADER.unpack_from(message)
    body, agreed = negotiate(decode_init(memoryview(message)[IN_HEADER.size : length]), wanted)
    os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body)
    return agreed


def _nearest_folder(folder: Path | None) -> Path | None:
    """The folder, or the nearest above it that is there: of the same file system when it is made."""
    if folder is None:
        return None
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def tier_in_memory(folder: Path) -> Capability:
    """Whether the memory tier really lies in memory."""
    name = "memory tier"
    near = _nearest_folder(folder)
    descriptor = os.open(near or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        ok = is_in_memory(descriptor)
    finally:
        os.close(descriptor)
    reason = f"{folder} is on {'tmpfs' if ok else 'a disk'}"
    return Capability(name=name, ok=ok, reason=reason, remedy="" if ok else "set worker.mem_dir to a tmpfs (/dev/shm)")


def fusermount() -> Capability:
    """Whether ordinary users may mount."""
    found = shutil.which(FUSERMOUNT)
    if found is None:
        remedy = "Debian: apt-get install fuse3"
        return Capability(name=FUSERMOUNT, ok=False, reason="ordinary users cannot mount", remedy=remedy)
    if not os.stat(found).st_mode & 0o4000 and os.geteuid() != 0:
        return Capability(name=FUSERMOUNT, ok=False, reason=f"{found} is not setuid root", remedy=f"chmod u+s {found}")
    return Capability(name=FUSERMOUNT, ok=True, reason=found)


def user_allow_other() -> Capability:
    """Whether an ordinary user's mount may be shown to others."""
    try:
        lines = FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    ok = any(line.strip() == "user_allow_other" for line in lines)
    remedy = "" if ok else f"a line `user_allow_other` in {FUSE_CONF}; root needs none"
    reason = "users may give allow_other" if ok else "only root may give allow_other"
    return Capability(name="user_allow_other", ok=ok, reason=reason, remedy=remedy)


def open_files() -> Capability:
    """How many descriptors a daemon may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ok = hard == resource.RLIM_INFINITY or hard >= _FILES_WISHED
    shown = "without limit" if hard == resource.RLIM_INFINITY else str(hard)
    remedy = "" if ok else f"raise it to {_FILES_WISHED}: LimitNOFILE= of systemd, or /etc/security/limits.conf"
    return Capability(name="open files", ok=ok, reason=shown, remedy=remedy)


def io_uring() -> Capability:
    """Informational: whether the kernel would talk over io_uring; the daemon does not ask for it."""
    try:
        ok = _URING.read_text(encoding="ascii").strip() == "Y"
        reason = "switched on in the kernel" if ok else "there, and switched off in the kernel"
    except OSError:
        ok, reason = False, "not in this kernel"
    return Capability(name="FUSE over io_uring", ok=ok, reason=f"{reason}; not used")


def raise_file_limit() -> int:
    """Raises this process's limit of descriptors to the hard one; what it is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
