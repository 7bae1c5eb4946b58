"""What a store's failure means: every error of obstore, of S3 answers and of sockets becomes one of ours.

Owns: the classification, the advice in each message, and scrubbing secrets from texts.
Never: retries, logs, or lets a text of a library through unscrubbed.
"""

import errno
import http.client
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

import msgspec
from obstore import exceptions as obstore_errors

from isotach.base.errors import (
    IsotachError,
    StaleVersionError,
    UfsAuthError,
    UfsBucketMissingError,
    UfsError,
    UfsUnreachableError,
)
from isotach.ufs.objectstore.s3_request import S3StatusError
from isotach.ufs.uri import MASK

_STATUS: Final = re.compile(r"status code: (\d{3})|HTTP status (?:server|client) error \((\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")
_SIGNED: Final = re.compile(r"(?i)\b(sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token)=[^&\s\"']+")
_CONNECT_WORDS: Final = ("error sending request", "connect", "timed out", "timeout", "dns", "tls", "certificate")
_BROKEN_WORDS: Final = (
    "response body",
    "connection reset",
    "incomplete",
    "unexpected eof",
    "broken pipe",
    "connection closed",
)
_BUCKET_CODES: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_WRONG_KEY_CODES: Final = frozenset(
    {
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "AuthenticationFailed",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
    }
)
_BUSY_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CODES: Final = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted"}
)
_REGION_CODES: Final = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"})
_TEXT_CHARS_MAX: Final = 300
_TRANSLATED: Final = (
    obstore_errors.BaseError, S3StatusError, OSError, http.client.HTTPException, ET.ParseError, ValueError,
)  # fmt: skip


class UfsTransientError(UfsError):
    """The store said "later" (503, SlowDown) or broke off in the middle of an answer: trying again helps."""


class RangeBeyondEndError(IsotachError):
    """The asked-for range starts at or past the end of the object (HTTP 416). Never leaves this package."""


class _Finding(msgspec.Struct, frozen=True):
    """What an error says, whatever library raised it. Status 0: no answer came."""

    status: int
    code: str
    text: str


class Classifier:
    """Translates errors of one mounted store; knows its name and its secrets."""

    def __init__(self, root_uri: str, endpoint: str, secrets: Sequence[str]) -> None:
        self._root_uri = root_uri
        self._endpoint = endpoint
        self._secrets = [form for secret in secrets for form in {secret, quote(secret, safe=""), quote(secret)}]

    @contextmanager
    def translating(self, key: str | None) -> Iterator[None]:
        """Runs the block; what it raises comes out as one of our errors that names the object (None: the bucket)."""
        try:
            yield
        except (IsotachError, AssertionError):
            raise
        except _TRANSLATED as error:
            raise self.translated(error, key) from None  # the cause's text may hold secrets

    def translated(self, error: Exception, key: str | None) -> Exception:
        """Our error for `error`."""
        where = self._root_uri if key is None else f"{self._root_uri}/{key}"
        finding = self._finding(error)
        if isinstance(error, obstore_errors.PreconditionError) or finding.status == 412:
            return StaleVersionError(
                errno.ESTALE, "the object is not that content any more: look the path up again", where
            )
        if finding.code in _BUCKET_CODES or (
            finding.status == 404 and (key is None or "bucket does not" in finding.text)
        ):
            return UfsBucketMissingError(
                errno.ENOENT,
                "the bucket does not exist at this endpoint: check its name, the endpoint and the region",
                self._root_uri,
            )
        if isinstance(error, FileNotFoundError) or finding.status == 404:
            return FileNotFoundError(errno.ENOENT, "no such object", where)
        if finding.status == 416 or "invalid range" in finding.text.lower():
            return RangeBeyondEndError(where)
        return self._refused(error, finding, where) or self._unanswered(error, finding, where)

    def scrub(self, text: str) -> str:
        """The text without any secret, in one line of bounded length."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = _SIGNED.sub(rf"\1={MASK}", text)
        text = " ".join(text.partition("\n\nDebug source")[0].split())
        return text if len(text) <= _TEXT_CHARS_MAX else text[:_TEXT_CHARS_MAX] + "..."

    def _finding(self, error: Exception) -> _Finding:
        if isinstance(error, S3StatusError):
            return _Finding(error.status, error.code, self.scrub(error.message))
        text = str(error)
        status = next((int(group) for match in _STATUS.finditer(text) for group in match.groups() if group), 0)
        code, message = _CODE.search(text), _MESSAGE.search(text)
        shown = message.group(1) if message else text
        return _Finding(status, code.group(1) if code else "", self.scrub(shown))

    def _refused(self, error: Exception, finding: _Finding, where: str) -> UfsError | None:
        said = f"{finding.code}: {finding.text}" if finding.code else finding.text
        if finding.code in _REGION_CODES or finding.status in (301, 307):
            return UfsError(
                errno.EIO, f"the bucket is in another region or endpoint: set the option region ({said})", where
            )
        if (
            finding.code in _WRONG_KEY_CODES
            or finding.status == 401
            or isinstance(error, obstore_errors.UnauthenticatedError)
        ):
            return UfsAuthError(
                errno.EACCES, f"the store does not accept the credentials: check the key and the secret ({said})", where
            )
        if finding.status == 403 or isinstance(error, obstore_errors.PermissionDeniedError):
            return UfsAuthError(
                errno.EACCES,
                f"the store refuses this to these credentials: grant it (to list: s3:ListBucket or the like) ({said})",
                where,
            )
        if finding.status in _BUSY_STATUSES or finding.code in _BUSY_CODES:
            return UfsTransientError(errno.EIO, f"the store failed for the moment: try again later ({said})", where)
        if finding.status:
            return UfsError(errno.EIO, f"the store answered with status {finding.status} ({said})", where)
        return None

    def _unanswered(self, error: Exception, finding: _Finding, where: str) -> UfsError:
        lowered = finding.text.lower()
        if isinstance(error, ET.ParseError):
            return UfsTransientError(
                errno.EIO, f"what answers at {self._endpoint} does not speak as a store of this kind", where
            )
        if isinstance(error, http.client.HTTPException) or any(word in lowered for word in _BROKEN_WORDS):
            return UfsTransientError(
                errno.EIO, f"the store broke off its answer ({finding.text or type(error).__name__})", where
            )
        if isinstance(error, OSError) or any(word in lowered for word in _CONNECT_WORDS):
            return UfsUnreachableError(
                errno.EIO,
                f"no answer from {self._endpoint}: check the endpoint, the name and the network ({finding.text})",
                where,
            )
        return UfsError(errno.EIO, f"the store failed ({finding.text})", where)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed if repeated."""
    return isinstance(error, UfsUnreachableError | UfsTransientError)
