"""An HTTP proxy that breaks on purpose: the faults of a store that no real server makes when told to.

Owns: passing requests on to an upstream server, byte for byte, and the faults injected into them.
Never: changes a good answer. Signed requests stay valid: the Host header passes unchanged.
"""

import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Iterator
from enum import StrEnum
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

_UPSTREAM_TIMEOUT_S: Final = 60.0
_PIECE_BYTES: Final = 32 << 10
_DROPPED_HEADERS: Final = frozenset({"transfer-encoding", "connection", "content-length"})


class FaultKind(StrEnum):
    """What goes wrong."""

    STATUS = "status"  # answer with `status` and an S3 error document of `code`; upstream never sees the request
    DROP = "drop"  # close the connection without an answer; upstream never sees the request
    LOSE_ANSWER = "lose_answer"  # upstream does it, the connection closes without an answer
    TRUNCATE = "truncate"  # the body ends after `body_bytes`, against its content-length
    DELAY = "delay"  # the answer comes `delay_s` later
    STALL = "stall"  # no answer until the fault is cleared or the proxy stops
    SLOW = "slow"  # the answer begins `delay_s` later, and its body comes at `bytes_per_s`
    FLIP = "flip"  # one bit of the body is another one; `body_bytes` says in which byte


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault, for the next `times` requests that match."""

    kind: FaultKind
    times: int = 1
    method: str | None = None  # None: any
    target_part: str = ""  # of path and query
    status: int = 503
    code: str = "SlowDown"
    body_bytes: int = 0
    delay_s: float = 0.0
    bytes_per_s: float = 1e6

    def matches(self, method: str, target: str) -> bool:
        return self.method in (None, method) and self.target_part in target


class FaultyHttp:
    """A proxy on a free port of 127.0.0.1. Faults are tried in the order of their injection, one per request."""

    def __init__(self, upstream_url: str) -> None:
        parts = urlsplit(upstream_url)
        self.upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int]] = []  # with the times left
        self._requests: list[tuple[str, str]] = []
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="faulty-http", daemon=True
        )
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """(method, path and query) of every request so far."""
        with self._lock:
            return list(self._requests)

    def inject(self, fault: Fault) -> None:
        """Arms a fault."""
        with self._lock:
            self._faults.append((fault, fault.times))

    def clear(self) -> None:
        """Disarms all faults, lets stalled requests end, and forgets the requests seen."""
        with self._lock:
            self._faults = []
            self._requests = []
            released, self._released = self._released, threading.Event()
        released.set()

    def stop(self) -> None:
        """Ends the proxy and its connections."""
        self.clear()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def fault_of(self, method: str, target: str) -> tuple[Fault | None, threading.Event]:
        """Notes a request; the fault that it meets, and what releases a stalled one."""
        with self._lock:
            self._requests.append((method, target))
            for index, (fault, left) in enumerate(self._faults):
                if fault.matches(method, target):
                    self._faults[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault, self._released
            return None, self._released


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        if isinstance(request, socket.socket):
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: "socket.socket | tuple[bytes, socket.socket]") -> None:
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        return  # clients that leave in the middle are what this proxy is for


def _handler_of(proxy: FaultyHttp) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fault, released = proxy.fault_of(self.command, self.path)
            kind = fault.kind if fault is not None else None
            if fault is not None and kind is FaultKind.STATUS:
                self._answer_error(fault)
                return
            if fault is not None and kind in (FaultKind.STALL, FaultKind.DELAY, FaultKind.SLOW):
                released.wait(None if kind is FaultKind.STALL else fault.delay_s)
            if kind in (FaultKind.DROP, FaultKind.STALL):
                self.close_connection = True
                return
            with _upstream_answer(proxy.upstream, self, body) as (answer, data):
                if kind is FaultKind.LOSE_ANSWER:
                    self.close_connection = True
                else:
                    self._pass_on(answer, data, fault, released)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815 - names that the server looks up

        def log_message(self, format: str, *args: object) -> None:
            return

        def _answer_error(self, fault: Fault) -> None:
            document = (
                f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
            )
            self.send_response(fault.status)
            self.send_header("content-type", "application/xml")
            self.send_header("content-length", str(len(document)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(document)

        def _pass_on(
            self, answer: http.client.HTTPResponse, data: bytes, fault: Fault | None, released: threading.Event
        ) -> None:
            self.send_response_only(answer.status, answer.reason)
            length = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
            for name, value in _headers_of(answer, length):
                self.send_header(name, value)
            self.end_headers()
            for piece in _pieces_of(data, fault):
                self.wfile.write(piece)
                if fault is not None and fault.kind is FaultKind.SLOW:
                    released.wait(len(piece) / fault.bytes_per_s)
            if fault is not None and fault.kind is FaultKind.TRUNCATE:
                self.close_connection = True

    return Handler


def _headers_of(answer: http.client.HTTPResponse, length: str | None) -> Iterator[tuple[str, str]]:
    for name, value in answer.getheaders():
        if name.lower() not in _DROPPED_HEADERS:
            yield name, value
    if length is not None:
        yield "content-length", length


def _pieces_of(data: bytes, fault: Fault | None) -> Iterator[bytes]:
    """The body as it is to be sent."""
    if fault is not None and fault.kind is FaultKind.TRUNCATE:
        data = data[: fault.body_bytes]
    elif fault is not None and fault.kind is FaultKind.FLIP and len(data) > fault.body_bytes:
        at = fault.body_bytes
        data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


@contextlib.contextmanager
def _upstream_answer(
    upstream: tuple[str, int], request: http.server.BaseHTTPRequestHandler, body: bytes
) -> Iterator[tuple[http.client.HTTPResponse, bytes]]:
    connection = http.client.HTTPConnection(*upstream, timeout=_UPSTREAM_TIMEOUT_S)
    try:
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        yield answer, answer.read()
    finally:
        connection.close()
