"""What really lies in an under storage of a soak, by the path that the namespace has for it.

Owns: reading a local folder and an S3 bucket by plain means, not through our drivers. Never: changes them.
"""

import os
from pathlib import Path

import boto3

from isotach.testing.seaweed import SeaweedServer


def local_files(folder: Path, root: str) -> dict[str, bytes]:
    """Every file below `folder`."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            found[f"{root}/{path.relative_to(folder)}"] = path.read_bytes()
    return found


def s3_files(server: SeaweedServer, bucket: str, root: str) -> dict[str, bytes]:
    """Every object of the bucket but the markers of directories."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for row in page.get("Contents", []):
            if not row["Key"].endswith("/"):
                body = client.get_object(Bucket=bucket, Key=row["Key"])["Body"]
                found[f"{root}/{row['Key']}"] = body.read()
    return found
