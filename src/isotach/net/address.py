"""Addresses: where a server listens, as users write it, and who is on the same machine.

Owns: the two schemes `isotach://host:port` and `isotach+unix:///path`, and the key of the running kernel. Never: opens
a connection.
"""

import functools
import os
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError

TCP_SCHEME: Final = "isotach://"
UNIX_SCHEME: Final = "isotach+unix://"
_FORMS: Final = "give isotach://host:port or isotach+unix:///path/to/socket"


class Address(msgspec.Struct, frozen=True):
    """Either a TCP host and port, or (when `path` is not empty) a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: "str | Address") -> "Address":
        """The address that `text` says. Raises InvalidArgumentError that shows the two forms."""
        if isinstance(text, Address):
            return text
        if text.startswith(UNIX_SCHEME):
            path = text[len(UNIX_SCHEME) :]
            if not path.startswith("/") or "\0" in path:
                raise InvalidArgumentError(f"the address {text!r} has no absolute socket path: {_FORMS}")
            return cls(path=path)
        if not text.startswith(TCP_SCHEME):
            raise InvalidArgumentError(f"the address {text!r} has no scheme of ours: {_FORMS}")
        rest = text[len(TCP_SCHEME) :].removesuffix("/")
        host, separator, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise InvalidArgumentError(f"the address {text!r} has an IPv6 host without brackets: write [host]:port")
        if not separator or not host or "/" in host:
            raise InvalidArgumentError(f"the address {text!r} lacks a host or a port: {_FORMS}")
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise InvalidArgumentError(f"the address {text!r} has the port {port!r}: give a number from 0 to 65535")
        return cls(host=host, port=int(port))

    @classmethod
    def tcp(cls, host: str, port: int) -> "Address":
        """A TCP address; port 0 lets the kernel choose when listening."""
        return cls(host=host, port=port)

    @classmethod
    def unix(cls, path: str | os.PathLike[str]) -> "Address":
        """The Unix socket at `path`."""
        return cls(path=os.path.abspath(path))

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return UNIX_SCHEME + self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TCP_SCHEME}{host}:{self.port}"


@functools.cache
def host_key() -> str:
    """Equal for processes that run on one kernel and see the same mounts: they can share sockets and descriptors."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}-{os.stat('/proc/self/ns/mnt').st_ino}"
