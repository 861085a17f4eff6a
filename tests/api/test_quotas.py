"""What a key may have, and what it is told when that is used up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.answering.quotas import Account, Quotas
from glmserve.config import SchedulerConfig, ServerConfig, Tenant
from glmserve.errors import RateLimitError
from glmserve.request import Request, SamplingParams
from support.fake_server import client_of, serve
from support.fakes import FakeRunner
from support.waiting import let_queue_time_out, until_queued, until_running

BODY = {"model": "fake", "prompt": "abcdef", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
OTHERS = {"Authorization": "Bearer other"}


def config(**limits: Any) -> ServerConfig:
    keys = {"mine": Tenant("limited", **limits), "other": Tenant("free")}
    return ServerConfig(served_model_name="fake", api_keys=keys)


async def ask(client: httpx.AsyncClient, key: str = "mine", **fields: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await client.post("/v1/completions", json=BODY | fields, headers=headers)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("stream", [False, True])
async def test_so_many_at_once_and_no_more(stream: bool) -> None:
    gate = threading.Event()
    gate.set()
    runner = FakeRunner(gate=gate)
    async with serve(runner, config=config(max_requests=2)) as app, client_of(app) as client:
        gate.clear()
        running = [asyncio.create_task(ask(client, stream=stream, n=3)) for _ in range(2)]
        await until_queued(app, 6)
        refused = await ask(client, stream=stream)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "2 requests" in error["message"]
        others = asyncio.create_task(ask(client, "other", stream=stream))
        gate.set()
        assert [r.status_code for r in await asyncio.gather(others, *running)] == [200] * 3
        assert (await ask(client, stream=stream)).status_code == 200


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    gate = threading.Event()
    gate.set()
    runner = FakeRunner(gate=gate)
    async with serve(runner, config=config(max_requests=1)) as app, client_of(app) as client:
        gate.clear()
        leaving = asyncio.create_task(ask(client, stream=True))
        await until_queued(app, 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.set()
        assert (await ask(client)).status_code == 200


async def test_a_request_that_fails_gives_its_place_back() -> None:
    async with serve(config=config(max_requests=1)) as app, client_of(app) as client:
        for fields in ({"max_tokens": 10**6}, {"stop_token_ids": [10**6]}, {"prompt": ""}):
            assert (await ask(client, **fields)).status_code == 400
        assert (await ask(client)).status_code == 200


async def test_tokens_per_minute() -> None:
    clock = Clock()
    async with serve(config=config(tokens_per_minute=20)) as app, client_of(app) as client:
        app.state.context.quotas._clock = clock
        for left in (10, 0):
            answer = await ask(client)
            assert answer.headers["x-ratelimit-limit-tokens"] == "20"
            assert answer.headers["x-ratelimit-remaining-tokens"] == str(left)
        refused = await ask(client)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "18"  # 6 tokens at 20 a minute
        assert "x-should-retry" not in refused.headers
        free = await ask(client, "other")
        assert free.status_code == 200
        assert "x-ratelimit-limit-tokens" not in free.headers
        clock.now = 17.9
        assert (await ask(client)).status_code == 429
        clock.now = 18.1
        assert (await ask(client)).status_code == 200
        longest = await ask(client, prompt="x" * 21)
        assert (longest.status_code, longest.headers["x-should-retry"]) == (429, "false")
        assert "shorten it" in longest.json()["error"]["message"]
        metrics = (await client.get("/metrics", headers=OTHERS)).text
        assert (
            'glmserve_requests_refused_total{code="rate_limit_exceeded",model_name="fake"} 3.0'
            in metrics
        )
        for kind, count in (("prompt", 18.0), ("output", 12.0)):
            name = (
                f'glmserve_tenant_tokens_total{{kind="{kind}",model_name="fake",tenant="limited"}}'
            )
            assert f"{name} {count}" in metrics


async def test_embeddings_count_too() -> None:
    async with serve(config=config(tokens_per_minute=5)) as app, client_of(app) as client:
        headers = {"x-api-key": "mine"}
        for status in (200, 429):
            answer = await client.post(
                "/v1/embeddings", json={"model": "fake", "input": ["ab", "c"]}, headers=headers
            )
            assert answer.status_code == status


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 80), st.integers(0, 50)), max_size=30),
    st.integers(60, 600),
)
def test_no_window_of_time_holds_more_prompts_than_it_may(
    asked: list[tuple[float, int, int]], limit: int
) -> None:
    """A bucket lets through its size at once, and its rate from then on."""
    clock = Clock()
    account = Account(Tenant("x", tokens_per_minute=limit), clock)
    taken: list[tuple[float, int]] = []
    for pause, num_prompt_tokens, num_output_tokens in asked:
        clock.now += pause
        try:
            lease = account.admit(num_prompt_tokens)
        except RateLimitError as error:
            assert error.retry_after is None or error.retry_after > 0
            continue
        request = Request(0, [0] * num_prompt_tokens, SamplingParams(max_tokens=99))
        request.token_ids.extend([0] * num_output_tokens)
        lease.watch([request])
        lease.release()
        lease.release()
        taken.append((clock.now, num_prompt_tokens))
        for first, (begin, _) in enumerate(taken):
            used = sum(tokens for _, tokens in taken[first:])
            assert used <= limit + (clock.now - begin) * limit / 60 + 1e-6


def test_output_counts_while_it_grows() -> None:
    clock = Clock()
    account = Quotas(clock).account(Tenant("x", tokens_per_minute=100))
    assert account is not None
    lease = account.admit(40)
    request = Request(0, [0] * 40, SamplingParams(max_tokens=99))
    lease.watch([request])
    request.token_ids.extend([0] * 70)
    assert account.level == -10
    with pytest.raises(RateLimitError) as caught:
        account.admit(5)
    assert caught.value.retry_after == pytest.approx(9)
    lease.release()
    assert account.level == -10
    clock.now += 60
    assert account.level == 90
    clock.now += 60
    assert account.level == 100


class TestPriorities:
    async def test_a_key_can_make_its_requests_no_more_urgent_than_it_may(self) -> None:
        keys = {"late": Tenant("late", priority=5), "soon": Tenant("soon")}
        settings = ServerConfig(served_model_name="fake", api_keys=keys)
        gate = threading.Event()
        gate.set()
        runner = FakeRunner(gate=gate)
        ended: list[str] = []
        async with (
            serve(runner, SchedulerConfig(max_batch_size=1), settings) as app,
            client_of(app) as client,
        ):
            gate.clear()

            async def note(name: str, key: str, priority: int) -> None:
                assert (await ask(client, key, priority=priority)).status_code == 200
                ended.append(name)

            tasks = []
            for name, key, priority in (
                ("first", "soon", 0),
                ("pushing", "late", -9),
                ("patient", "late", 9),
                ("usual", "soon", 0),
            ):
                tasks.append(asyncio.create_task(note(name, key, priority)))
                await until_queued(app, len(tasks))
            gate.set()
            await asyncio.gather(*tasks)
        assert ended == ["first", "usual", "pushing", "patient"]


class TestPrefixes:
    @pytest.mark.parametrize("shared", [False, True])
    async def test_keys_do_not_learn_what_others_have_asked(self, shared: bool) -> None:
        keys = {"a": Tenant("a"), "b": Tenant("b"), "b2": Tenant("b")}
        settings = ServerConfig("fake", api_keys=keys, shared_prefixes=shared)
        async with serve(config=settings) as app, client_of(app) as client:
            cached = []
            for key in ("a", "a", "b", "b2"):
                usage = (await ask(client, key, prompt="x" * 40)).json()["usage"]
                cached.append(usage["prompt_tokens_details"]["cached_tokens"] > 0)
        assert cached == [False, True, shared, True]

    async def test_a_salt_cannot_pose_as_another_tenants(self) -> None:
        keys = {"a": Tenant("a"), "b": Tenant("ab")}
        settings = ServerConfig("fake", api_keys=keys)
        async with serve(config=settings) as app, client_of(app) as client:
            for key, salt in (("a", "b"), ("b", ""), ("a", "b\0"), ("b", "\0")):
                answer = await ask(client, key, prompt="x" * 40, cache_salt=salt)
                usage = answer.json()["usage"]
                assert usage["prompt_tokens_details"]["cached_tokens"] == 0


class TestQueueTimeout:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_who_waits_too_long_is_told(self, stream: bool) -> None:
        gate = threading.Event()
        gate.set()
        runner = FakeRunner(gate=gate)
        scheduler = SchedulerConfig(max_batch_size=1, queue_timeout=1000)
        async with serve(runner, scheduler) as app, client_of(app) as client:
            gate.clear()
            running = asyncio.create_task(client.post("/v1/completions", json=BODY))
            await until_running(app, 1)
            waiting = asyncio.create_task(
                client.post("/v1/completions", json=BODY | {"stream": stream})
            )
            await until_queued(app, 2)
            let_queue_time_out(app.state.context.engine)
            late = await waiting
            assert (late.status_code, late.headers["retry-after"]) == (503, "1")
            assert late.json()["error"]["code"] == "queue_timeout"
            assert "--queue-timeout 1000 " in late.json()["error"]["message"]
            gate.set()
            assert (await running).status_code == 200
            assert (await client.post("/v1/completions", json=BODY)).status_code == 200
            let_queue_time_out(app.state.context.engine)
            metrics = (await client.get("/metrics")).text
            assert 'glmserve_requests_waiting{model_name="fake"} 0.0' in metrics
            assert 'glmserve_requests_running{model_name="fake"} 0.0' in metrics

    async def test_what_has_begun_may_take_its_time(self) -> None:
        gate = threading.Event()
        gate.set()
        runner = FakeRunner(gate=gate)
        async with (
            serve(runner, SchedulerConfig(queue_timeout=1000)) as app,
            client_of(app) as client,
        ):
            gate.clear()
            fields = BODY | {"n": 3}
            running = asyncio.create_task(client.post("/v1/completions", json=fields))
            await until_running(app, 1)
            let_queue_time_out(app.state.context.engine)
            gate.set()
            assert (await running).status_code == 200
