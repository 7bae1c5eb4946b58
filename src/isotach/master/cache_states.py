"""Sums of what workers hold of one version. Pure.

Owns: how several holders' shares add up. Never: stores them (`locations.py`).
"""

from isotach.base.types import BlockHolder, CacheState


def block_count(length: int, block_size: int) -> int:
    """How many blocks a file of `length` bytes has."""
    return -(-length // block_size) if block_size > 0 else 0


def bytes_of(blocks: int, length: int, block_size: int) -> int:
    """The bytes in a set of blocks (an integer used as a bitmap); the last block may be short."""
    count = block_count(length, block_size)
    blocks &= (1 << count) - 1
    total = blocks.bit_count() * block_size
    if count and blocks >> (count - 1):
        total -= count * block_size - length
    return total


def holds_all(holder: BlockHolder, length: int, block_size: int) -> bool:
    """Whether one worker has every block whole."""
    count = block_count(length, block_size)
    return int.from_bytes(holder.blocks, "little") & ((1 << count) - 1) == (1 << count) - 1


def covers(holders: list[BlockHolder], length: int, block_size: int) -> bool:
    """Whether every block is whole on at least one of the workers."""
    union = 0
    for holder in holders:
        union |= int.from_bytes(holder.blocks, "little")
    return bytes_of(union, length, block_size) >= length


def summarize(holders: list[BlockHolder], length: int, block_size: int) -> CacheState:
    """Each block counted once, at its best tier. Exact for one holder and for whole blocks; a block of which several
    workers hold only parts counts as the largest of the shares."""
    if len(holders) == 1:
        return CacheState(holders[0].memory_bytes, holders[0].cached_bytes, holders)
    union = in_memory = 0
    for holder in holders:
        blocks = int.from_bytes(holder.blocks, "little")
        union |= blocks
        if holder.memory_bytes >= holder.cached_bytes:
            in_memory |= blocks
    largest = max((holder.cached_bytes for holder in holders), default=0)
    largest_memory = max((holder.memory_bytes for holder in holders), default=0)
    cached = min(length, max(largest, bytes_of(union, length, block_size)))
    memory = min(cached, max(largest_memory, bytes_of(in_memory, length, block_size)))
    return CacheState(memory, cached, holders)
