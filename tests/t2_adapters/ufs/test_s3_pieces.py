"""The pure parts of the S3 driver: signatures, documents, keys, part sizes, and what errors mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidPathError, StaleVersionError, UfsAuthError, UfsError, UfsUnreachableError
from isotach.base.limits import GIB, MIB, UFS_PART_BYTES, UFS_PARTS_MAX
from isotach.ufs.objectstore import s3_xml
from isotach.ufs.objectstore.faults import Classifier, UfsTransientError, is_transient
from isotach.ufs.objectstore.keys import KeySpace
from isotach.ufs.objectstore.s3_request import S3StatusError, error_of
from isotach.ufs.objectstore.s3_signature import EMPTY_SHA256, quote_query, signed_headers
from isotach.ufs.objectstore.writer import part_bytes


def test_signature_of_the_documented_example() -> None:
    """GET Object, from "Signature Calculations for the Authorization Header" of the Amazon S3 API reference."""
    headers = signed_headers(
        method="GET",
        quoted_path="/test.txt",
        quoted_query="",
        headers={"Host": "examplebucket.s3.amazonaws.com", "Range": "bytes=0-9"},
        payload_sha256=EMPTY_SHA256,
        region="us-east-1",
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        session_token=None,
        timestamp="20130524T000000Z",
    )
    expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert headers["authorization"].endswith(f"Signature={expected}")


def test_query_is_sorted_and_encoded() -> None:
    assert quote_query([("prefix", "a b/+%"), ("delimiter", "/")]) == "delimiter=%2F&prefix=a%20b%2F%2B%25"


def test_listing_is_merged_in_key_order() -> None:
    document = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t=1</NextContinuationToken>
      <Contents><Key>p/a+b%2Bc</Key><Size>3</Size><ETag>&quot;e&quot;</ETag>
        <LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>
      <Contents><Key>p/z</Key><Size>0</Size></Contents>
      <CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes></ListBucketResult>"""
    page = s3_xml.parse_list_page(document)
    assert [entry.key for entry in page.entries] == ["p/a b+c", "p/d/", "p/z"]
    assert page.entries[0].etag == '"e"'
    assert page.entries[0].mtime_ns == 1767323045 * 1_000_000_000
    assert page.next_token == "t=1"


def test_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="html"):
        s3_xml.parse_list_page(b"<html></html>")
    assert error_of(b"<Error><Code>X</Code><Message>m</Message></Error>") == ("X", "m")
    assert error_of(b"<Error><Code>") == error_of(b"no xml") == error_of(b"<Other/>") == ("", "")


@given(st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_delete_document_is_sound_for_any_key(keys: list[str]) -> None:
    root = s3_xml.ET.fromstring(s3_xml.delete_document(keys))
    found = [child.findtext("Key") for child in root if child.tag == "Object"]
    assert len(found) == len(keys)


@pytest.mark.parametrize("path", ["a//b", "/a", "a/", "../a", "a/./b", "a\x01", "a\udc80", "x" * 1100, "d/.isotach-x"])
def test_keys_that_no_store_can_hold_are_refused(path: str) -> None:
    keys = KeySpace("prefix", has_markers=True)
    with pytest.raises(InvalidPathError):
        keys.key(path)
    with pytest.raises(FileNotFoundError):
        keys.existing_key(path)


def test_keys_and_paths_are_inverse() -> None:
    for prefix in ("", "some/prefix"):
        keys = KeySpace(prefix, has_markers=True)
        assert keys.path(keys.key("d/file")) == "d/file"
        assert keys.path(keys.marker("d")) == "d"
        assert keys.key("d/file").startswith(keys.prefix("d"))


@pytest.mark.parametrize("size", [100 * MIB, 100 * GIB, 4900 * GIB])
def test_parts_of_a_known_size_are_equal_and_few_enough(size: int) -> None:
    part = part_bytes(0, size)
    assert part == part_bytes(9_999, size)
    assert part >= UFS_PART_BYTES
    assert -(-size // part) <= UFS_PARTS_MAX


def test_parts_of_an_unknown_size_reach_five_tebibytes() -> None:
    assert sum(part_bytes(number, None) for number in range(UFS_PARTS_MAX)) > 5 * 1024 * GIB


@pytest.mark.parametrize(
    ("error", "expected", "transient"),
    [
        (S3StatusError(412, "PreconditionFailed", ""), StaleVersionError, False),
        (S3StatusError(404, "NoSuchKey", ""), FileNotFoundError, False),
        (S3StatusError(403, "AccessDenied", ""), UfsAuthError, False),
        (S3StatusError(400, "ExpiredToken", ""), UfsAuthError, False),
        (S3StatusError(503, "SlowDown", ""), UfsTransientError, True),
        (S3StatusError(429, "", "Too Many"), UfsTransientError, True),
        (S3StatusError(400, "EntityTooSmall", ""), UfsError, False),
        (ConnectionRefusedError(111, "Connection refused"), UfsUnreachableError, True),
        (TimeoutError("timed out"), UfsUnreachableError, True),
    ],
)
def test_what_errors_mean(error: Exception, expected: type[Exception], transient: bool) -> None:
    translated = Classifier("s3://bucket", "http://host", ()).translated(error, "some/key")
    assert type(translated) is expected
    assert is_transient(translated) is transient
    assert "s3://bucket/some/key" in str(translated)


def test_secrets_are_scrubbed_in_every_form() -> None:
    classifier = Classifier("s3://bucket", "http://host", ("abc/def+ghi=",))
    text = classifier.scrub(
        "key abc/def+ghi= or abc%2Fdef%2Bghi%3D or abc/def%2Bghi%3D; ?sv=1&sig=q1w2e3&x=1\n\nDebug source"
    )
    assert "def" not in text
    assert "q1w2e3" not in text
    assert "Debug" not in text
