"""Finding the cluster: from arguments, environment, configuration file, or the standalone cluster of this machine.

Owns: `connect`, `connect_async` and `open_link`, and the words for what to start when nothing is found. Never: keeps a
connection itself (the links do).
"""

from isotach.base.errors import UnavailableError
from isotach.client.async_filesystem import AsyncFileSystem
from isotach.client.async_link import AsyncLink
from isotach.client.filesystem import FileSystem
from isotach.client.link import Link
from isotach.conf import OverrideValue, Settings, load_settings
from isotach.net.address import Address


def connect(
    address: str | None = None,
    *,
    user: str | None = None,
    short_circuit: bool | None = None,
    **overrides: OverrideValue,
) -> FileSystem:
    """A blocking client of the cluster at `address`: `isotach://host:port` or `isotach+unix:///path/to/socket`.

    Without an address: ISOTACH_ADDRESS, the configuration file, else the standalone cluster in the default folder.
    `user` is who to act as over TCP (default: the login name; a Unix socket asks the kernel). `short_circuit` False
    reads over TCP even from a worker of this host. `overrides` are configuration keys: those of the client by their
    plain name (`deadline="5s"`), others with `__` for the dot.

    Raises UnavailableError when nobody answers there, ConfigError or InvalidArgumentError for a bad argument.
    """
    settings = _settings(user, short_circuit, overrides)
    return FileSystem(Link(settings.client, _find_address(address, settings), user))


async def connect_async(
    address: str | None = None,
    *,
    user: str | None = None,
    short_circuit: bool | None = None,
    **overrides: OverrideValue,
) -> AsyncFileSystem:
    """An asynchronous client of the cluster: arguments and errors as of `connect`."""
    settings = _settings(user, short_circuit, overrides)
    where = _find_address(address, settings)
    link = await AsyncLink.open(settings.client, where, user)
    return AsyncFileSystem(link, settings.client, where, user)


def open_link(settings: Settings) -> Link:
    """The connections alone, for who makes calls of its own (mounts). Errors as of `connect`."""
    user = None if settings.is_default("client.user") else settings.client.user
    return Link(settings.client, _find_address(None, settings), user)


def _settings(user: str | None, short_circuit: bool | None, overrides: dict[str, OverrideValue]) -> Settings:
    given: dict[str, OverrideValue] = {"client.user": user, "client.short_circuit": short_circuit}
    for name, value in overrides.items():
        key = name.replace("__", ".")
        given[key if "." in key or key == "dir" else f"client.{key}"] = value
    return load_settings(given)


def _find_address(address: str | None, settings: Settings) -> Address:
    text = address or settings.address
    if text is None:
        note = settings.dir / "address"
        try:
            text = note.read_text(encoding="utf-8").strip()
        except OSError:
            raise UnavailableError(
                f"no cluster to connect to: {note} does not exist. Start one with `isotach start`, or give an address "
                "(an argument, ISOTACH_ADDRESS, or `address` in the configuration file)"
            ) from None
    return Address.parse(text)
