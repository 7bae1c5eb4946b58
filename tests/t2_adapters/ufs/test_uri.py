"""URIs and options of under storages: what is taken, what is refused, and that secrets never show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.ufs.uri import MASK, OPTIONS, Scheme, mask_options, parse_options, parse_uri


@pytest.mark.parametrize(
    ("uri", "scheme", "bucket", "prefix", "canonical"),
    [
        ("/data/x/", Scheme.FILE, "", "/data/x", "file:///data/x"),
        ("/", Scheme.FILE, "", "/", "file:///"),
        ("file:///data//x", Scheme.FILE, "", "/data/x", "file:///data/x"),
        ("s3://bucket", Scheme.S3, "bucket", "", "s3://bucket"),
        ("s3a://bucket/a/b/", Scheme.S3, "bucket", "a/b", "s3://bucket/a/b"),
        ("S3N://bucket/a%20b", Scheme.S3, "bucket", "a%20b", "s3://bucket/a%20b"),
        ("gs://bucket/p", Scheme.GS, "bucket", "p", "gs://bucket/p"),
        ("az://container/p", Scheme.AZ, "container", "p", "az://container/p"),
        ("abfss://box@acc.dfs.core.windows.net/p", Scheme.AZ, "box", "p", "az://box/p"),
    ],
)
def test_good_uris(uri: str, scheme: Scheme, bucket: str, prefix: str, canonical: str) -> None:
    location = parse_uri(uri)
    assert (location.scheme, location.bucket, location.prefix, location.uri) == (scheme, bucket, prefix, canonical)


def test_abfs_names_its_account() -> None:
    assert parse_uri("abfs://box@acc.dfs.core.windows.net/p").account == "acc"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s4://bucket", "did you mean 's3'"),
        ("hdfs://host/x", "Supported: file, s3"),
        ("relative/path", "write an absolute path"),
        ("file://relative", "three slashes"),
        ("s3://", "no valid bucket"),
        ("s3:///key", "no valid bucket"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/../b", "'..'"),
        ("file:///a/../b", "'..'"),
        ("s3://KEY:SECRET@bucket/x", "give them as options"),
        ("s3://bucket:80/x", "no valid bucket"),
    ],
)
def test_bad_uris(uri: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_uri(uri)
    assert text in str(caught.value)
    assert "SECRET" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        location = parse_uri(text)
    except InvalidArgumentError:
        return
    assert parse_uri(location.uri).uri == location.uri


def test_options_get_canonical_names() -> None:
    given_options = {
        "s3a.accessKeyId": "AK",
        "aws_secret_access_key": "SK",
        "endpoint_url": "http://h",
        "path_style": "YES",
    }
    assert parse_options(Scheme.S3, given_options) == {
        "access_key_id": "AK", "secret_access_key": "SK", "endpoint": "http://h", "path_style": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "options", "text"),
    [
        (Scheme.S3, {"acess_key_id": "x"}, "did you mean 'access_key_id'"),
        (Scheme.S3, {"anonymous": "maybe"}, "true or false"),
        (Scheme.S3, {"access_key": "a", "access_key_id": "b"}, "given twice"),
        (Scheme.FILE, {"endpoint": "x"}, "Supported: bandwidth, requests"),
    ],
)
def test_bad_options(scheme: Scheme, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        parse_options(scheme, options)


def test_every_secret_is_masked_under_every_name() -> None:
    for specs in OPTIONS.values():
        for spec in specs:
            for name in (spec.name, *spec.aliases):
                masked = mask_options({name: "value"})[name]
                assert masked == (MASK if spec.secret else "value"), name
    assert mask_options({"some.password": "x"}) == {"some.password": MASK}
