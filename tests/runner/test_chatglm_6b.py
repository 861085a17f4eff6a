"""ChatGLM-6B under the scheduler: prompts that are computed whole, and again after preemption."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.config import RunnerConfig, SchedulerConfig, report_nothing
from glmserve.devices.cpu import CpuDevice
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from support.golden import read_greedy


@pytest.mark.parametrize("kv_cache_tokens", [96, 128, 1024])
def test_greedy_text_where_blocks_run_out(golden_models: Path, kv_cache_tokens: int) -> None:
    """A preempted request's context is read in both directions again, what follows is not."""
    prompts, want = read_greedy(golden_models / "glm1_base")
    config = RunnerConfig(
        checkpoint=str(golden_models / "glm1_base"),
        dtype="float32",
        threads=1,
        block_size=8,
        kv_cache_tokens=kv_cache_tokens,
    )
    runner = CpuDevice().create_runner(config, report_nothing)
    scheduler = Scheduler(SchedulerConfig(), runner.info.limits, hash_key=b"key")
    params = SamplingParams(max_tokens=24)
    requests = [Request(i, prompt, params) for i, prompt in enumerate(prompts)]
    for request in requests:
        scheduler.add(request)
    while (step := scheduler.schedule()) is not None:
        scheduler.update(runner.execute(step))
    outputs = [request.token_ids[request.num_prompt_tokens :].tolist() for request in requests]
    assert outputs == want
    assert (scheduler.stats.preemptions > 0) == (kv_cache_tokens < 1024)
