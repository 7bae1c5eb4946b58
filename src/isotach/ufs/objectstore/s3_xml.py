"""The few S3 documents that are read and written here. Pure: bytes in, records out, and back.

Owns: their elements and the URL encoding of keys in listings. Never: sends anything.
"""

import datetime as dt
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote
from xml.sax.saxutils import escape

import msgspec

from isotach.ufs.objectstore.api import ObjectEntry

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ListPage(msgspec.Struct, frozen=True):
    """One answer of ListObjectsV2: objects and prefixes together in key order, and how to go on (None: the end)."""

    entries: list[ObjectEntry]
    next_token: str | None


class PendingUpload(msgspec.Struct, frozen=True):
    """One multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_s: float  # seconds since the epoch


def parse_list_page(body: bytes) -> ListPage:
    """Raises ValueError (ET.ParseError) when the document is cut off or not a listing."""
    root = _root(body, "ListBucketResult")
    is_encoded = _text(root, "EncodingType") == "url"
    entries: list[ObjectEntry] = []
    for child in root:
        tag = _tag(child)
        if tag == "Contents":
            entries.append(_entry(child, is_encoded))
        elif tag == "CommonPrefixes":
            entries.append(ObjectEntry(_decoded(_text(child, "Prefix"), is_encoded), is_prefix=True))
    entries.sort(key=lambda entry: entry.key.encode("utf-8", "surrogateescape"))
    is_cut = _text(root, "IsTruncated") == "true"
    return ListPage(entries, _text(root, "NextContinuationToken") or None if is_cut else None)


def parse_upload_id(body: bytes) -> str:
    """The id of a new multipart upload."""
    return _text(_root(body, "InitiateMultipartUploadResult"), "UploadId")


def parse_pending_uploads(body: bytes) -> tuple[list[PendingUpload], tuple[str, str] | None]:
    """One page of ListMultipartUploads, and the (key marker, upload id marker) of the next; None at the end."""
    root = _root(body, "ListMultipartUploadsResult")
    is_encoded = _text(root, "EncodingType") == "url"
    uploads = [
        PendingUpload(
            _decoded(_text(child, "Key"), is_encoded),
            _text(child, "UploadId"),
            _time_ns(_text(child, "Initiated")) / 1e9,
        )
        for child in root
        if _tag(child) == "Upload"
    ]
    if _text(root, "IsTruncated") != "true":
        return uploads, None
    return uploads, (_decoded(_text(root, "NextKeyMarker"), is_encoded), _text(root, "NextUploadIdMarker"))


def complete_document(etags: Sequence[str]) -> bytes:
    """The body that completes a multipart upload; part numbers start at 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, start=1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def delete_document(keys: Sequence[str]) -> bytes:
    """The body of DeleteObjects (at most 1,000 keys)."""
    objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()


def parse_delete_errors(body: bytes) -> list[tuple[str, str, str]]:
    """(key, code, message) of each object that DeleteObjects could not remove."""
    root = _root(body, "DeleteResult")
    return [
        (_text(child, "Key"), _text(child, "Code"), _text(child, "Message")) for child in root if _tag(child) == "Error"
    ]


def parse_copy_part_etag(body: bytes) -> str:
    """The ETag in the answer of UploadPartCopy."""
    return _text(_root(body, "CopyPartResult"), "ETag")


def _entry(element: ET.Element, is_encoded: bool) -> ObjectEntry:
    texts = {_tag(child): child.text or "" for child in element}
    return ObjectEntry(
        key=_decoded(texts.get("Key", ""), is_encoded),
        length=int(texts.get("Size") or 0),
        mtime_ns=_time_ns(texts.get("LastModified", "")),
        etag=texts.get("ETag") or None,
    )


def _root(body: bytes, expected: str) -> ET.Element:
    root = ET.fromstring(body)  # noqa: S314 - expat bounds entity expansion itself
    if _tag(root) != expected:
        raise ValueError(f"the store answered with a {_tag(root)!r} document instead of {expected!r}")
    return root


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ET.Element, name: str) -> str:
    for child in element:
        if _tag(child) == name:
            return child.text or ""
    return ""


def _decoded(text: str, is_encoded: bool) -> str:
    return unquote(text.replace("+", " "), errors="surrogateescape") if is_encoded else text


def _time_ns(text: str) -> int:
    if not text:
        return 0
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    # Whole seconds: HEAD (Last-Modified) has no fractions, and the two must agree.
    return int((moment - _EPOCH).total_seconds()) * 1_000_000_000
