"""The requests whose steps are measured, on a runner that only counts."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from glmserve.capacity.measuring import _DECODES, Measuring
from glmserve.config import SchedulerConfig, report_nothing
from glmserve.contract.step import RunnerLimits
from glmserve.engine import Engine
from glmserve.executor import InlineExecutor
from support.fakes import FakeRunner

LIMITS = RunnerLimits(
    num_blocks=6000, block_size=4, max_sequences=16, max_step_tokens=64, max_context=2000
)


def measured(limits: RunnerLimits) -> tuple[FakeRunner, list[str]]:
    """Measure up to 16 decodes. The steps, and the lines that were reported."""
    runner, lines = FakeRunner(limits), list[str]()

    async def run() -> None:
        executor = InlineExecutor(lambda _: runner)
        engine = Engine(executor, SchedulerConfig(prefix_cache=False), hash_key=b"key")
        await engine.start(report_nothing)
        try:
            await Measuring(engine, 250, lines.append).measure()
        finally:
            await engine.close()

    asyncio.run(run())
    return runner, lines


@pytest.mark.parametrize("chunk", [64, 300])
def test_as_many_decode_as_is_said(chunk: int) -> None:
    """Also when the prompts before the last one take many steps each."""
    runner, lines = measured(msgspec.structs.replace(LIMITS, max_step_tokens=chunk))
    found: Counter[tuple[int, int]] = Counter()
    for step in runner.steps:
        if all(len(s.token_ids) == 1 and s.start >= 16 for s in step.sequences):
            found[len(step.sequences), min(s.start for s in step.sequences)] += 1
    said = [line.split(" ms")[0].split() for line in lines if "decodes" in line]
    assert len(said) >= 7
    for batch, *_, context, _ms in said:
        length = int(context.rstrip(":"))
        steps = [n for (rows, start), n in found.items() if rows == int(batch) and start >= length]
        assert sum(steps) >= _DECODES, (batch, length)
