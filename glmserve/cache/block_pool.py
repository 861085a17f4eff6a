"""Block ids, their reference counts, the free list and the index of cached prefixes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class BlockPool:
    """All blocks of the KV cache.

    A block is free (reference count 0, in the free list) or used. A free block may still hold the
    K/V of a known prefix. It stays in the index until the block is taken for new tokens. So freeing
    fills the prefix cache, and taking the least recently freed block evicts from it.

    The free list is an OrderedDict because a prefix hit takes a block from its middle: O(1) there,
    where a deque's remove is linear in the number of blocks.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._references = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self.num_evictions = 0
        """Blocks that lost a prefix because new tokens needed them."""
        self.on_hit: list[Callable[[int], None]] = []
        """Called with each block that a request takes out of the prefix cache."""
        self.on_eviction: list[Callable[[int], None]] = []
        """Called with each block that loses a prefix."""

    @property
    def num_free(self) -> int:
        """Blocks that can be taken now."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks that at least one request holds."""
        return self.num_blocks - len(self._free)

    def reference_count(self, block: int) -> int:
        """Number of requests that hold this block."""
        return self._references[block]

    def take(self) -> int:
        """Hand out the least recently freed block for writing, forgetting what it held.

        The caller must have checked `num_free`.
        """
        block, _ = self._free.popitem(last=False)
        self._references[block] = 1
        self._forget(block)
        return block

    def find(self, block_hash: bytes) -> int | None:
        """The block that holds this prefix, used or free."""
        return self._block_of.get(block_hash)

    def is_free(self, block: int) -> bool:
        """Whether sharing this block would shrink the free list."""
        return self._references[block] == 0

    def is_known(self, block: int) -> bool:
        """Whether the block is in the index."""
        return self._hash_of[block] is not None

    def share(self, block: int) -> None:
        """Add an owner to a block found by hash; it is read-only for all of them."""
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1
        for look in self.on_hit:
            look(block)

    def release(self, block: int, *, reuse_first: bool = False) -> None:
        """Drop one owner. The last one returns the block to the free list, content intact.

        Args:
            reuse_first: it is the next block to be taken, although it may hold a prefix.
        """
        self._references[block] -= 1
        if self._references[block] == 0:
            self._free[block] = None
            if reuse_first or self._hash_of[block] is None:
                self._free.move_to_end(block, last=False)

    def remember(self, block: int, block_hash: bytes) -> None:
        """Index a full, computed block. The first block with a given content keeps the entry."""
        if self._hash_of[block] is None and block_hash not in self._block_of:
            self._hash_of[block] = block_hash
            self._block_of[block_hash] = block

    def forget_contents(self) -> None:
        """Empty the index."""
        self._hash_of = [None] * self.num_blocks
        self._block_of.clear()

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            self._hash_of[block] = None
            del self._block_of[block_hash]
            self.num_evictions += 1
            for look in self.on_eviction:
                look(block)
