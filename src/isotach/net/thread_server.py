"""The threaded RPC server of the data path: blocking sockets, one thread per connection, sendfile, descriptors.

Owns: listening (Unix and TCP at once), accepting, the bound on connections, the loop of one connection, closing.
`Call` (in `thread_call.py`) is what handlers get. Never: knows what the methods do.

Calls on one connection are served one after the other, in order. A call that fails before its answer has begun is
answered by an ERROR; one that fails after is ended by closing the connection: the peer never sees wrong bytes.
"""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from isotach.base.errors import InvalidArgumentError, IsotachError, ProtocolError, UnavailableError
from isotach.base.limits import (
    DATA_CONNECTIONS_MAX,
    DATA_STALL_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    PAYLOAD_BYTES_MAX,
    REFUSAL_LINGER_S,
    REFUSED_KEPT_MAX,
)
from isotach.net.address import Address
from isotach.net.frame_socket import FrameSocket
from isotach.net.peer import Peer, UserTable, direct_access, peer_of
from isotach.net.sockets import Listener, listen_on, tune
from isotach.net.thread_call import Call
from isotach.obs.log import get_logger
from isotach.wire import frames, handshake
from isotach.wire.messages import METHODS, AnyMethod, Welcome

log = get_logger("net.thread_server")

Handler = Callable[[Call], None]


class DataConnection:
    """One client's connection. `state` is whatever `on_connection` returned: the handles that live with it."""

    def __init__(self, frame_socket: FrameSocket, peer: Peer) -> None:
        self.frame_socket = frame_socket
        self.peer = peer
        self.state: object = None


class ThreadRpcServer:
    """Serves `handlers` on any number of addresses, after `listen`. `on_connection` runs in the connection's own thread
    before its first call and gives its `state`; `on_close` runs there after its last."""

    def __init__(
        self,
        handlers: Mapping[AnyMethod, Handler],
        welcome: Callable[[], Welcome],
        *,
        on_connection: Callable[[DataConnection], object] | None = None,
        on_close: Callable[[DataConnection], None] | None = None,
        direct_folders: Sequence[str] = (),
        direct_cluster: bytes = b"",
        connections_max: int = DATA_CONNECTIONS_MAX,
        name: str = "data",
    ) -> None:
        self._handlers = {method.number: handler for method, handler in handlers.items()}
        self._welcome = welcome
        self._on_connection = on_connection
        self._on_close = on_close
        self._direct_folders, self._direct_cluster = direct_folders, direct_cluster
        self._connections_max = connections_max
        self._name = name
        self._users = UserTable()
        self._lock = threading.Lock()  # guards the three below
        self._sockets: dict[threading.Thread, socket.socket] = {}
        self._listeners: list[tuple[Listener, threading.Thread]] = []
        self._closing = False

    @property
    def addresses(self) -> list[Address]:
        """Where the server listens, ports resolved."""
        return [listener.address for listener, _ in self._listeners]

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return len(self._sockets)

    def listen(self, address: Address | str, *, reuse_port: bool = False, mode: int = 0o666) -> Address:
        """Starts serving on one more address; returns it with port 0 resolved. Raises as `sockets.listen_on`."""
        listener = listen_on(Address.parse(address), reuse_port=reuse_port, mode=mode)
        thread = threading.Thread(target=self._accept, args=(listener,), name=f"{self._name}-accept", daemon=True)
        with self._lock:
            self._listeners.append((listener, thread))
        thread.start()
        return listener.address

    def close(self, timeout_s: float = 1.0) -> None:
        """Stops listening and breaks every connection; waits up to `timeout_s` for their threads to end."""
        with self._lock:
            self._closing = True
            listeners, connections = list(self._listeners), dict(self._sockets)
        end = time.monotonic() + timeout_s
        for listener, _ in listeners:
            listener.close()
        for sock in connections.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in [thread for _, thread in listeners] + list(connections):
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    # --- accepting ---

    def _accept(self, listener: Listener) -> None:
        refused: deque[socket.socket] = deque()
        try:
            self._accept_until_closed(listener, refused)
        finally:
            for sock in refused:
                sock.close()

    def _accept_until_closed(self, listener: Listener, refused: deque[socket.socket]) -> None:
        number = 0
        while True:
            try:
                sock, _ = listener.sock.accept()
            except OSError as problem:
                if self._closing:
                    return
                log.warning("accept_failed", address=str(listener.address), error=str(problem))
                time.sleep(0.05)  # out of descriptors: others must close theirs first
                continue
            number += 1
            thread = threading.Thread(target=self._serve, args=(sock,), name=f"{self._name}-{number}", daemon=True)
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                is_full = len(self._sockets) >= self._connections_max
                if not is_full:
                    self._sockets[thread] = sock
            if is_full:
                _refuse(sock, self._connections_max)
                refused.append(sock)
                if len(refused) > REFUSED_KEPT_MAX:
                    refused.popleft().close()
                continue
            try:
                thread.start()
            except RuntimeError as problem:  # no more threads
                log.error("thread_not_started", error=str(problem))
                with self._lock:
                    del self._sockets[thread]
                sock.close()

    # --- one connection ---

    def _serve(self, sock: socket.socket) -> None:
        frame_socket = FrameSocket(sock, "the client", PAYLOAD_BYTES_MAX)
        try:
            tune(sock)
            connection = self._greet(frame_socket)
            frame_socket.name = f"the client of {connection.peer.user}"
            self._serve_calls(connection)
        except (EOFError, UnavailableError):
            pass  # the client left, which it may at any time
        except (IsotachError, OSError) as problem:
            log.warning("connection_ended", client=frame_socket.name, reason=str(problem))
            if isinstance(problem, ProtocolError):
                _say_why(frame_socket, problem)
        except Exception as problem:  # our own bug: it must not take the other connections with it
            log.error("connection_failed", client=frame_socket.name, error=repr(problem), exc_info=problem)
        finally:
            with self._lock:
                self._sockets.pop(threading.current_thread(), None)
            frame_socket.close()

    def _greet(self, frame_socket: FrameSocket) -> DataConnection:
        frame_socket.set_timeout(HANDSHAKE_TIMEOUT_S)
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT_S
        magic = bytearray(len(frames.MAGIC))
        frame_socket.receive_into(memoryview(magic), deadline)
        handshake.check_magic(magic)
        header = frame_socket.receive_header(deadline)
        handshake.check_hello_header(header)
        hello = frames.decode_hello(frame_socket.receive_message(header[0], deadline))
        protocol = handshake.agree_protocol(hello)
        peer = peer_of(frame_socket.sock, hello, self._users)
        direct = direct_access(peer, self._direct_folders, self._direct_cluster)
        welcome = msgspec.structs.replace(self._welcome(), protocol=protocol, user=peer.user, direct=direct)
        frame_socket.send(frames.encode_frame(frames.WELCOME, welcome))
        return DataConnection(frame_socket, peer)

    def _serve_calls(self, connection: DataConnection) -> None:
        frame_socket = connection.frame_socket
        if self._on_connection is not None:
            connection.state = self._on_connection(connection)
        try:
            while not self._closing:
                frame_socket.set_timeout(DATA_STALL_TIMEOUT_S)
                if not frame_socket.wait_for_data():
                    continue
                deadline = time.monotonic() + DATA_STALL_TIMEOUT_S
                header = frame_socket.receive_header(deadline)
                meta = frame_socket.receive_message(header[0], deadline)
                if header[5] == frames.REQUEST:
                    frame_socket.set_timeout(DATA_STALL_TIMEOUT_S)
                    self._serve_call(connection, header, meta)
                elif header[5] == frames.GOODBYE:
                    return
                elif header[5] != frames.CANCEL or header[0] or header[1]:
                    raise ProtocolError(f"a client may not send a frame of kind {header[5]} now")
        finally:
            if self._on_close is not None:
                self._on_close(connection)

    def _serve_call(self, connection: DataConnection, header: frames.Header, meta: frames.Bytes) -> None:
        number = header[4]
        handler = self._handlers.get(number)
        method = METHODS.get(number)
        request = None if method is None else frames.decode_request(number, meta)
        call = Call(connection.frame_socket, connection.peer, connection, header, request)
        if handler is None or method is None:
            name = number if method is None else method.name
            call.error(
                InvalidArgumentError(f"this server does not serve the method {name}: call another one, or upgrade")
            )
        else:
            try:
                handler(call)
                if not call.is_answered:
                    raise AssertionError(f"the handler of {method.name} gave no answer")
            except Exception as problem:  # every failure of a handler becomes the answer of its call
                if not isinstance(problem, OSError | IsotachError | ValueError):
                    log.error("handler_failed", method=method.name, error=repr(problem), exc_info=problem)
                if call.is_answered:
                    raise UnavailableError(f"the answer of {method.name} broke off: {problem}") from problem
                call.error(problem)
        call.finish()


def _refuse(sock: socket.socket, connections_max: int) -> None:
    """One send without waiting: the accepting thread must not be held up by a client that does not read. The socket is
    closed later: closing it over the hello that is on its way would reset the connection before our words are read."""
    problem = UnavailableError(f"the server has all its {connections_max} connections: close some, or try again later")
    with contextlib.suppress(OSError):
        sock.setblocking(False)
        sock.send(handshake.refusal_bytes(problem))
        sock.shutdown(socket.SHUT_WR)


def _say_why(frame_socket: FrameSocket, problem: ProtocolError) -> None:
    """Tells the client what it did wrong, and lingers a moment so that the words arrive."""
    with contextlib.suppress(OSError, EOFError):
        frame_socket.set_timeout(REFUSAL_LINGER_S)
        frame_socket.send(handshake.refusal_bytes(problem))
        frame_socket.sock.shutdown(socket.SHUT_WR)
        frame_socket.discard(1 << 20, time.monotonic() + REFUSAL_LINGER_S)
