"""The reference model of one client's subtree: what must be there, slow and obvious.

Owns: files and directories by path, and what each operation does to them. Never: talks to a cluster.
"""

import posixpath

import msgspec

from isotach.testing.soak.content import Stamp


class SoakFile(msgspec.Struct, frozen=True):
    """One file: its content, and whether its writer was promised that it goes to the under storage."""

    stamp: Stamp
    goes_through: bool


class SoakModel:
    """Files and directories below one or more roots that only one client changes."""

    def __init__(self) -> None:
        self.files: dict[str, SoakFile] = {}
        self.folders: set[str] = set()

    def copy(self) -> "SoakModel":
        twin = SoakModel()
        twin.files, twin.folders = dict(self.files), set(self.folders)
        return twin

    def children(self, folder: str) -> set[str]:
        """The paths directly in `folder`."""
        return {path for path in (*self.files, *self.folders) if posixpath.dirname(path) == folder and path != folder}

    def below(self, path: str) -> "SoakModel":
        """The part at and below `path`."""
        part = SoakModel()
        part.files = {each: file for each, file in self.files.items() if is_within(each, path)}
        part.folders = {each for each in self.folders if is_within(each, path)}
        return part

    def write(self, path: str, file: SoakFile) -> None:
        self.files[path] = file

    def mkdir(self, path: str) -> None:
        self.folders.add(path)

    def remove(self, path: str) -> None:
        """The path and all below it."""
        gone = self.below(path)
        self.folders -= gone.folders
        for each in gone.files:
            del self.files[each]

    def rename(self, source: str, target: str) -> None:
        moved = self.below(source)
        self.remove(source)
        self.remove(target)
        self.files |= {target + path[len(source) :]: file for path, file in moved.files.items()}
        self.folders |= {target + path[len(source) :] for path in moved.folders}

    def equals(self, other: "SoakModel") -> bool:
        """Whether the same contents are at the same paths."""
        mine = {path: file.stamp for path, file in self.files.items()}
        theirs = {path: file.stamp for path, file in other.files.items()}
        return mine == theirs and self.folders == other.folders

    def describe(self) -> str:
        """A short text for reports."""
        files = ", ".join(f"{path}={file.stamp.generation}" for path, file in sorted(self.files.items()))
        return f"files [{files}] folders {sorted(self.folders)}"


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path == folder or path.startswith(folder + "/")
