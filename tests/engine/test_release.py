"""The KV cache's memory after a time without requests."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.errors import OptionError
from glmserve.executor import Executor, InlineExecutor
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from support.fakes import LIMITS, FakeRunner, expected_output
from support.token_streams import next_tokens
from support.waiting import until
from support.worker_on_thread import WorkerOnThread, drain, serving

PROMPT = list(range(20))
EXECUTORS: dict[str, Callable[[FakeRunner], Executor]] = {
    "worker": WorkerOnThread,
    "inline": lambda runner: InlineExecutor(lambda _: runner),
}


@pytest.mark.parametrize("kind", EXECUTORS)
async def test_it_is_released_once_and_prefixes_are_forgotten(kind: str) -> None:
    """The runner's slots are empty then: a prefix that is still taken from them changes answers."""
    runner = FakeRunner(msgspec.structs.replace(LIMITS, releases_cache=True))
    executor = EXECUTORS[kind](runner)
    async with serving(executor, SchedulerConfig(release_cache_after=0.05)) as engine:
        for turn in range(3):
            await until(lambda turn=turn: runner.releases == turn + 1)
            first = engine.submit(PROMPT, SamplingParams(max_tokens=40))
            begun = (await next_tokens(first)).token_ids
            second = engine.submit(PROMPT, SamplingParams(max_tokens=5))
            assert begun + await drain(first) == expected_output(PROMPT, 40)
            assert await drain(second) == expected_output(PROMPT, 5)
            assert first.request.num_cached_tokens == 0
            assert second.request.num_cached_tokens > 0


def test_blocks_that_a_request_holds_are_not_forgotten() -> None:
    scheduler = Scheduler(SchedulerConfig(), LIMITS, hash_key=b"")
    request = Request(0, PROMPT, SamplingParams(max_tokens=1))
    scheduler.add(request)
    assert scheduler.forget_cache()
    assert scheduler.schedule() is not None
    assert not scheduler.forget_cache()


async def test_a_runner_that_cannot_is_refused() -> None:
    executor, config = WorkerOnThread(FakeRunner()), SchedulerConfig(release_cache_after=1.0)
    with pytest.raises(OptionError, match="--release-cache-after cannot be used here"):
        async with serving(executor, config):
            pass
