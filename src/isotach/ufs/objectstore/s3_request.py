"""Single S3 requests over kept-alive HTTP connections.

Owns: the address of a bucket, signing, a small pool of connections, and turning an error answer into `S3StatusError`.
Never: knows what a request means, or retries (but once, on a kept-alive connection that the server had closed).
"""

import collections
import hashlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from isotach.base.limits import UFS_CONNECT_TIMEOUT_S, UFS_THREADS
from isotach.base.types import ReadBuffer
from isotach.ufs.objectstore.s3_body import S3Body
from isotach.ufs.objectstore.s3_signature import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    quote_path,
    quote_query,
    signed_headers,
)
from isotach.ufs.objectstore.s3_small import SmallAnswer, receive, request_bytes

Query = Sequence[tuple[str, str]]
#: Answers here are documents of at most 1,000 keys, never file content.
_XML_BYTES_MAX: Final = 64 << 20


class S3StatusError(Exception):
    """The service answered with an error. `code` is S3's own word for it, such as NoSuchBucket, or empty."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}" if code else f"HTTP status {status} {message}".rstrip())
        self.status = status
        self.code = code
        self.message = message


class S3Answer(msgspec.Struct, frozen=True):
    """A good answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class S3Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bucket is and how to sign for it. No `access_key_id`: requests are sent unsigned."""

    url: str  # of the service, without the bucket
    bucket: str
    region: str
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    path_style: bool = True


class S3Requester:
    """Sends requests for one bucket. Thread-safe; a thread waits for nobody: the pool only keeps idle connections."""

    def __init__(self, endpoint: S3Endpoint, timeout_s: float) -> None:
        parts = urlsplit(endpoint.url)
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._is_tls = parts.scheme == "https"
        self._tls = ssl.create_default_context() if self._is_tls else None
        base_host = parts.hostname or ""
        self._host = base_host if endpoint.path_style else f"{endpoint.bucket}.{base_host}"
        self._port = parts.port
        self._is_loopback = _is_loopback(base_host)
        bare_host = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = bare_host if parts.port is None else f"{bare_host}:{parts.port}"
        base_path = parts.path.rstrip("/")
        self._base_path = f"{base_path}/{endpoint.bucket}" if endpoint.path_style else base_path
        self._proxy = _https_proxy(self._host) if self._is_tls else None
        self._idle: collections.deque[http.client.HTTPConnection] = collections.deque(maxlen=UFS_THREADS)
        self._closed = threading.Event()

    def send(
        self,
        method: str,
        key: str | None,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: ReadBuffer | None = None,
        timeout_s: float | None = None,
    ) -> S3Answer:
        """One request for `key`, or for the bucket itself (None).

        Raises S3StatusError for every status from 300 up, and OSError or http.client.HTTPException when no whole
        answer came.
        """
        path = quote_path(f"{self._base_path}/{key}" if key is not None else self._base_path) or "/"
        text = quote_query(query)
        signed = self._sign(method, path, text, dict(headers or {}), body)
        target = f"{path}?{text}" if text else path
        connection, response = self._begin(method, target, signed, body, timeout_s)
        try:
            answer = _whole_answer(response)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        if answer.status >= 300:
            raise _status_error(answer)
        return answer

    def get(self, key: str, headers: Mapping[str, str]) -> S3Body:
        """A GET whose body is received by the caller. Raises as `send`."""
        path = quote_path(f"{self._base_path}/{key}")
        signed = self._sign("GET", path, "", dict(headers), None)
        connection, response = self._begin("GET", path, signed, None, None)
        try:
            if response.status < 300:
                return S3Body(connection, response, self._give_back, self._timeout_s)
            answer = _whole_answer(response)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        raise _status_error(answer)

    def get_small(self, key: str, headers: Mapping[str, str], length: int) -> SmallAnswer:
        """A GET of about `length` bytes, as a whole. Raises as `send`, and OddAnswerError for an answer that only `get`
        can read."""
        path = quote_path(f"{self._base_path}/{key}")
        request = request_bytes("GET", path, self._sign("GET", path, "", dict(headers), None))
        connection, is_reused = self._take()
        try:
            answer = self._exchange_small(connection, request, length)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not is_reused:
                raise
            connection = self._connect()  # the server had closed the idle connection: not a failure of the request
            answer = self._exchange_small(connection, request, length)
        if answer.headers.get("connection", "").lower() == "close":
            connection.close()
        else:
            self._give_back(connection)
        if answer.status >= 300:
            raise _status_error(S3Answer(answer.status, answer.headers, bytes(answer.body)))
        return answer

    def _exchange_small(self, connection: http.client.HTTPConnection, request: bytes, length: int) -> SmallAnswer:
        try:
            if connection.sock is None:
                connection.connect()
            plain: socket.socket = connection.sock
            plain.settimeout(self._timeout_s)
            plain.sendall(request)
            return receive(plain, length)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Closes idle connections; those in use close when their request ends."""
        self._closed.set()
        while self._idle:
            self._idle.pop().close()

    def _sign(
        self, method: str, path: str, query: str, headers: dict[str, str], body: ReadBuffer | None
    ) -> dict[str, str]:
        headers["host"] = self._host_header
        endpoint = self._endpoint
        if endpoint.access_key_id is None or endpoint.secret_access_key is None:
            return headers
        return signed_headers(
            method=method,
            quoted_path=path,
            quoted_query=query,
            headers=headers,
            payload_sha256=self._payload_sha256(body),
            region=endpoint.region,
            access_key_id=endpoint.access_key_id,
            secret_access_key=endpoint.secret_access_key,
            session_token=endpoint.session_token,
            timestamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )

    def _payload_sha256(self, body: ReadBuffer | None) -> str:
        if body is None:
            return EMPTY_SHA256
        # Over TLS the transport protects the bytes, and S3 takes unsigned ones; in the clear the signature must.
        # What never leaves the host needs no such protection either.
        return UNSIGNED_PAYLOAD if self._is_tls or self._is_loopback else hashlib.sha256(body).hexdigest()

    def _begin(
        self, method: str, target: str, headers: dict[str, str], body: ReadBuffer | None, timeout_s: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Sends a request and receives the head of its answer."""
        connection, is_reused = self._take()
        try:
            return connection, self._exchange(connection, method, target, headers, body, timeout_s)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            if not is_reused:
                raise
        except BaseException:
            connection.close()
            raise
        connection = self._connect()  # the server had closed the idle connection: not a failure of the request
        try:
            return connection, self._exchange(connection, method, target, headers, body, timeout_s)
        except BaseException:
            connection.close()
            raise

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: dict[str, str],
        body: ReadBuffer | None,
        timeout_s: float | None,
    ) -> http.client.HTTPResponse:
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s or self._timeout_s)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None or method in ("PUT", "POST"):
            connection.putheader("content-length", str(0 if body is None else memoryview(body).nbytes))
        connection.endheaders()
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s or self._timeout_s)
        if body is not None:
            connection.send(body)
        return connection.getresponse()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        try:
            return self._idle.pop(), True
        except IndexError:
            return self._connect(), False

    def _connect(self) -> http.client.HTTPConnection:
        # This time-out bounds the connect; the request's own is set on the socket after it.
        if self._tls is not None and self._proxy is not None:
            tunnel = http.client.HTTPSConnection(self._proxy, timeout=UFS_CONNECT_TIMEOUT_S, context=self._tls)
            tunnel.set_tunnel(self._host, self._port)
            return tunnel
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=UFS_CONNECT_TIMEOUT_S, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=UFS_CONNECT_TIMEOUT_S)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        if self._closed.is_set() or len(self._idle) >= UFS_THREADS or connection.sock is None:
            connection.close()
        else:
            self._idle.append(connection)


def _is_loopback(host: str) -> bool:
    """Whether requests to the host stay on this machine: by its literal address, for a name may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _https_proxy(host: str) -> str | None:
    """host:port of the proxy that the environment (HTTPS_PROXY, NO_PROXY) names for `host`; obstore heeds it too."""
    url = urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(url if "://" in url else f"http://{url}").netloc.rpartition("@")[2]


def _whole_answer(response: http.client.HTTPResponse) -> S3Answer:
    data = response.read(_XML_BYTES_MAX)
    if response.length:  # read(n) does not mind a body that ends before its content-length
        raise http.client.IncompleteRead(data, response.length)
    return S3Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)


def _status_error(answer: S3Answer) -> S3StatusError:
    code, message = error_of(answer.body)
    message = message or http.client.responses.get(answer.status, "")
    region = answer.headers.get("x-amz-bucket-region")
    if region is not None and answer.status in (301, 307, 400):
        message = f"{message} The bucket's region is {region}."
    return S3StatusError(answer.status, code, message)


def error_of(body: bytes) -> tuple[str, str]:
    """(code, message) of an S3 error document; empty strings when the body is something else."""
    if not body.lstrip().startswith(b"<"):
        return "", ""
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat bounds entity expansion itself
    except ET.ParseError:
        return "", ""
    if root.tag.rpartition("}")[2] != "Error":
        return "", ""
    texts = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    return texts.get("Code", ""), texts.get("Message", "")
