"""Keys of an object store and paths below a mount: how one becomes the other, and which names are ours.

Owns: the prefix of the mount, legal keys, hidden names. Pure. Never: asks a store.
"""

from typing import Final

from isotach.base.errors import InvalidPathError
from isotach.base.limits import NAME_BYTES_MAX, UFS_KEY_BYTES_MAX

#: Every object that Isotach makes for itself has a last name that starts so; listings never show one.
HIDDEN_START: Final = ".isotach-"
#: Stands for an empty directory where keys cannot end in "/".
DIRECTORY_NAME: Final = ".isotach-directory"
#: Stands in the target of a directory rename from its first copy to its end.
RENAME_NAME: Final = ".isotach-rename"


class KeySpace:
    """The keys of one mount: `prefix` has no slash at either end."""

    def __init__(self, prefix: str, has_markers: bool) -> None:
        self._start = f"{prefix}/" if prefix else ""
        self._has_markers = has_markers

    def key(self, path: str) -> str:
        """The key of a file. Raises InvalidPathError for what no object store can hold as it is."""
        key = self._start + path
        reason = _why_illegal(key, path)
        if reason is not None:
            raise InvalidPathError(f"the path {path!r} cannot be an object key: {reason}; choose another name")
        return key

    def existing_key(self, path: str) -> str:
        """The key of a file that is looked for: FileNotFoundError where no such key can exist."""
        try:
            return self.key(path)
        except InvalidPathError as error:
            raise FileNotFoundError(2, f"no such object ({error})", path) from None

    def prefix(self, path: str) -> str:
        """What the keys of everything below a directory start with: "" or ending in "/"."""
        return f"{self._start}{path}/" if path else self._start

    def existing_prefix(self, path: str) -> str:
        """The prefix of a directory that is looked for: FileNotFoundError where no such key can exist."""
        if path:
            self.existing_key(path)
        return self.prefix(path)

    def marker(self, path: str) -> str:
        """The key that makes a directory exist while it is empty."""
        self.key(path)
        return self.prefix(path) + ("" if self._has_markers else DIRECTORY_NAME)

    def path(self, key: str) -> str:
        """The path of a key of this mount, without a trailing slash."""
        return key[len(self._start) :].removesuffix("/")


def is_hidden(name: str) -> bool:
    """Whether a last name is one of ours."""
    return name.startswith(HIDDEN_START)


def is_legal_name(name: str) -> bool:
    """Whether a key's component can be a name in the namespace; other keys of the bucket are not shown."""
    if name in ("", ".", ".."):
        return False
    return len(name.encode("utf-8", "surrogateescape")) <= NAME_BYTES_MAX and not _has_control(name)


def _why_illegal(key: str, path: str) -> str | None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "it has an empty, '.' or '..' part"
    if any(is_hidden(part) for part in parts):
        return f"names that start with {HIDDEN_START!r} are reserved"
    if _has_control(key):
        return "it has a control character"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > UFS_KEY_BYTES_MAX:
        return f"it is {size} bytes long, over the store's limit of {UFS_KEY_BYTES_MAX}"
    return None


def _has_control(text: str) -> bool:
    return any(character < " " or character == "\x7f" for character in text)
