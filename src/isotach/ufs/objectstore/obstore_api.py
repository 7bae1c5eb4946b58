"""The object port through obstore, for every store that obstore reaches (S3, GCS, Azure, memory).

Owns: calls of obstore, and the two things it lacks, done as well as it permits:
  - listing one level in pages. `list_with_delimiter` collects a whole level before it returns (1,000,000 children: some
    600 MB of dicts), and `list` streams but walks every subtree. So a level is read from the stream, and where a
    subtree shows up the stream is begun anew behind it (one request per subtree). After `_SUBTREE_SKIPS_MAX` of them
    the level evidently consists of folders, and the rest comes from `list_with_delimiter`: few requests, memory by its
    children.
  - multipart parts. `open_writer` uploads parts in the background in order; it cannot abort, so an aborted upload
    leaves invisible parts for the bucket's lifecycle rule.
Never: sees keys that end in "/": obstore shows such a marker without its slash.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import obstore

from isotach.base.limits import UFS_LIST_PAGE_ENTRIES, UFS_PART_BYTES, UFS_PARTS_IN_FLIGHT_MAX
from isotach.base.types import ReadBuffer
from isotach.ufs.interface import RangeReader
from isotach.ufs.objectstore.api import ObjectEntry, Upload
from isotach.ufs.objectstore.connection import BucketStore
from isotach.ufs.objectstore.faults import Classifier, RangeBeyondEndError
from isotach.ufs.ranges import WholeRange

if TYPE_CHECKING:  # these names exist in obstore's stubs only
    from obstore import GetOptions, ObjectMeta, WritableFile

#: Above every character that a name can go on with: an offset that skips all keys below a prefix.
_LAST_CHARACTER: Final = "\U0010ffff"
_SUBTREE_SKIPS_MAX: Final = 8
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ObstoreApi:
    """`ObjectApi` over one obstore store. `check_store` is the same bucket, but does not retry."""

    has_markers = False
    parts_are_parallel = False
    streams_ranges = False

    def __init__(
        self,
        store: BucketStore,
        classifier: Classifier,
        check_store: BucketStore | None = None,
        subtree_skips_max: int = _SUBTREE_SKIPS_MAX,
    ) -> None:
        self._store = store
        self._check_store = check_store or store
        self._classifier = classifier
        self._subtree_skips_max = subtree_skips_max

    def check(self, prefix: str, read_only: bool) -> None:
        with self._classifier.translating(None):
            next(iter(obstore.list(self._check_store, prefix or None, chunk_size=1)), None)

    def head(self, key: str) -> ObjectEntry:
        with self._classifier.translating(key):
            return _entry(obstore.head(self._store, key))

    def get_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[ReadBuffer, ObjectEntry]:
        options: GetOptions = {"range": (offset, offset + length)}
        if etag is not None:
            options["if_match"] = etag
        try:
            with self._classifier.translating(key):
                result = obstore.get(self._store, key, options=options)
                start, stop = result.range
                data = memoryview(result.bytes())
                if len(data) != stop - start or start != offset:
                    raise OSError(f"incomplete answer: {len(data)} bytes instead of {stop - start}")
                return data, _entry(result.meta)
        except RangeBeyondEndError:
            return b"", self.head(key)

    def open_range(self, key: str, offset: int, length: int, etag: str | None) -> tuple[RangeReader, ObjectEntry]:
        data, entry = self.get_range(key, offset, length, etag)
        return WholeRange(data), entry

    def put(self, key: str, data: ReadBuffer) -> str | None:
        with self._classifier.translating(key):
            return obstore.put(self._store, key, data, use_multipart=False)["e_tag"]

    def start_upload(self, key: str) -> Upload:
        return _StreamedUpload(self._store, key, self._classifier)

    def copy(self, source: ObjectEntry, target_key: str) -> None:
        with self._classifier.translating(source.key):
            obstore.copy(self._store, source.key, target_key)

    def delete_many(self, keys: Sequence[str]) -> None:
        try:
            with self._classifier.translating(keys[0] if len(keys) == 1 else None):
                obstore.delete(self._store, keys)
        except FileNotFoundError:  # some stores mind a missing key: then one by one
            for key in keys:
                with contextlib.suppress(FileNotFoundError), self._classifier.translating(key):
                    obstore.delete(self._store, key)

    def list_children(self, prefix: str, start_after: str) -> Iterator[Sequence[ObjectEntry]]:
        skips, last_child, cursor = 0, "", start_after
        while skips <= self._subtree_skips_max:
            page: list[ObjectEntry] = []
            restart: str | None = None
            for entry in self._stream(prefix, cursor):
                child = _child_of(entry, prefix)
                if child.is_prefix and child.key == last_child:
                    restart = child.key + _LAST_CHARACTER  # a second key of the same subtree: go round it
                    break
                last_child = child.key
                page.append(child)
                if len(page) == UFS_LIST_PAGE_ENTRIES:
                    yield page
                    page = []
            if page:
                yield page
            if restart is None:
                return
            cursor, skips = restart, skips + 1
        yield from self._rest_of_level(prefix, cursor)

    def list_all(self, prefix: str, keys_max: int | None = None) -> Iterator[Sequence[ObjectEntry]]:
        with self._classifier.translating(prefix):
            chunks = obstore.list(self._store, prefix or None, chunk_size=keys_max or UFS_LIST_PAGE_ENTRIES)
            for chunk in chunks:
                yield [_entry(meta) for meta in chunk]

    def abort_upload(self, key: str, upload_id: str) -> None:
        return

    def abort_stale_uploads(self, prefix: str, older_than_s: float) -> int:
        return 0

    def close(self) -> None:
        return

    def _stream(self, prefix: str, start_after: str) -> Iterator[ObjectEntry]:
        with self._classifier.translating(prefix):
            offset = start_after.removesuffix("/") or None
            for chunk in obstore.list(self._store, prefix or None, offset=offset, chunk_size=UFS_LIST_PAGE_ENTRIES):
                for meta in chunk:
                    entry = _entry(meta)
                    if entry.key > start_after:
                        yield entry

    def _rest_of_level(self, prefix: str, start_after: str) -> Iterator[Sequence[ObjectEntry]]:
        with self._classifier.translating(prefix):
            level = obstore.list_with_delimiter(self._store, prefix or None)
        children = [ObjectEntry(f"{path}/", is_prefix=True) for path in level["common_prefixes"]]
        children.extend(_entry(meta) for meta in level["objects"])
        children = sorted((child for child in children if child.key > start_after), key=lambda child: child.key)
        for start in range(0, len(children), UFS_LIST_PAGE_ENTRIES):
            yield children[start : start + UFS_LIST_PAGE_ENTRIES]


class _StreamedUpload:
    """obstore's own writer: it uploads full parts in the background; `complete` waits for them and finishes."""

    def __init__(self, store: BucketStore, key: str, classifier: Classifier) -> None:
        self._key = key
        self._classifier = classifier
        self._writer: WritableFile | None = obstore.open_writer(
            store, key, buffer_size=UFS_PART_BYTES, max_concurrency=UFS_PARTS_IN_FLIGHT_MAX
        )

    def begin(self) -> str | None:
        return None

    def put_part(self, number: int, data: ReadBuffer) -> None:
        writer = self._writer
        if writer is None:
            raise ValueError("the upload was dropped: start the write anew")
        with self._classifier.translating(self._key):
            writer.write(data)

    def complete(self) -> str | None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._classifier.translating(self._key):
                writer.close()
        return None

    def abort(self) -> bool:
        self._writer = None  # never close(): that would publish what was written
        return True


def _child_of(entry: ObjectEntry, prefix: str) -> ObjectEntry:
    name, slash, _ = entry.key[len(prefix) :].partition("/")
    return ObjectEntry(f"{prefix}{name}/", is_prefix=True) if slash else entry


def _entry(meta: "ObjectMeta") -> ObjectEntry:
    return ObjectEntry(
        key=meta["path"],
        length=meta["size"],
        mtime_ns=int((meta["last_modified"] - _EPOCH).total_seconds()) * 1_000_000_000,
        etag=meta["e_tag"],
        version_id=meta["version"],
    )
