"""Reference counts, eviction order and the index of cached blocks."""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import integers, sampled_from

from glmserve.cache import BlockPool

NUM_BLOCKS = 6


class BlockPoolMachine(RuleBasedStateMachine):
    """Any order of calls against a model that is obviously right: lists and counters."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.held: list[int] = []
        self.content: dict[bytes, int] = {}

    @precondition(lambda self: self.pool.num_free > 0)
    @rule()
    def take(self) -> None:
        block = self.pool.take()
        assert block not in self.held
        self.held.append(block)
        self.content = {h: b for h, b in self.content.items() if b != block}

    @precondition(lambda self: self.held)
    @rule(index=integers(0, 99))
    def release(self, index: int) -> None:
        self.pool.release(self.held.pop(index % len(self.held)))

    @precondition(lambda self: self.held)
    @rule(index=integers(0, 99), block_hash=sampled_from([b"a", b"b", b"c"]))
    def remember(self, index: int, block_hash: bytes) -> None:
        block = self.held[index % len(self.held)]
        self.pool.remember(block, block_hash)
        if block_hash not in self.content and block not in self.content.values():
            self.content[block_hash] = block

    @rule(block_hash=sampled_from([b"a", b"b", b"c"]))
    def share(self, block_hash: bytes) -> None:
        block = self.pool.find(block_hash)
        assert block == self.content.get(block_hash)
        if block is not None:
            self.pool.share(block)
            self.held.append(block)

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.num_free == NUM_BLOCKS - len(set(self.held))
        for block in range(NUM_BLOCKS):
            assert self.pool.reference_count(block) == self.held.count(block)
            assert self.pool.is_free(block) == (block not in self.held)


TestBlockPool = BlockPoolMachine.TestCase


def test_unknown_content_is_reused_before_cached_content() -> None:
    pool = BlockPool(2)
    cached, other = pool.take(), pool.take()
    pool.remember(cached, b"prefix")
    pool.release(cached)
    pool.release(other)
    assert pool.take() == other
    assert pool.find(b"prefix") == cached


def test_the_least_recently_freed_prefix_is_evicted_first() -> None:
    pool = BlockPool(2)
    first, second = pool.take(), pool.take()
    pool.remember(first, b"first")
    pool.remember(second, b"second")
    pool.release(second)
    pool.release(first)
    pool.take()
    assert pool.find(b"second") is None
    assert pool.find(b"first") == first
