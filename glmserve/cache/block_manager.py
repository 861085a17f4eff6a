"""Block tables of the running requests, and prefix matching."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import NamedTuple

from glmserve.cache.block_pool import BlockPool
from glmserve.request import Request

_HASH_BYTES = 16


class PrefixMatch(NamedTuple):
    """Cached blocks that hold the beginning of a request, in order."""

    blocks: list[int]
    hashes: list[bytes]


class BlockMap(NamedTuple):
    """The blocks at one moment, for the board."""

    owners: list[int]
    """For each cell, a request that holds its block, by its id; -1: free, -2: free, with a known
    prefix."""
    shared: list[int]
    """Cells of blocks that several requests hold, ascending."""
    roots: list[tuple[int, int]]
    """Each request that holds blocks, and the first of them."""


class BlockManager:
    """Gives each running request a block table and takes it back.

    Full, computed blocks are indexed by a chained hash of everything up to their end,
    so an equal hash means equal tokens from position 0 on, within the same salt. Only full blocks
    are shared and a full block is never written again: sharing needs no copies.

    Args:
        num_blocks: blocks in the KV cache.
        block_size: token slots per block.
        prefix_cache: reuse blocks of earlier requests.
        hash_key: secret of this server, so that no client can construct colliding prompts.
    """

    def __init__(
        self, num_blocks: int, block_size: int, *, prefix_cache: bool, hash_key: bytes
    ) -> None:
        self.pool = BlockPool(num_blocks)
        self.block_size = block_size
        self.shares_prefixes = prefix_cache
        self._hash_key = hash_key
        self._tables: dict[int, array[int]] = {}
        self._hashes: dict[int, list[bytes]] = {}

    def match_prefix(self, request: Request) -> PrefixMatch:
        """Find cached blocks for the request's tokens.

        The last token is never taken from the cache, because computing it yields the logits. A
        request for log-probabilities or hidden states of its prompt has every token computed.
        """
        match = PrefixMatch([], [])
        if not self.shares_prefixes or request.needs_whole_prompt:
            return match
        parent = request.cache_salt
        for index in range((request.num_tokens - 1) // self.block_size):
            parent = self._chain(parent, request, index)
            block = self.pool.find(parent)
            if block is None:
                break
            match.blocks.append(block)
            match.hashes.append(parent)
        return match

    def blocks_needed(self, request: Request, match: PrefixMatch) -> int:
        """Number of free blocks that `allocate` would take, matched free ones included."""
        revived = sum(self.pool.is_free(block) for block in match.blocks)
        return self._blocks_for(request.num_tokens) - len(match.blocks) + revived

    def allocate(self, request: Request, match: PrefixMatch) -> None:
        """Give a request blocks for all of its tokens and mark the matched ones computed.

        The caller must have checked `blocks_needed` against `pool.num_free`.
        """
        for block in match.blocks:
            self.pool.share(block)
        table = array("i", match.blocks)
        for _ in range(self._blocks_for(request.num_tokens) - len(match.blocks)):
            table.append(self.pool.take())
        self._tables[request.id] = table
        self._hashes[request.id] = match.hashes
        request.num_computed_tokens = len(match.blocks) * self.block_size
        request.num_scheduled_tokens = request.num_computed_tokens

    def extend(self, request: Request) -> bool:
        """Make sure that the next token to schedule has a slot; False if no block is free."""
        table = self._tables[request.id]
        if len(table) * self.block_size > request.num_scheduled_tokens:
            return True
        if not self.pool.num_free:
            return False
        table.append(self.pool.take())
        return True

    def extend_for_drafts(self, request: Request, num_drafts: int, reserve: int) -> int:
        """Make room behind the scheduled tokens, as long as more than `reserve` blocks are free.

        Returns:
            Number of drafts that have a slot.
        """
        table = self._tables[request.id]
        end = request.num_scheduled_tokens
        while len(table) * self.block_size < end + num_drafts and self.pool.num_free > reserve:
            table.append(self.pool.take())
        return min(num_drafts, len(table) * self.block_size - end)

    def trim(self, request: Request) -> None:
        """Release the blocks behind the computed tokens, which hold only wrong drafts."""
        table = self._tables[request.id]
        while len(table) > self._blocks_for(request.num_computed_tokens):
            self.pool.release(table.pop())

    def cache_computed(self, request: Request, num_new: int) -> None:
        """Index the blocks that the newest `num_new` computed tokens have filled.

        A block that a step in flight writes is not indexed. So no block is shared that a step
        planned ahead still writes for a request that has just ended.
        """
        if not self.shares_prefixes or request.num_computed_tokens % self.block_size >= num_new:
            return
        hashes = self._hashes[request.id]
        table = self._tables[request.id]
        for index in range(len(hashes), request.num_computed_tokens // self.block_size):
            parent = hashes[-1] if hashes else request.cache_salt
            hashes.append(self._chain(parent, request, index))
            self.pool.remember(table[index], hashes[-1])

    def free(self, request: Request) -> None:
        """Release a request's blocks, in an order in which eviction shortens prefixes.

        Blocks of a request in the background are taken first. So a batch does not push the prefixes
        of other requests out of the cache; what its lines have in common stays while one runs.
        """
        table = self._tables.pop(request.id)
        for block in table if request.in_background else reversed(table):
            self.pool.release(block, reuse_first=request.in_background)
        del self._hashes[request.id]
        request.num_computed_tokens = request.num_scheduled_tokens = 0

    def block_map(self, most: int) -> BlockMap:
        """The requests that hold the blocks.

        Args:
            most: cells of the map; of more blocks, it shows every n-th one.
        """
        every = -(-self.pool.num_blocks // most)
        shown = range(0, self.pool.num_blocks, every)
        owners = [-2 if self.pool.is_known(block) else -1 for block in shown]
        for request_id, table in self._tables.items():
            for block in table:
                if block % every == 0:
                    owners[block // every] = request_id
        shared = [block // every for block in shown if self.pool.reference_count(block) > 1]
        roots = [(request_id, table[0]) for request_id, table in self._tables.items() if table]
        return BlockMap(owners, shared, roots)

    def forget_contents(self) -> None:
        """Empty the prefix cache, because the KV cache has lost its contents.

        No request may hold blocks.
        """
        self.pool.forget_contents()

    def num_held(self, request: Request) -> int:
        """Number of blocks that a running request holds, shared ones included."""
        return len(self._tables[request.id])

    def block_table(self, request: Request) -> bytes:
        """The request's block ids in order, packed native int32, as in StepInput."""
        return self._tables[request.id].tobytes()

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _chain(self, parent: bytes, request: Request, index: int) -> bytes:
        """Hash of one full block and all before it; the first one's parent is the salt."""
        start = index * self.block_size
        role = b"next" if index else b"first"
        digest = blake2b(parent, digest_size=_HASH_BYTES, key=self._hash_key, person=role)
        digest.update(request.token_ids[start : start + self.block_size].tobytes())
        return digest.digest()
