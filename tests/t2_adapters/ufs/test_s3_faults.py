"""S3 when it fails: busy answers, cut bodies, lost answers, silence, wrong keys; through a proxy that breaks."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from isotach.base.errors import StaleVersionError, UfsAuthError, UfsBucketMissingError, UfsError, UfsUnreachableError
from isotach.base.limits import MIB, UFS_RETRY_ATTEMPTS_MAX
from isotach.testing.contracts.under_storage import get, names, put, stream
from isotach.testing.faulty_http import Fault, FaultKind, FaultyHttp
from isotach.testing.seaweed import SeaweedServer
from isotach.ufs.interface import UnderStorage
from isotach.ufs.objectstore.faults import UfsTransientError
from isotach.ufs.registry import open_under_storage


@pytest.fixture
def proxy(seaweed: SeaweedServer) -> Iterator[FaultyHttp]:
    with FaultyHttp(seaweed.endpoint) as running:
        yield running


@pytest.fixture
def storage(seaweed: SeaweedServer, proxy: FaultyHttp, fresh_uri: Callable[[], str]) -> Iterator[UnderStorage]:
    storage = open_under_storage(fresh_uri(), {**seaweed.options(), "endpoint": proxy.endpoint})
    yield storage
    storage.close()


def test_busy_answers_are_tried_again(storage: UnderStorage, proxy: FaultyHttp) -> None:
    data = os.urandom(100_000)
    put(storage, "file", data)
    proxy.inject(Fault(kind=FaultKind.STATUS, times=UFS_RETRY_ATTEMPTS_MAX - 1))
    assert get(storage, "file") == data
    proxy.inject(Fault(kind=FaultKind.STATUS, times=UFS_RETRY_ATTEMPTS_MAX - 1, status=500, code="InternalError"))
    assert names(storage.list_pages("")) == ["file"]


def test_attempts_are_bounded(storage: UnderStorage, proxy: FaultyHttp) -> None:
    proxy.inject(Fault(kind=FaultKind.STATUS, times=1000))
    with pytest.raises(UfsTransientError, match="SlowDown") as caught:
        storage.read_range("file", 0, 1)
    assert "s3://contract/prefix" in str(caught.value)
    assert len(proxy.requests) == UFS_RETRY_ATTEMPTS_MAX


def test_cut_body_is_never_taken_for_the_whole(storage: UnderStorage, proxy: FaultyHttp) -> None:
    data = os.urandom(300_000)
    put(storage, "file", data)
    proxy.inject(Fault(kind=FaultKind.TRUNCATE, method="GET", target_part="/file", body_bytes=1000))
    assert bytes(storage.read_range("file", 0, len(data))) == data
    proxy.inject(Fault(kind=FaultKind.TRUNCATE, method="GET", target_part="list-type", body_bytes=150))
    assert names(storage.list_pages("")) == ["file"]


def test_stream_goes_on_from_the_byte_where_it_broke(storage: UnderStorage, proxy: FaultyHttp) -> None:
    data = os.urandom(300_000)
    fingerprint = put(storage, "file", data).fingerprint
    proxy.clear()
    for body_bytes in (100_000, 0, 1):
        proxy.inject(Fault(kind=FaultKind.TRUNCATE, method="GET", target_part="/file", body_bytes=body_bytes))
    assert stream(storage, "file", 0, len(data), fingerprint) == data
    assert len(proxy.requests) == 4


def test_broken_stream_is_not_resumed_in_other_content(storage: UnderStorage, proxy: FaultyHttp) -> None:
    fingerprint = put(storage, "file", os.urandom(300_000)).fingerprint
    proxy.inject(Fault(kind=FaultKind.TRUNCATE, method="GET", target_part="/file", body_bytes=100_000))
    reader = storage.open_range("file", 0, 300_000, fingerprint)
    buffer = memoryview(bytearray(50_000))
    assert reader.read_into(buffer) == 50_000
    put(storage, "file", os.urandom(300_000))
    assert reader.read_into(buffer) == 50_000
    with pytest.raises(StaleVersionError):
        reader.read_into(buffer)
    reader.close()


def test_stream_that_breaks_again_and_again_fails(storage: UnderStorage, proxy: FaultyHttp) -> None:
    fingerprint = put(storage, "file", os.urandom(300_000)).fingerprint
    proxy.clear()
    proxy.inject(Fault(kind=FaultKind.TRUNCATE, method="GET", target_part="/file", body_bytes=0, times=1000))
    with pytest.raises(UfsTransientError, match=r"s3://contract/prefix.*/file"):
        stream(storage, "file", 0, 300_000, fingerprint)
    assert len(proxy.requests) == UFS_RETRY_ATTEMPTS_MAX


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.DROP, FaultKind.LOSE_ANSWER])
@pytest.mark.parametrize("target_part", ["uploads=", "partNumber=2&", "uploadId="])
def test_multipart_upload_survives(storage: UnderStorage, proxy: FaultyHttp, kind: FaultKind, target_part: str) -> None:
    data = os.urandom(20 * MIB)
    proxy.inject(Fault(kind=kind, target_part=target_part, method=None if target_part != "uploadId=" else "POST"))
    put(storage, "file", data)
    assert get(storage, "file") == data


def test_aborted_upload_leaves_no_parts(storage: UnderStorage, proxy: FaultyHttp) -> None:
    writer = storage.open_write("file")
    writer.write(bytes(20 * MIB))
    writer.prepare()
    writer.abort()
    assert storage.clean_leftovers(-60.0) == 0


def test_parts_left_by_a_dead_writer_are_cleaned(storage: UnderStorage, proxy: FaultyHttp) -> None:
    writer = storage.open_write("file")
    writer.write(bytes(20 * MIB))
    writer.prepare()
    proxy.inject(Fault(kind=FaultKind.DROP, method="DELETE", times=10))
    writer.abort()
    proxy.clear()
    assert storage.clean_leftovers(3600.0) == 0
    assert storage.clean_leftovers(-60.0) == 1


def test_delete_whose_answer_was_lost(storage: UnderStorage, proxy: FaultyHttp) -> None:
    put(storage, "file", b"x")
    proxy.inject(Fault(kind=FaultKind.LOSE_ANSWER, method="POST", target_part="delete"))
    storage.delete("file")
    with pytest.raises(FileNotFoundError):
        storage.delete("file")


def test_directory_rename_goes_on_where_it_broke(storage: UnderStorage, proxy: FaultyHttp) -> None:
    for number in range(40):
        put(storage, f"src/f{number:02d}", b"%d" % number)
    proxy.inject(
        Fault(kind=FaultKind.STATUS, method="PUT", target_part="/dst/f3", times=1000, status=400, code="Broken")
    )
    with pytest.raises(UfsError):
        storage.rename("src", "dst")
    proxy.clear()
    storage.rename("src", "dst")
    assert len(names(storage.list_pages("dst"))) == 40
    assert get(storage, "dst/f31") == b"31"
    assert names(storage.list_pages("")) == ["dst"]


def test_check_of_a_silent_server_ends_in_time(storage: UnderStorage, proxy: FaultyHttp) -> None:
    proxy.inject(Fault(kind=FaultKind.STALL, times=10))
    start = time.monotonic()
    with pytest.raises(UfsUnreachableError, match=proxy.endpoint):
        storage.check(read_only=False)
    assert time.monotonic() - start < 10.0


@pytest.mark.parametrize(
    ("uri", "options", "expected", "text"),
    [
        ("s3://no-such-bucket/x", {}, UfsBucketMissingError, "bucket does not exist"),
        ("s3://contract/x", {"secret_access_key": "WRONG+SECRET/1"}, UfsAuthError, "does not accept the credentials"),
        ("s3://contract/x", {"access_key_id": "NOBODY"}, UfsAuthError, "does not accept the credentials"),
        ("s3://contract/x", {"endpoint": "http://127.0.0.1:9"}, UfsUnreachableError, "no answer from"),
        ("s3://contract/x", {"endpoint": "http://no-such-host.invalid"}, UfsUnreachableError, "no answer from"),
    ],
)
def test_check_says_what_is_wrong(
    seaweed: SeaweedServer, uri: str, options: dict[str, str], expected: type[Exception], text: str
) -> None:
    storage = open_under_storage(uri, {**seaweed.options(), **options})
    try:
        with pytest.raises(expected, match=text) as caught:
            storage.check(read_only=False)
        assert "s3://" in str(caught.value)
        for secret in (seaweed.secret_key, "WRONG+SECRET/1"):
            assert secret not in str(caught.value)
    finally:
        storage.close()


def test_refused_listing_names_the_permission(storage: UnderStorage, proxy: FaultyHttp) -> None:
    proxy.inject(Fault(kind=FaultKind.STATUS, status=403, code="AccessDenied"))
    with pytest.raises(UfsAuthError, match="s3:ListBucket"):
        storage.check(read_only=True)


def test_other_region_is_told(storage: UnderStorage, proxy: FaultyHttp) -> None:
    proxy.inject(Fault(kind=FaultKind.STATUS, status=301, code="PermanentRedirect"))
    with pytest.raises(UfsError, match="option region"):
        storage.check(read_only=True)


def test_small_write_sends_one_request(storage: UnderStorage, proxy: FaultyHttp) -> None:
    put(storage, "file", b"x")
    assert [method for method, _ in proxy.requests] == ["PUT"]


def test_server_crash_and_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    with SeaweedServer.start(tmp_path_factory.mktemp("crash")) as server:
        server.create_bucket("bucket")
        storage = open_under_storage("s3://bucket", server.options())
        put(storage, "file", b"kept")
        server.kill()
        with pytest.raises(UfsUnreachableError):
            storage.stat("file")
        server.restart()
        assert get(storage, "file") == b"kept"
        storage.close()
