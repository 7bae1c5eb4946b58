"""Each policy against the plainest statement of its rule, on the same reads through a small cache."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.eviction import make

CAPACITY = 100
READS = st.lists(st.integers(0, 24), max_size=250)
SIZES = st.lists(st.integers(1, 30), min_size=25, max_size=25)


class LruModel:
    def __init__(self, capacity):
        self.order = []

    def added(self, version, size):
        self.order.append(version)

    def touched(self, version):
        self.order.remove(version)
        self.order.append(version)

    def victim(self):
        return self.order.pop(0)


class LrfuModel:
    """Every weight computed anew at each look."""

    def __init__(self, capacity):
        self.weights, self.now = {}, 0

    def added(self, version, size):
        self.weights[version] = {self.now}
        self.now += 1

    def touched(self, version):
        self.weights[version].add(self.now)
        self.now += 1

    def victim(self):
        def weight(version):
            return sum(0.5 ** (0.25 * (self.now - use)) for use in self.weights[version])

        found = min(self.weights, key=weight)
        del self.weights[found]
        return found


class SieveModel:
    """A list with the newest in front, a set of marks, and the hand: the version that it points to."""

    def __init__(self, capacity):
        self.queue, self.marked, self.hand = [], set(), None

    def added(self, version, size):
        self.queue.insert(0, version)

    def touched(self, version):
        self.marked.add(version)

    def victim(self):
        at = self.queue.index(self.hand) if self.hand is not None else len(self.queue) - 1
        while self.queue[at] in self.marked:
            self.marked.discard(self.queue[at])
            at = at - 1 if at else len(self.queue) - 1
        found = self.queue.pop(at)
        self.hand = self.queue[at - 1] if at else None
        return found


class S3FifoModel:
    """Three lists and a dict of counters, oldest first."""

    def __init__(self, capacity):
        self.small, self.main, self.ghosts, self.uses, self.sizes = [], [], [], {}, {}
        self.small_limit = capacity // 10
        self.main_limit = capacity - self.small_limit
        self.evicted_any = False

    def added(self, version, size):
        self.sizes[version], self.uses[version] = size, 0
        fills = not self.evicted_any and self.bytes_of(self.small) >= self.small_limit
        if version in self.ghosts:
            self.ghosts.remove(version)
            self.main.append(version)
        else:
            (self.main if fills else self.small).append(version)

    def touched(self, version):
        self.uses[version] = min(self.uses[version] + 1, 3)

    def victim(self):
        self.evicted_any = True
        while True:
            if self.bytes_of(self.main) > self.main_limit or not self.small:
                version = self.main.pop(0)
                if not self.uses[version]:
                    return version
                self.uses[version] -= 1
                self.main.append(version)
                continue
            version = self.small.pop(0)
            if self.uses[version] < 2:
                self.ghosts.append(version)
                while self.bytes_of(self.ghosts) > self.main_limit:
                    self.ghosts.pop(0)
                return version
            self.uses[version] = 0
            self.main.append(version)

    def bytes_of(self, queue):
        return sum(self.sizes[version] for version in queue)


def compare(name, model, reads, sizes):
    policy, here = make(name, CAPACITY), {}
    for version in reads:
        if version in here:
            policy.touched(version)
            model.touched(version)
            continue
        while sum(here.values()) + sizes[version] > CAPACITY:
            victim = next(policy.candidates())
            assert victim == model.victim()
            policy.evicted(victim)
            del here[victim]
        here[version] = sizes[version]
        policy.added(version, sizes[version])
        model.added(version, sizes[version])


@given(READS, SIZES)
def test_lru(reads, sizes):
    compare("LRU", LruModel(CAPACITY), reads, sizes)


@given(READS, SIZES)
def test_lrfu(reads, sizes):
    compare("LRFU", LrfuModel(CAPACITY), reads, sizes)


@given(READS, SIZES)
def test_sieve(reads, sizes):
    compare("SIEVE", SieveModel(CAPACITY), reads, sizes)


@given(READS, SIZES)
def test_s3fifo(reads, sizes):
    compare("S3FIFO", S3FifoModel(CAPACITY), reads, sizes)
