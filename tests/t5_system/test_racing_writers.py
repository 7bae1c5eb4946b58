"""Two writers of one path: whoever is last wins, and the worker keeps what the namespace names.

Owns: races of writers that end in an acknowledged file, looked at after the worker started anew. Never: checks rules of
the namespace alone (`t1_pure/namespace` does).
"""

import os
import signal

import pytest

import isotach


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "ASYNC_THROUGH"])
def test_a_new_path_that_two_made_at_once_outlives_its_worker(start, eventually, write_type):
    cluster = start(master__persist_retry_initial="1h")
    with isotach.connect(cluster.address) as fs:
        first = fs.open("/f", "wb", write_type=write_type)
        second = fs.open("/f", "wb", write_type=write_type)
        first.write(b"of the first" * 1000)
        second.write(b"of the second" * 1000)
        first.close()
        second.close()
        before = cluster.worker_pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda: cluster.worker_pid not in (-1, before) and fs.workers()[0].live, timeout=20)

        eventually(lambda: not fs.stat("/f").lost and fs.stat("/f").cached_percent == 100, timeout=20)
        assert fs.read("/f") == b"of the second" * 1000
