"""What the board shows of the blocks: holders, shared prefixes, hits and evictions."""

from __future__ import annotations

from glmserve.cache import BlockManager
from glmserve.request import Request, SamplingParams

SIZE = 4
PROMPT = [*range(10)]  # two full blocks and a half


def manager(num_blocks: int) -> BlockManager:
    return BlockManager(num_blocks, SIZE, prefix_cache=True, hash_key=b"key")


def begin(blocks: BlockManager, number: int, prompt: list[int]) -> Request:
    """A request that holds blocks, and whose prompt is computed."""
    request = Request(number, prompt, SamplingParams(max_tokens=1))
    blocks.allocate(request, blocks.match_prefix(request))
    request.num_computed_tokens = len(prompt)
    blocks.cache_computed(request, len(prompt))
    return request


def test_holders_and_what_they_share() -> None:
    blocks = manager(8)
    first, second = begin(blocks, 1, PROMPT), begin(blocks, 2, PROMPT)
    other = begin(blocks, 3, [9, 8, 7])
    held = blocks.block_map(8)
    assert held.owners[:5] == [2, 2, 1, 2, 3]
    assert held.owners[5:] == [-1, -1, -1]
    assert held.shared == [0, 1]
    roots = dict(held.roots)
    assert roots[1] == roots[2] != roots[3]
    for request in (first, second, other):
        blocks.free(request)
    after = blocks.block_map(8)
    assert after.owners == [-2, -2, -1, -1, -1, -1, -1, -1]
    assert (after.shared, after.roots) == ([], [])


def test_of_a_large_cache_every_nth_block_is_shown() -> None:
    blocks = manager(9)
    begin(blocks, 1, PROMPT)
    begin(blocks, 2, PROMPT)
    held = blocks.block_map(4)  # blocks 0, 3 and 6
    assert held.owners == [2, 2, -1]
    assert held.shared == [0]


def test_hits_and_evictions_are_told() -> None:
    blocks = manager(3)
    hits: list[int] = []
    evictions: list[int] = []
    blocks.pool.on_hit.append(hits.append)
    blocks.pool.on_eviction.append(evictions.append)
    blocks.free(begin(blocks, 1, PROMPT))
    assert (hits, evictions, blocks.pool.num_evictions) == ([], [], 0)
    blocks.free(begin(blocks, 2, PROMPT))
    assert (hits, evictions) == ([0, 1], [])
    blocks.free(begin(blocks, 3, [*range(50, 60)]))
    assert sorted(evictions) == [0, 1]
    assert blocks.pool.num_evictions == 2
    blocks.forget_contents()  # a new runner: nothing was taken for new tokens
    assert blocks.pool.num_evictions == 2
