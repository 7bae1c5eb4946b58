"""AWS Signature Version 4, the header form, for S3. Pure: bytes in, headers out.

Owns: canonical requests and signatures. Never: sends, reads a clock or finds credentials.
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


def quote_path(path: str) -> str:
    """A URL path with everything but unreserved characters and slashes percent-encoded (once, as S3 wants it)."""
    return quote(path, safe="/" + _UNRESERVED)


def quote_query(query: Sequence[tuple[str, str]]) -> str:
    """A query string in canonical form: encoded and sorted."""
    pairs = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(
    *,
    method: str,
    quoted_path: str,
    quoted_query: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    region: str,
    access_key_id: str,
    secret_access_key: str,
    session_token: str | None,
    timestamp: str,
) -> dict[str, str]:
    """`headers` (which must hold `host`) plus the ones that sign the request. `timestamp` is UTC, %Y%m%dT%H%M%SZ."""
    result = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    result["x-amz-date"] = timestamp
    result["x-amz-content-sha256"] = payload_sha256
    if session_token:
        result["x-amz-security-token"] = session_token
    names = ";".join(sorted(result))
    canonical_headers = "".join(f"{name}:{result[name]}\n" for name in sorted(result))
    canonical = f"{method}\n{quoted_path}\n{quoted_query}\n{canonical_headers}\n{names}\n{payload_sha256}"
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(_signing_key(secret_access_key, timestamp[:8], region), to_sign.encode(), hashlib.sha256)
    credential = f"{access_key_id}/{scope}"
    result["authorization"] = (
        f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature.hexdigest()}"
    )
    return result


@functools.lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
