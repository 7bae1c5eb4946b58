"""The object port for S3 and all that speak it, where we hold the keys ourselves or none are needed.

Owns: what obstore cannot say to S3: paged listing of one level, markers (keys that end in "/"), multipart uploads whose
completion is a step of its own and that can be aborted, copies over 5 GiB, and finding uploads that were left behind.
It also receives large ranges straight into the caller's memory: obstore would gather them in memory of its own first.
Small reads are one exchange of our own (`s3_small.py`). Heads and small writes stay with obstore, which works outside
the GIL.
Never: interprets keys.
"""

import base64
import contextlib
import email.utils
import hashlib
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from isotach.base.limits import (
    UFS_LIST_PAGE_ENTRIES,
    UFS_MOUNT_CHECK_TIMEOUT_S,
    UFS_SINGLE_COPY_BYTES_MAX,
    UFS_SMALL_GET_BYTES_MAX,
)
from isotach.base.types import ReadBuffer
from isotach.ufs.interface import RangeReader
from isotach.ufs.objectstore import s3_xml
from isotach.ufs.objectstore.api import ObjectEntry, Upload
from isotach.ufs.objectstore.connection import BucketStore
from isotach.ufs.objectstore.faults import Classifier, RangeBeyondEndError, is_transient
from isotach.ufs.objectstore.obstore_api import ObstoreApi
from isotach.ufs.objectstore.s3_body import S3Body
from isotach.ufs.objectstore.s3_request import Query, S3Answer, S3Requester, S3StatusError, error_of
from isotach.ufs.objectstore.s3_signature import quote_path
from isotach.ufs.objectstore.s3_small import OddAnswerError, SmallAnswer
from isotach.ufs.ranges import WholeRange
from isotach.ufs.retry import RetryPolicy

T = TypeVar("T")

_COPY_PART_BYTES: Final = 512 << 20
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")
_MD5_HEX: Final = re.compile(r'^"?([0-9a-f]{32})"?$')


class S3Api(ObstoreApi):
    """`ObjectApi` over obstore and our own requests."""

    has_markers = True
    parts_are_parallel = True
    streams_ranges = True

    def __init__(
        self, store: BucketStore, requester: S3Requester, bucket: str, classifier: Classifier, policy: RetryPolicy
    ) -> None:
        super().__init__(store, classifier)
        self._requester = requester
        self._bucket = bucket
        self._policy = policy

    def check(self, prefix: str, read_only: bool) -> None:
        query = (("list-type", "2"), ("max-keys", "1"), ("prefix", prefix))
        with self._classifier.translating(None):
            s3_xml.parse_list_page(
                self._requester.send("GET", None, query, timeout_s=UFS_MOUNT_CHECK_TIMEOUT_S - 1.0).body
            )

    def get_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[ReadBuffer, ObjectEntry]:
        if length > UFS_SMALL_GET_BYTES_MAX:
            return super().get_range(key, offset, length, etag)
        headers = {"range": f"bytes={offset}-{offset + length - 1}"}
        if etag is not None:
            headers["if-match"] = etag
        try:
            with self._classifier.translating(key):
                answer = self._requester.get_small(key, headers, length)
                return answer.body, _entry_of(answer, key, offset, length)
        except RangeBeyondEndError:
            return b"", self.head(key)
        except OddAnswerError:
            return super().get_range(key, offset, length, etag)

    def open_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[RangeReader, ObjectEntry]:
        headers = {"range": f"bytes={offset}-{offset + length - 1}"}
        if etag is not None:
            headers["if-match"] = etag
        try:
            with self._classifier.translating(key):
                body = self._requester.get(key, headers)
                return _S3Range(body, key, self._classifier), _entry_of(body, key, offset, length)
        except RangeBeyondEndError:
            return WholeRange(b""), self.head(key)

    def put(self, key: str, data: ReadBuffer) -> str | None:
        if not key.endswith("/"):
            put = super().put
            return self._policy.run("put", lambda: put(key, data), is_transient)  # the same object again does no harm
        with self._classifier.translating(key):
            return self._requester.send("PUT", key, body=data).headers.get("etag")

    def start_upload(self, key: str) -> Upload:
        return S3Upload(self._requester, key, self._classifier, self._policy)

    def copy(self, source: ObjectEntry, target_key: str) -> None:
        origin = {"x-amz-copy-source": quote_path(f"/{self._bucket}/{source.key}")}
        if source.length > UFS_SINGLE_COPY_BYTES_MAX:
            self._copy_in_parts(source, target_key, origin)
            return
        with self._classifier.translating(source.key):
            _raise_late_error(self._requester.send("PUT", target_key, headers=origin))

    def delete_many(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), UFS_LIST_PAGE_ENTRIES):
            document = s3_xml.delete_document(keys[start : start + UFS_LIST_PAGE_ENTRIES])
            digest = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
            headers = {"content-md5": digest, "content-type": "application/xml"}
            with self._classifier.translating(keys[start]):
                answer = self._requester.send("POST", None, (("delete", ""),), headers, document)
                failures = s3_xml.parse_delete_errors(answer.body)
            for key, code, message in failures:
                raise self._classifier.translated(S3StatusError(_status_of(code), code, message), key)

    def list_children(self, prefix: str, start_after: str) -> Iterator[Sequence[ObjectEntry]]:
        query = [("delimiter", "/"), ("max-keys", str(UFS_LIST_PAGE_ENTRIES))]
        if start_after:
            # A prefix "d/" sorts at its first key; behind all its keys is where the listing goes on.
            query.append(("start-after", start_after + "\U0010ffff" if start_after.endswith("/") else start_after))
        for page in self._list_pages(prefix, query):
            yield [entry for entry in page if entry.key > start_after]

    def list_all(self, prefix: str, keys_max: int | None = None) -> Iterator[Sequence[ObjectEntry]]:
        return self._list_pages(prefix, [("max-keys", str(keys_max or UFS_LIST_PAGE_ENTRIES))])

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._classifier.translating(key):
            try:
                self._requester.send("DELETE", key, (("uploadId", upload_id),))
            except S3StatusError as error:
                if error.status != 404:
                    raise

    def abort_stale_uploads(self, prefix: str, older_than_s: float) -> int:
        count, marker = 0, None
        oldest_kept_s = time.time() - older_than_s
        while True:
            query = [("uploads", ""), ("prefix", prefix), ("encoding-type", "url")]
            if marker is not None:
                query += [("key-marker", marker[0]), ("upload-id-marker", marker[1])]
            with self._classifier.translating(None):
                uploads, marker = s3_xml.parse_pending_uploads(self._requester.send("GET", None, query).body)
            for upload in uploads:
                if upload.initiated_s <= oldest_kept_s and upload.key.startswith(prefix):
                    with self._classifier.translating(upload.key), contextlib.suppress(S3StatusError):
                        self._requester.send("DELETE", upload.key, (("uploadId", upload.upload_id),))
                        count += 1
            if marker is None:
                return count

    def close(self) -> None:
        self._requester.close()

    def _list_pages(self, prefix: str, query: Query) -> Iterator[Sequence[ObjectEntry]]:
        token: str | None = None
        while True:
            page = self._list_page(prefix, query, token)
            yield page.entries
            if page.next_token is None:
                return
            token = page.next_token

    def _list_page(self, prefix: str, query: Query, token: str | None) -> s3_xml.ListPage:
        whole = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url"), *query]
        if token is not None:
            whole.append(("continuation-token", token))

        def once() -> s3_xml.ListPage:
            with self._classifier.translating(prefix):
                return s3_xml.parse_list_page(self._requester.send("GET", None, whole).body)

        # The first page is retried by the wrapper around the driver; only here is the cursor of the later ones.
        return once() if token is None else self._policy.run("list_page", once, is_transient)

    def _copy_in_parts(self, source: ObjectEntry, target_key: str, origin: dict[str, str]) -> None:
        upload = S3Upload(self._requester, target_key, self._classifier, self._policy)
        if source.etag is not None:
            origin = {**origin, "x-amz-copy-source-if-match": source.etag}
        try:
            for number, start in enumerate(range(0, source.length, _COPY_PART_BYTES)):
                stop = min(start + _COPY_PART_BYTES, source.length)
                upload.copy_part(number, {**origin, "x-amz-copy-source-range": f"bytes={start}-{stop - 1}"})
            upload.complete()
        except BaseException:
            upload.abort()
            raise


class S3Upload:
    """A multipart upload; begun with its first part, so that an upload without parts costs nothing."""

    def __init__(self, requester: S3Requester, key: str, classifier: Classifier, policy: RetryPolicy) -> None:
        self._requester = requester
        self._key = key
        self._classifier = classifier
        self._policy = policy
        self._lock = threading.Lock()
        self._upload_id: str | None = None
        self._etags: dict[int, str] = {}

    def put_part(self, number: int, data: ReadBuffer) -> None:
        self._send_part(number, {}, data)

    def copy_part(self, number: int, headers: dict[str, str]) -> None:
        """A part whose bytes the store takes from another object."""
        self._send_part(number, headers, None)

    def complete(self) -> str | None:
        etags = [self._etags[number] for number in range(len(self._etags))]
        query = (("uploadId", self.begin()),)
        document = s3_xml.complete_document(etags)

        def once() -> None:
            try:
                _raise_late_error(self._requester.send("POST", self._key, query, body=document))
            except S3StatusError as error:
                # An earlier attempt may have done it although its answer was lost.
                if error.code != "NoSuchUpload" or not self._is_complete(etags):
                    raise

        self._run("complete_upload", once)
        self._upload_id = None
        return _whole_etag(etags)

    def abort(self) -> bool:
        with self._lock:
            upload_id, self._upload_id = self._upload_id, None
        try:
            if upload_id is not None:
                self._requester.send("DELETE", self._key, (("uploadId", upload_id),))
        except Exception as error:
            return isinstance(error, S3StatusError) and error.status == 404
        return True

    def _send_part(self, number: int, headers: dict[str, str], data: ReadBuffer | None) -> None:
        query = (("partNumber", str(number + 1)), ("uploadId", self.begin()))

        def once() -> str:
            answer = self._requester.send("PUT", self._key, query, headers, data)
            _raise_late_error(answer)
            return answer.headers["etag"] if data is not None else s3_xml.parse_copy_part_etag(answer.body)

        etag = self._run("upload_part", once)
        with self._lock:
            self._etags[number] = etag

    def begin(self) -> str:
        with self._lock:
            if self._upload_id is None:
                self._upload_id = self._run("start_upload", self._begin_once)
            return self._upload_id

    def _begin_once(self) -> str:
        return s3_xml.parse_upload_id(self._requester.send("POST", self._key, (("uploads", ""),)).body)

    def _is_complete(self, etags: Sequence[str]) -> bool:
        expected = _whole_etag(etags)
        return expected is not None and self._requester.send("HEAD", self._key).headers.get("etag") == expected

    def _run(self, name: str, call: Callable[[], T]) -> T:
        def translated() -> T:
            with self._classifier.translating(self._key):
                return call()

        return self._policy.run(name, translated, is_transient)


def _whole_etag(etags: Sequence[str]) -> str | None:
    """The ETag that S3 gives to an object of these parts; None where part ETags are no MD5 sums (as with KMS)."""
    digests = [_MD5_HEX.match(etag) for etag in etags]
    sums = [bytes.fromhex(match.group(1)) for match in digests if match]
    if len(sums) != len(etags):
        return None
    return f'"{hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()}-{len(etags)}"'


def _raise_late_error(answer: S3Answer) -> None:
    """S3 may begin with status 200 and report the failure in the body (copy, complete)."""
    code, message = error_of(answer.body)
    if code:
        raise S3StatusError(_status_of(code), code, message)


class _S3Range:
    """A range being received; its failures name the object."""

    def __init__(self, body: S3Body, key: str, classifier: Classifier) -> None:
        self._body = body
        self._key = key
        self._classifier = classifier

    def read_into(self, view: memoryview) -> int:
        with self._classifier.translating(self._key):
            return self._body.read_into(view)

    def close(self) -> None:
        self._body.close()


def _entry_of(body: S3Body | SmallAnswer, key: str, offset: int, length: int) -> ObjectEntry:
    """The object's state as of this answer. Closes the body, and raises, when it is not the range asked for."""
    found = _CONTENT_RANGE.match(body.headers.get("content-range", ""))
    if body.status != 206 or found is None or int(found[1]) != offset or int(found[2]) >= offset + length:
        body.close()
        raise http.client.HTTPException(
            f"asked for {length} bytes at {offset}, the store answered with status {body.status} and the range "
            f"{body.headers.get('content-range', 'of the whole object')!r}"
        )
    etag, stamp = body.headers.get("etag"), body.headers.get("last-modified")
    needs_time = etag is None and stamp is not None  # parsing it costs more than all the rest of this
    mtime_s = int(email.utils.parsedate_to_datetime(stamp).timestamp()) if needs_time and stamp is not None else 0
    return ObjectEntry(
        key=key,
        length=int(found[3]),
        mtime_ns=mtime_s * 1_000_000_000,
        etag=etag,
        version_id=body.headers.get("x-amz-version-id"),
    )


def _status_of(code: str) -> int:
    return {"AccessDenied": 403, "NoSuchKey": 404, "NoSuchBucket": 404, "PreconditionFailed": 412}.get(code, 500)
