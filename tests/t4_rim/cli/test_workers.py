"""`isotach worker list` and `decommission`, and the files that are lost, on a terminal's or a pipe's terms."""

import pytest


@pytest.fixture
def worker(real_fs):
    """The only worker; it stays, whatever a test told it."""
    worker_id = real_fs.workers()[0].worker_id
    yield worker_id
    real_fs.decommission(worker_id, cancel=True)


def test_the_workers_are_listed(cli, real_fs, worker):
    known = real_fs.workers()[0]
    row = cli("worker", "list").rows[0]
    assert row[:4] == [worker, "LIVE", known.host, known.address]
    assert row[4] == f"node={known.host}"
    listed = cli("worker", "list", "--json").json_lines[0]
    assert (listed["worker_id"], listed["state"], listed["tiers"][0]["alias"]) == (worker, "LIVE", "MEM")


def test_a_worker_that_cannot_leave_says_why_and_may_stay(cli, real_fs, folder, worker, eventually):
    real_fs.write(f"{folder}/only-here", b"12345", write_type="MUST_CACHE")
    row = cli("worker", "decommission", worker).rows[0]
    assert row[:2] == [worker, "DECOMMISSIONING"]
    assert int(row[3]) >= 1
    assert int(row[4]) >= 5

    def problem() -> str:
        return cli("worker", "decommission", real_fs.workers()[0].host, "--json").json["workers"][0]["problem"]

    eventually(lambda: "start more workers" in problem())
    assert cli("worker", "list").rows[0][1] == "DECOMMISSIONING"
    assert f"worker\t{worker}\tdecommissioning" in cli("status").out
    assert real_fs.read(f"{folder}/only-here") == b"12345"
    assert cli("worker", "decommission", worker, "--cancel").rows[0][1] == "LIVE"
    assert real_fs.write(f"{folder}/new", b"new", write_type="MUST_CACHE") == 3


def test_a_worker_that_nobody_knows(cli, worker):
    result = cli("worker", "decommission", "nobody", "--json")
    assert result.code == 2
    assert worker in result.error["message"]


def test_nothing_is_lost_here(cli, real_fs, folder):
    real_fs.write(f"{folder}/f", b"x", write_type="MUST_CACHE")
    result = cli("fs", "ls", "--lost", "-R", folder)
    assert (result.code, result.out) == (0, "")
    assert cli("fs", "ls", "--lost", f"{folder}/none").code == 3
