"""Plain sockets, made ready: listening and connecting on TCP and Unix, with the options we always want.

Owns: socket options, stale Unix socket files, and the way round the kernel's limit on the length of a socket path.
Never: speaks the protocol.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from isotach.base.errors import AlreadyRunningError, InvalidArgumentError, UnavailableError
from isotach.base.limits import LISTEN_BACKLOG, SOCKET_BUFFER_BYTES, TCP_SILENCE_S, UNIX_PATH_BYTES_MAX
from isotach.net.address import Address

_HINT = "is it running? Start it with `isotach start`, or correct the address"


class Listener:
    """A listening socket, its address with port 0 resolved, and (on Unix) which file is its own."""

    def __init__(self, sock: socket.socket, address: Address, file_id: tuple[int, int, int] | None = None) -> None:
        self.sock = sock
        self.address = address
        self._file_id = file_id

    def close(self) -> None:
        """Stops listening, and removes the socket file unless another server has put its own there since."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in accept
        self.sock.close()
        self.remove_file()

    def remove_file(self) -> None:
        """Removes our socket file, if it is still there."""
        if self._file_id is None:
            return
        with contextlib.suppress(OSError):
            status = os.stat(self.address.path)
            if _file_id(status) == self._file_id:
                os.unlink(self.address.path)


def listen_on(address: Address, *, reuse_port: bool = False, mode: int = 0o666) -> Listener:
    """A listener on this address. `mode` is of a Unix socket's file.

    Raises AlreadyRunningError when a live server owns the address, InvalidArgumentError when it cannot be listened on.
    """
    return _listen_unix(address, mode) if address.is_unix else _listen_tcp(address, reuse_port)


def _listen_tcp(address: Address, reuse_port: bool) -> Listener:
    try:
        rows = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as problem:
        raise InvalidArgumentError(f"cannot listen on {address}: the host is unknown ({problem.strerror})") from problem
    family, kind, protocol, _, where = rows[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.listen(LISTEN_BACKLOG)
    except OSError as problem:
        sock.close()
        if problem.errno == errno.EADDRINUSE:
            raise AlreadyRunningError(f"{address} is in use: stop that process or choose another port") from None
        raise InvalidArgumentError(f"cannot listen on {address}: {problem.strerror}") from problem
    return Listener(sock, Address.tcp(address.host, sock.getsockname()[1]))


def _listen_unix(address: Address, mode: int) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _bindable(address.path) as name:
            try:
                sock.bind(name)
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
                _remove_stale(address, name)
                sock.bind(name)
            os.chmod(name, mode)
            status = os.stat(name)
        sock.listen(LISTEN_BACKLOG)
    except OSError as problem:
        sock.close()
        raise InvalidArgumentError(f"cannot listen on {address}: {problem.strerror}") from problem
    except BaseException:
        sock.close()
        raise
    return Listener(sock, address, _file_id(status))


def _remove_stale(address: Address, name: str) -> None:
    """Removes the socket file of a server that died; one that answers owns the address."""
    if not stat.S_ISSOCK(os.stat(name).st_mode):
        raise InvalidArgumentError(f"cannot listen on {address}: a file that is no socket is in the way; move it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)
            return
        except FileNotFoundError:
            return
    raise AlreadyRunningError(f"a live server listens on {address}: stop it first, or choose another folder")


def _file_id(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, although the number of a removed one is soon used again."""
    return status.st_dev, status.st_ino, status.st_ctime_ns


def connect_to(address: Address, timeout_s: float) -> socket.socket:
    """A connected blocking socket. Raises UnavailableError that names the address and says what to do."""
    try:
        return _connect_unix(address, timeout_s) if address.is_unix else _connect_tcp(address, timeout_s)
    except TimeoutError as problem:
        raise UnavailableError(f"{address} did not answer within {timeout_s:g} s: {_HINT}") from problem
    except OSError as problem:
        raise unreachable(address, problem) from problem


def _connect_tcp(address: Address, timeout_s: float) -> socket.socket:
    sock = socket.create_connection((address.host, address.port), timeout_s)
    sock.setblocking(True)
    tune(sock)
    return sock


def _connect_unix(address: Address, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        with _bindable(address.path) as name:
            sock.connect(name)
        sock.setblocking(True)
        tune(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket) -> None:
    """No delay of small frames on TCP, large buffers on Unix (TCP's own tuning does better than a fixed size).

    The kernel ends a TCP connection whose other end has not answered for TCP_SILENCE_S: a cut network would otherwise
    look like a slow one for many minutes."""
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_SILENCE_S // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, TCP_SILENCE_S - TCP_SILENCE_S // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_SILENCE_S * 1000)


def unreachable(address: Address, problem: OSError) -> UnavailableError:
    """The error for a connection that could not be made."""
    return UnavailableError(f"cannot connect to {address} ({problem.strerror or problem}): {_HINT}")


@contextlib.contextmanager
def _bindable(path: str) -> Iterator[str]:
    """A name of `path` that fits into a socket address: a long one is reached through its folder's descriptor."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)
