"""The engine gives requests in the background steps of their own only after a moment of quiet."""

from __future__ import annotations

import math

import pytest

from glmserve.config import SchedulerConfig, report_nothing
from glmserve.engine import Engine, SchedulingAttributes
from glmserve.engine import step_pipeline as pipeline
from glmserve.executor import InlineExecutor
from glmserve.request import SamplingParams
from support.fakes import FakeRunner
from support.waiting import until

BACKGROUND = SchedulingAttributes(in_background=True)
PARAMS = SamplingParams(max_tokens=5)


async def test_a_moment_of_quiet_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    engine = Engine(InlineExecutor(lambda _: runner), SchedulerConfig(), hash_key=b"key")
    await engine.start(report_nothing)
    monkeypatch.setattr(pipeline, "_QUIET_SECONDS", math.inf)  # until the test says so
    first = engine.submit([7, 8], PARAMS)
    batch = engine.submit([1, 2, 3], PARAMS, BACKGROUND)
    await until(lambda: first.request.status.is_finished)
    second = engine.submit([4, 5, 6], PARAMS)
    await until(lambda: second.request.status.is_finished)
    assert not batch.request.num_output_tokens
    monkeypatch.setattr(pipeline, "_QUIET_SECONDS", 0.0)
    engine.submit([4, 5], PARAMS)
    await until(lambda: batch.request.status.is_finished)
    assert batch.request.num_output_tokens == 5
    await engine.close()
