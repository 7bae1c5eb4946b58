"""Nodes of the kernel: no number comes back while the kernel still knows it for something else."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isotach.fuse.contract import NODE_SHIFT, ROOT_NODE
from isotach.fuse.tree.nodes import EPOCHS, Nodes

_ROOT_ID = 77
_FILES = st.integers(1024, 1027)


def test_the_mounted_directory_is_node_one() -> None:
    nodes = Nodes(_ROOT_ID)
    assert nodes.remember(_ROOT_ID, False) == ROOT_NODE
    assert nodes.file_id(ROOT_NODE) == _ROOT_ID
    assert list(nodes.nodes_of(_ROOT_ID)) == [ROOT_NODE]


def test_a_renewed_file_is_known_by_both_nodes_until_forgotten() -> None:
    nodes = Nodes(_ROOT_ID)
    old = nodes.remember(1024)
    new = nodes.renew(1024)
    assert new != old
    assert nodes.remember(1024) == new
    assert sorted(nodes.nodes_of(1024)) == sorted([old, new])
    assert nodes.file_id(new) == nodes.file_id(old) == 1024
    assert not nodes.forget(old, 1)
    assert nodes.forget(new, 1)
    assert not nodes.is_known(1024)
    assert len(nodes) == 0
    assert nodes.remember(1024) == 1024  # from the beginning again


def test_epochs_go_round_past_nodes_that_are_known() -> None:
    nodes = Nodes(_ROOT_ID)
    first = nodes.remember(1024)
    for _ in range(EPOCHS + 3):
        assert nodes.renew(1024) != first
    assert nodes.renew(1024) >> NODE_SHIFT < EPOCHS


class _Kernel(RuleBasedStateMachine):
    """What the kernel holds, beside what the table believes that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = Nodes(_ROOT_ID)
        self.held: dict[int, int] = {}
        self.current: dict[int, int] = {}

    @rule(file_id=_FILES)
    def lookup(self, file_id: int) -> None:
        node = self.nodes.remember(file_id)
        assert self.nodes.file_id(node) == file_id
        if file_id in self.current:
            assert node == self.current[file_id]
        self.current[file_id] = node
        self.held[node] = self.held.get(node, 0) + 1

    @rule(file_id=_FILES)
    def renew(self, file_id: int) -> None:
        node = self.nodes.renew(file_id)
        assert node not in self.held
        self.current[file_id] = node

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if not self.held:
            return
        node = data.draw(st.sampled_from(sorted(self.held)))
        count = data.draw(st.integers(1, self.held[node]))
        self.held[node] -= count
        if not self.held[node]:
            del self.held[node]
        file_id = self.nodes.file_id(node)
        is_last = not any(self.nodes.file_id(each) == file_id for each in self.held)
        assert self.nodes.forget(node, count) == is_last
        if is_last:
            self.current.pop(file_id, None)

    @invariant()
    def knows_what_is_held(self) -> None:
        assert sorted(self.nodes.all()) == sorted(self.held)
        for file_id in range(1024, 1028):
            known = [node for node in self.held if self.nodes.file_id(node) == file_id]
            assert sorted(self.nodes.nodes_of(file_id)) == sorted(known)


TestKernel = _Kernel.TestCase
TestKernel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
