"""Warming a cluster of three workers from S3, against rclone copying the same objects into memory.

Owns: one row of the table, and how the two commands are run. Never: installs rclone; it says where to get it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import isotach
from isotach.base.limits import MIB
from isotach.bench.cold import MOUNT, fill_store, mount_in
from isotach.bench.context import BenchContext, S3Access
from isotach.bench.measure import median_pair
from isotach.bench.result import Judged, Row

_WORKERS: Final = 3
_TRANSFERS: Final = 16
_REPEATS: Final = 2
_FOLDER: Final = "load"
_TIMEOUT_S: Final = 900.0


def load(context: BenchContext) -> list[Row]:
    """`isotach fs load` of many small objects, from process start to exit, against `rclone copy`."""
    rclone = shutil.which("rclone")
    if rclone is None:
        raise FileNotFoundError("rclone is not installed; get it with: apt-get install rclone (or brew, dnf)")
    if context.s3 is None:
        raise ValueError("no S3 was given: pass --s3-bucket, and --s3-endpoint for any but Amazon's")
    environment = _rclone_environment(context.s3)
    sizes = context.sizes
    names = [f"{_FOLDER}/{number // 1000:03}/{number:06}" for number in range(sizes.loaded)]
    memory = (2 * sizes.loaded * sizes.small_file_bytes // _WORKERS // MIB + 256) * MIB  # they need not share evenly
    with (
        context.own_cluster("load", mem=memory, workers=_WORKERS) as cluster,
        isotach.connect(cluster.address) as fs,
        mount_in(fs, context.s3) as store,
        context.tmpfs_folder() as folder,
    ):
        fill_store(store, names, sizes.small_file_bytes)
        path, target = f"{MOUNT}/{_FOLDER}", folder / "copied"
        ours = [_isotach(), "--address", cluster.address, "fs", "load", path]
        theirs = [rclone, "copy", f"bench:{context.s3.bucket}/{context.s3.prefix}/{_FOLDER}", str(target)]
        theirs += ["--transfers", str(_TRANSFERS), "--quiet"]
        mine, other = median_pair(
            lambda: _run(ours, dict(os.environ)),
            lambda: _run(theirs, environment),
            _REPEATS,
            before_ours=lambda: fs.free(path),
            before_theirs=lambda: shutil.rmtree(target, ignore_errors=True),
        )
        cold = [
            name for name in names[:: max(len(names) // 200, 1)] if fs.stat(f"{MOUNT}/{name}").cached_percent != 100
        ]
        copied = sum(1 for entry in target.rglob("*") if entry.is_file())
        if cold or copied != len(names):
            raise AssertionError(f"{len(cold)} of 200 files were not loaded, rclone copied {copied} of {len(names)}")
    row = Row(
        work=f"load of {len(names):,} objects of {sizes.small_file_bytes // 1000} KB, {_WORKERS} workers",
        unit="objects/s", isotach=len(names) / mine, baseline=len(names) / other,
        against=f"rclone copy, {_TRANSFERS} transfers", judged=Judged.RATIO, target=2,
    )  # fmt: skip
    return [row]


def _isotach() -> str:
    beside = Path(sys.executable).with_name("isotach")
    return str(beside) if beside.exists() else "isotach"


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def _rclone_environment(s3: S3Access) -> dict[str, str]:
    """A remote called `bench`, without a configuration file; what was meant for Amazon's own tools is left out."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    told = {
        "TYPE": "s3",
        "PROVIDER": "Other" if s3.endpoint else "AWS",
        "ENDPOINT": s3.endpoint or "",
        "ACCESS_KEY_ID": s3.access_key_id,
        "SECRET_ACCESS_KEY": s3.secret_access_key,
        "REGION": s3.region,
    }
    return (
        inherited | {"RCLONE_CONFIG": os.devnull} | {f"RCLONE_CONFIG_BENCH_{key}": value for key, value in told.items()}
    )
