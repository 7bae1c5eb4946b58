"""The block store against a dict: whatever happens, what it says is present are the right bytes."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isotach.base.limits import FOLDER_CHECK_S, MIB, PAGE_BYTES
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.pages import page_count
from isotach.blockstore.store import BlockStore
from isotach.blockstore.tier import Watermarks
from isotach.conf.kinds import TierSpec

from .conftest import content, meta_of

LENGTHS = {1: 100, 2: PAGE_BYTES, 3: 2 * PAGE_BYTES + 7, 4: 4 * PAGE_BYTES, 5: 5 * PAGE_BYTES + 1}
versions = st.sampled_from(sorted(LENGTHS))


class BlockStoreMachine(RuleBasedStateMachine):
    """Versions have fixed contents. The model keeps what must be there: dirty and pinned versions."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(prefix="isotach-model-"))
        self.specs = [
            TierSpec("MEM", self.folder / "mem", 6 * MIB),
            TierSpec("SSD", self.folder / "ssd", 5 * MIB),
            TierSpec("SSD", self.folder / "ssd2", 7 * MIB),
            TierSpec("HDD", self.folder / "hdd", 8 * MIB),
        ]
        self.now_s = 0.0
        self.open()
        self.dirty: set[int] = set()
        #: Dirty versions of the folder that is away: they come back with it.
        self.away: set[int] = set()
        self.away_folder: Path | None = None
        self.held: list[tuple[int, int]] = []

    def open(self):
        self.store = BlockStore(self.specs, marks=Watermarks(0.7, 0.4))
        self.store.mover._monotonic_s = lambda: self.now_s
        self.store.mover._checked_s = self.now_s

    @rule(seconds=st.sampled_from([0, 1]))
    def move_in_the_background(self, seconds):
        self.now_s += seconds
        self.store.mover.run_once()

    @rule(version=versions, pinned=st.booleans(), tier=st.sampled_from(["", "MEM", "SSD", "HDD", "NVME"]))
    def pin(self, version, pinned, tier):
        self.store.set_pinned(version, pinned, tier)

    @precondition(lambda self: self.away_folder is None)
    @rule(name=st.sampled_from(["ssd", "ssd2", "hdd"]))
    def a_folder_goes(self, name):
        self.away_folder = self.folder / name
        here = {version: self.store.get(version).folder.path for version in self.store.versions()}
        self.away = {version for version in self.dirty if here[version] == self.away_folder}
        self.dirty -= self.away
        self.away_folder.rename(self.folder / "away")
        self.check_folders()

    @precondition(lambda self: self.away_folder is not None)
    @rule()
    def it_comes_back(self):
        (self.folder / "away").rename(self.away_folder)
        self.away_folder = None
        self.check_folders()
        for version in self.away:
            entry = self.store.get(version)
            assert entry is not None
            if entry.dirty:
                self.dirty.add(version)
        self.away = set()

    def check_folders(self):
        self.now_s += FOLDER_CHECK_S
        self.store._service.check()

    @rule(version=versions, first=st.integers(0, 5), pages=st.integers(1, 6))
    def fill(self, version, first, pages):
        length = LENGTHS[version]
        if first >= page_count(length):
            return
        data = content(version, length)[first * PAGE_BYTES : (first + pages) * PAGE_BYTES]
        kept = self.store.fill(meta_of(version, length), first, data)
        if kept:
            assert self.store.get(version).has(first, min(page_count(length), first + pages))

    @rule(version=versions, step=st.sampled_from([1000, PAGE_BYTES, 3 * PAGE_BYTES]), dirty=st.booleans())
    def write(self, version, step, dirty):
        length = LENGTHS[version]
        data = content(version, length)
        draft = None
        try:
            draft = self.store.begin_write(meta_of(version, 0))
            for at in range(0, length, max(step, length // 50)):
                draft.write(at, data[at : at + max(step, length // 50)])
            draft.seal(length, dirty=dirty)
        except TierFullError:
            if draft is not None:
                draft.abort()
            return
        self.dirty.discard(version)
        if dirty:
            self.dirty.add(version)

    @rule(version=versions)
    def mark_persisted(self, version):
        self.store.mark_persisted(version, "etag")
        self.dirty.discard(version)

    @rule(version=versions, force=st.booleans())
    def free(self, version, force):
        gone = self.store.free(version, force)
        assert gone == (force or version not in self.dirty)
        if gone:
            self.dirty.discard(version)

    @rule(version=versions)
    def hold(self, version):
        entry = self.store.get(version)
        if entry is not None and entry.complete:
            self.held.append((version, self.store.open_container(entry)))

    @rule()
    def let_go(self):
        while self.held:
            version, descriptor = self.held.pop()
            assert os.pread(descriptor, 1 << 24, 0) == content(version, LENGTHS[version])
            os.close(descriptor)

    @rule(version=versions)
    def promote(self, version):
        self.store.touch(version)
        self.store.promote(version)

    @precondition(lambda self: self.away_folder is None)
    @rule()
    def restart(self):
        self.store.close()
        self.open()

    @invariant()
    def what_is_present_is_right(self):
        for version in self.store.versions():
            entry = self.store.get(version)
            length = LENGTHS[version]
            self.store.verify(entry)
            descriptor = self.store.open_for_sending(entry)
            pages = self.store.pages_of(entry)
            for first, stop in pages.present_runs(0, len(pages)):
                wanted = content(version, length)[first * PAGE_BYTES : stop * PAGE_BYTES]
                assert os.pread(descriptor, len(wanted) + 1, first * PAGE_BYTES)[: len(wanted)] == wanted
            os.close(descriptor)
        assert self.store.checksum_errors == 0

    @invariant()
    def what_must_stay_is_there(self):
        for version in self.dirty:
            assert self.store.get(version).complete
            assert self.store.get(version).dirty

    @invariant()
    def the_count_is_exact(self):
        for tier in self.store.tiers():
            entries = [self.store.get(version) for version in self.store.versions()]
            assert tier.used_bytes == sum(each.allocated_all() for each in entries if each.tier.alias == tier.alias)
            assert tier.used_bytes <= tier.capacity_bytes
        folders = [spec.path for spec in self.specs if spec.path != self.away_folder]
        names = sorted(name for folder in folders for name in os.listdir(folder / "containers"))
        assert names == sorted(f"{version:016x}" for version in self.store.versions())
        for folder in (folder for tier in self.store._shelves.tiers for folder in tier.folders):
            assert folder.unwritten_bytes == 0
            assert not self.store._shelves.arriving

    def teardown(self):
        if hasattr(self, "store"):
            self.let_go()
            self.store.close()
            shutil.rmtree(self.folder)


TestBlockStoreModel = BlockStoreMachine.TestCase
TestBlockStoreModel.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
