"""Bounds on what is asked of one store: requests at once, bytes per second, and what a mount's options say."""

import threading

import pytest

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import MIB
from isotach.ufs.limits import LimitedUnderStorage
from isotach.ufs.local import LocalUnderStorage
from isotach.ufs.pace import Pace
from isotach.ufs.uri import Scheme, parse_limits, parse_options


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pace_of(rate: int, clock: Clock, outer: Pace | None = None) -> Pace:
    return Pace(rate, outer, monotonic_s=clock, sleep=clock.sleep)


class GatedStorage(LocalUnderStorage):
    """Counts the reads under way, which wait for `gate`."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    def read_range(self, path, offset, length, fingerprint=None):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        assert self.gate.wait(10)
        try:
            return super().read_range(path, offset, length, fingerprint)
        finally:
            with self.lock:
                self.under_way -= 1


def test_no_more_requests_at_once_than_allowed(tmp_path, eventually):
    (tmp_path / "f").write_bytes(b"x" * 100)
    inner = GatedStorage(str(tmp_path))
    limited = LimitedUnderStorage(inner, 3, Pace(0))
    threads = [threading.Thread(target=limited.read_range, args=("f", 0, 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: inner.under_way == 3)
    inner.gate.set()
    for thread in threads:
        thread.join(10)
    assert inner.most == 3


def test_reads_and_writes_keep_to_the_bandwidth(tmp_path):
    clock = Clock()
    limited = LimitedUnderStorage(LocalUnderStorage(str(tmp_path)), 4, pace_of(MIB, clock))
    writer = limited.open_write("f")
    for _ in range(10):
        writer.write(b"x" * MIB)
    writer.commit()
    written_s = clock.now
    assert written_s == pytest.approx(9, abs=0.2)
    reader = limited.open_range("f", 0, 10 * MIB)
    view = memoryview(bytearray(MIB))
    while reader.read_into(view):
        pass
    reader.close()
    reader.close()
    assert clock.now - written_s == pytest.approx(10, abs=0.2)
    limited.read_range("f", 0, 5 * MIB)
    limited.read_range("f", 0, 1)
    assert clock.now - written_s == pytest.approx(16, abs=0.2)  # the debt of the last piece is paid, too


def test_the_narrower_of_two_paces_counts():
    clock = Clock()
    worker = pace_of(10, clock)
    mounts = [pace_of(100, clock, worker), pace_of(5, clock, worker)]
    mounts[0].pay(100)
    mounts[0].pay(1)
    assert clock.now == pytest.approx(10, abs=0.5)
    mounts[1].pay(100)
    began = clock.now
    mounts[1].pay(1)
    assert clock.now - began == pytest.approx(20, abs=0.5)
    assert worker.is_limited
    assert not Pace(0).is_limited


def test_an_open_range_that_fails_gives_its_place_back(tmp_path):
    limited = LimitedUnderStorage(LocalUnderStorage(str(tmp_path)), 1, Pace(0))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            limited.open_range("none", 0, 1)


def test_a_mount_says_its_limits():
    limits = parse_limits(parse_options(Scheme.S3, {"bandwidth": "100MiB", "requests": "7"}))
    assert (limits.bandwidth, limits.requests) == (100 * MIB, 7)
    assert parse_limits({}).requests == 0


@pytest.mark.parametrize("options", [{"requests": "many"}, {"requests": "1000000"}, {"bandwidth": "fast"}])
def test_limits_that_are_none_are_refused(options):
    with pytest.raises(InvalidArgumentError):
        parse_options(Scheme.FILE, options)
