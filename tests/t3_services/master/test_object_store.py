"""Changes that a real S3 server takes part in."""

from collections.abc import Iterator

import boto3
import pytest

from isotach.base.errors import UfsAuthError, UfsBucketMissingError
from isotach.testing.seaweed import SeaweedServer
from isotach.wire import messages as wire


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SeaweedServer]:
    with SeaweedServer.start(tmp_path_factory.mktemp("s3")) as server:
        yield server


def options_of(server: SeaweedServer, **changed: str) -> dict[str, str]:
    options = {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "region": "us-east-1",
    }
    return options | changed


def bucket_of(server: SeaweedServer, name: str):
    server.create_bucket(name)
    client = boto3.resource(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    return client.Bucket(name)


def keys_of(bucket) -> list[str]:
    return sorted(item.key for item in bucket.objects.all() if not item.key.endswith("/"))


def test_renames_and_removals_reach_the_bucket(home, run, server):
    bucket = bucket_of(server, "changes")
    for name in ("t/a", "t/s/b", "t/s/c"):
        bucket.put_object(Key=name, Body=name.encode())

    async def scenario():
        async with home.client() as client:
            await client.call(wire.MOUNT, wire.MountRequest(b"/s3", "s3://changes", options_of(server)))
            assert await client.list(b"/s3/t") == [b"a", b"s"]
            assert (await client.stat(b"/s3/t/s/b")).inode.length == 5
            await client.rename(b"/s3/t/a", b"/s3/t/z")
            before = (await client.stat(b"/s3/t/z")).inode
            assert (await client.stat(b"/s3/t/z", interval_ms=0)).inode.version == before.version
            await client.rename(b"/s3/t", b"/s3/moved")
            assert keys_of(bucket) == ["moved/s/b", "moved/s/c", "moved/z"]
            assert await client.list(b"/s3/moved/s") == [b"b", b"c"]
            await client.remove(b"/s3/moved/z")
            await client.remove(b"/s3/moved", recursive=True)
            assert keys_of(bucket) == []
            mounts = (await client.call(wire.MOUNTS, wire.Empty())).mounts
            assert server.secret_key not in repr(mounts)

    run(scenario)


def test_wrong_keys_and_missing_buckets_are_told_apart(home, run, server):
    bucket_of(server, "there")

    async def scenario():
        async with home.client() as client:
            with pytest.raises(UfsBucketMissingError):
                await client.call(wire.MOUNT, wire.MountRequest(b"/s3", "s3://not-there", options_of(server)))
            wrong = options_of(server, secret_access_key="wrong")
            with pytest.raises(UfsAuthError):
                await client.call(wire.MOUNT, wire.MountRequest(b"/s3", "s3://there", wrong))

    run(scenario)
