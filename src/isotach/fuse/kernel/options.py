"""The options of a mount (`-o NAME[=VALUE],...`) as users of fuse and of fstab write them.

Owns: the names there are, what each means, and the error for one that there is not. Pure. Never: mounts anything.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.conf.fuse_settings import FuseSettings
from isotach.conf.keys import keys_of, nearest

SUBTYPE: Final = "isotach"
#: How mounts of ours are told from others in /proc/self/mountinfo.
FS_TYPE: Final = f"fuse.{SUBTYPE}"

_MS: Final[Mapping[str, tuple[int, bool]]] = {  # option -> (flag of mount(2), whether it sets it)
    "ro": (1, True),
    "rw": (1, False),
    "nosuid": (2, True),
    "suid": (2, False),
    "nodev": (4, True),
    "dev": (4, False),
    "noexec": (8, True),
    "exec": (8, False),
    "sync": (16, True),
    "async": (16, False),
    "dirsync": (128, True),
    "noatime": (1024, True),
    "atime": (1024, False),
    "nodiratime": (2048, True),
    "diratime": (2048, False),
    "relatime": (1 << 21, True),
    "norelatime": (1 << 21, False),
}
#: What fstab and mount(8) say to one another: no business of a mount's.
_FOR_OTHERS: Final = frozenset(
    {"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "comment"}
    | {"strictatime", "lazytime", "nolazytime", "silent", "loud", "dev_t", "nonempty"}
)
_SWITCHES: Final = frozenset({"allow_other", "allow_root", "default_permissions", "auto_unmount"})
_VALUES: Final = frozenset({"fsname", "subtype", "uid", "gid", "umask", "max_read"})
#: Of the configuration, with no section in its name here.
_TOP_KEYS: Final = frozenset({"address", "dir", "config"})
SETTINGS: Final[Mapping[str, str]] = {row.field: row.name for row in keys_of("fuse", FuseSettings)}
_BOOLEAN_SETTINGS: Final = frozenset({"training"})
_SPLIT: Final = re.compile(r"(?<!\\),")


class MountOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a mount is made with. `settings` are keys of the configuration (`fuse.write_type`), as texts."""

    flags: int = 2 | 4  # of mount(2): nosuid, nodev
    allow_other: bool | None = None  # None: for root yes, for others no
    allow_root: bool = False
    default_permissions: bool = True
    auto_unmount: bool = False
    fsname: str = ""
    uid: int | None = None  # who owns everything, as shown
    gid: int | None = None
    umask: int | None = None
    max_read: int = 0  # 0: as the kernel likes
    settings: dict[str, str] = {}
    words: list[str] = []  # as they were given, to show

    @property
    def read_only(self) -> bool:
        """Whether the kernel refuses every change."""
        return bool(self.flags & 1)

    def flag_words(self) -> list[str]:
        """The flags of mount(2) by name, as fusermount3 takes them."""
        return [name for name, (flag, sets) in _MS.items() if (sets and self.flags & flag) or _is_undone(self, name)]


def _is_undone(options: MountOptions, name: str) -> bool:
    return name in ("suid", "dev") and not options.flags & _MS[name][0]


def parse_options(texts: Iterable[str], *, sloppy: bool = False) -> MountOptions:
    """The options in lists with commas; a backslash keeps a comma in a value. Of two that contradict, the later holds.
    `sloppy` passes over names that are unknown, as mount(8) asks its helpers to.

    Raises InvalidArgumentError for an unknown name, naming the nearest, or a value that cannot be. Values of settings
    are checked with the configuration.
    """
    fields: dict[str, object] = {}
    flags, settings, words = MountOptions().flags, {}, []
    for word in (word for text in texts for word in _SPLIT.split(text) if word):
        name, equals, value = word.replace("\\,", ",").partition("=")
        if name in _MS and not equals:
            flag, sets = _MS[name]
            flags = flags | flag if sets else flags & ~flag
        elif name in _FOR_OTHERS or name.startswith(("x-", "X-", "x_")) or (sloppy and not _is_known(name)):
            continue
        elif (key := _key_of(name)) is not None:
            settings[key] = _text(name, value, bool(equals))
        else:
            fields |= _field(name, value, bool(equals))
        words.append(word)
    if settings.get("fuse.training") in ("true", "1", "yes", "on"):
        flags |= 1  # such mounts are read-only
    return msgspec.convert({**fields, "flags": flags, "settings": settings, "words": words}, MountOptions)


def _key_of(name: str) -> str | None:
    """The key of the configuration that an option sets: `write_type` means `fuse.write_type`."""
    if name in _TOP_KEYS:
        return name
    return SETTINGS.get(name) or (name if "." in name else None)


def _is_known(name: str) -> bool:
    return _key_of(name) is not None or name in _VALUES or _positive(name) in _SWITCHES or name == "subtype"


def _positive(name: str) -> str:
    return name.removeprefix("no_").removeprefix("no") if name.startswith("no") else name


def _text(name: str, value: str, given: bool) -> str:
    if given and value:
        return value
    if name in _BOOLEAN_SETTINGS and not given:
        return "true"
    raise InvalidArgumentError(f"the mount option {name} wants a value: give for example -o {name}=...")


def _field(name: str, value: str, given: bool) -> dict[str, object]:
    positive = _positive(name)
    if given and (positive in _SWITCHES or name in _MS):
        raise InvalidArgumentError(f"the mount option {name} takes no value: give -o {name}")
    if positive in _SWITCHES:
        return {positive: positive == name}
    if name == "subtype":
        if value != SUBTYPE:
            raise InvalidArgumentError(f"the subtype of a mount is {SUBTYPE}, by which it is found: not {value!r}")
        return {}
    if name not in _VALUES:
        known = [*_MS, *_SWITCHES, *_VALUES, *SETTINGS, *_TOP_KEYS]
        near = nearest(name, known)
        hint = "" if near is None else f"; did you mean {near}?"
        raise InvalidArgumentError(f"unknown mount option {name!r}{hint} (docs/posix.md lists all)")
    if not value:
        raise InvalidArgumentError(f"the mount option {name} wants a value: give -o {name}=...")
    return {name: value if name == "fsname" else _number(name, value)}


def _number(name: str, value: str) -> int:
    base, most = (8, 0o777) if name == "umask" else (10, (1 << 32) - 2)
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        what = "octal digits such as 022" if name == "umask" else "a number"
        raise InvalidArgumentError(f"{value!r} is no value for the mount option {name}: give {what}")
    return number
