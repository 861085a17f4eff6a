"""A runner's life: closed, opened again, killed; and the memory that it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path

import pytest

from glmserve.config import SupervisionConfig, report_nothing
from glmserve.conformance.driver import Driver, generate
from glmserve.conformance.kit import Kit, random_tokens
from glmserve.contract.step import Runner, SamplingInput, ScheduledSequence, StepInput
from glmserve.errors import OptionError
from glmserve.executor import ProcessExecutor

_STATM = Path("/proc/self/statm")
"""Sizes of this process in pages; see proc(5)."""


def text_of(runner: Runner) -> list[int]:
    driver = Driver(runner)
    texts = [driver.add(random_tokens(runner, "base", 11, seed=5), 16)]
    return generate(driver, texts, 12, 10_000, lambda _: SamplingInput())[0]


def test_a_closed_runner_and_a_new_one(kit: Kit, runner: Runner) -> None:
    other = kit.open()
    assert text_of(other) == text_of(runner)
    other.close()
    with pytest.raises(Exception):  # noqa: B017  # whatever it raises, it does not answer
        text_of(other)
    assert text_of(runner) == text_of(runner)
    again = kit.open()
    assert text_of(again) == text_of(runner)
    again.close()


def test_closing_gives_memory_back(kit: Kit) -> None:
    """Twenty runners with caches of 64 MiB, if the size is not fixed, do not add up.

    On a device with memory of its own, twenty caches that are not freed show as a failure to load.
    """
    if not _STATM.exists():
        pytest.skip("this system does not say how much memory a process has")
    tokens = 64 * 2**20 // _token_bytes(kit)
    before = None
    for _ in range(20):
        runner = _open(kit, tokens)
        text_of(runner)
        runner.close()
        del runner
        gc.collect()
        if before is None:
            before = _resident_bytes()
    assert before is not None
    assert _resident_bytes() - before < 10 * 64 * 2**20


def _open(kit: Kit, cache_tokens: int) -> Runner:
    """A runner with a cache of this size, or of the size that it was compiled for."""
    try:
        return kit.open(kv_cache_tokens=cache_tokens)
    except OptionError:
        return kit.open()


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _token_bytes(kit: Kit) -> int:
    info = kit.runner().info
    return max(1, info.kv_cache_bytes // info.limits.token_capacity)


def test_a_killed_worker_is_replaced(kit: Kit, runner: Runner) -> None:
    """The next worker computes the same token."""
    asyncio.run(_kill_and_replace(kit, runner))


async def _kill_and_replace(kit: Kit, runner: Runner) -> None:
    executor = ProcessExecutor(kit.config(), SupervisionConfig())
    try:
        info = await executor.start(report_nothing)
        assert info.limits == runner.info.limits
        step = _first_step(runner)
        first = (await executor.submit(step)).token_ids
        lost = asyncio.create_task(executor.wait_lost())
        assert executor.worker_pid is not None
        os.kill(executor.worker_pid, signal.SIGKILL)
        await asyncio.wait_for(lost, 60)
        await executor.restart(report_nothing)
        assert (await executor.submit(step)).token_ids == first == text_of(runner)[:1]
    finally:
        await executor.close()


def _first_step(runner: Runner) -> StepInput:
    driver = Driver(runner)
    text = driver.add(random_tokens(runner, "base", 11, seed=5), 16)
    sequence = ScheduledSequence(1, text.tokens, 0, text.block_table, SamplingInput())
    return StepInput(1, [sequence])
