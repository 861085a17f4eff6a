"""A prompt in chunks of any size, over blocks in any order."""

from __future__ import annotations

import pytest

from glmserve.conformance.driver import Driver
from glmserve.conformance.kit import Kit, random_tokens
from glmserve.contract.step import Runner


@pytest.mark.parametrize("chunk", [1, 2, 7, 15, 16, 17, 31, 33])
def test_any_chunk_size(kit: Kit, runner: Runner, chunk: int) -> None:
    driver = Driver(runner, seed=chunk)
    text = driver.add(random_tokens(runner, "base", 70, seed=chunk))
    kit.check_text(driver, "base", text, list(driver.sizes(70, chunk)))


def test_chunks_that_end_beside_a_block_s_end(kit: Kit, runner: Runner) -> None:
    size = runner.info.limits.block_size
    longest = min(runner.info.limits.max_context, 400)
    for first in {max(1, size - 1), size, size + 1}:
        if first + 3 > longest:
            continue
        driver = Driver(runner)
        text = driver.add(random_tokens(runner, "base", first + 3, seed=first))
        kit.check_text(driver, "base", text, [*driver.sizes(first, first), 1, 1, 1])


def test_two_texts_that_share_their_first_blocks(kit: Kit, runner: Runner) -> None:
    """As after a hit in the prefix cache: only the first text computes the shared part."""
    limits = runner.info.limits
    shared = 2 * limits.block_size
    if not limits.prefix_cache or shared + 20 > min(limits.max_context, 300):
        pytest.skip("this device's blocks are not shared")
    driver = Driver(runner)
    prefix = random_tokens(runner, "base", shared, seed=1)
    first = driver.add([*prefix, *random_tokens(runner, "base", 9, seed=2)])
    kit.check_text(driver, "base", first, [*driver.sizes(shared + 9, 16)])
    second = driver.add([*prefix, *random_tokens(runner, "base", 12, seed=3)])
    second.blocks[:2] = first.blocks[:2]
    second.computed = shared
    kit.check_text(driver, "base", second, [5, 1, 6])
    first.tokens.append(11)
    first.blocks.append(driver.add([1]).blocks[0])
    kit.check_text(driver, "base", first, [1])
