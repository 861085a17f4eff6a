"""The stream of the board: who may read it, what is in it, and when it ends."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import msgspec
import pytest

from glmserve.cache import BlockPool
from glmserve.config import ServerConfig, report_nothing
from glmserve.contract.step import RunnerInfo
from glmserve.engine import StepWatch
from support.fake_server import client_of, serve, tenants
from support.fakes import LIMITS, FakeRunner
from support.live_server import HOST, listening

BODY = {"model": "fake", "prompt": "a secret text", "max_tokens": 20, "temperature": 0}


class Board:
    """A reader on a connection of its own."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.text = ""

    async def next(self) -> dict[str, Any]:
        async for line in self._lines:
            self.text += line
            if line.startswith("data: "):
                return json.loads(line[6:])  # type: ignore[no-any-return]
        raise EOFError


async def until_over(board: Board, num_ended: int) -> list[dict[str, Any]]:
    """All moments until so many requests have ended."""
    moments = [await board.next()]
    while sum(len(moment["ended"]) for moment in moments) < num_ended:
        moments.append(await board.next())
    return moments


async def test_every_request_and_token_is_in_it_and_no_text() -> None:
    async with (
        serve() as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        board = Board(response)
        first = await board.next()
        assert first["num_blocks"] == len(first["blocks"]) == 64
        bodies = [BODY, BODY | {"priority": 3}, BODY | {"prompt": "other"}]
        answers = await asyncio.gather(*(client.post("/v1/completions", json=b) for b in bodies))
        moments = await until_over(board, 3)
        arrived = [facts for moment in moments for facts in moment["arrived"]]
        assert sorted(facts["prompt_tokens"] for facts in arrived) == [5, 13, 13]
        assert sorted(facts["priority"] for facts in arrived) == [0, 0, 3]
        work = [work for moment in moments for work in moment["work"]]
        assert sum(w["decoded"] for w in work) == 3 * 19  # the first tokens follow from the prompts
        assert sum(moment["tokens"] for moment in moments) == 60
        assert sum(w["prefill"] + w["cached"] for w in work) == 31
        assert sum(len(moment["first_tokens"]) for moment in moments) == 3
        assert [e["output_tokens"] for m in moments for e in m["ended"]] == [20, 20, 20]
        for text in ("secret", "other", *(a.json()["choices"][0]["text"] for a in answers)):
            assert text not in board.text


async def test_what_was_preempted_is_computed_again() -> None:
    runner = FakeRunner(msgspec.structs.replace(LIMITS, num_blocks=12))
    async with (
        serve(runner) as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        board = Board(response)
        three = {"prompt": [f"{i} prompt" for i in range(3)]}  # which arrive together
        body = BODY | three | {"max_tokens": 24, "ignore_eos": True}
        await client.post("/v1/completions", json=body)
        moments = await until_over(board, 3)
        assert moments[-1]["stats"]["preemptions"] > 0
        assert sum(w["recomputed"] for m in moments for w in m["work"]) > 0


class SlowRunner(FakeRunner):
    """Whose steps are long enough to be seen one by one."""

    def execute(self, *arguments: Any) -> Any:
        time.sleep(0.01)
        return super().execute(*arguments)


async def test_preempted_requests_are_named_as_long_as_they_wait() -> None:
    runner = SlowRunner(msgspec.structs.replace(LIMITS, num_blocks=12))
    async with (
        serve(runner) as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        board = Board(response)
        three = {"prompt": [f"{i} prompt" for i in range(3)]}  # which arrive together
        body = BODY | three | {"max_tokens": 24, "ignore_eos": True}
        await client.post("/v1/completions", json=body)
        moments = await until_over(board, 3)
        ids = {facts["id"] for moment in moments for facts in moment["arrived"]}
        named = {number for moment in moments for number in moment["preempted"]}
        assert named
        assert named < ids
        assert moments[-1]["preempted"] == []


async def test_phases_and_costs_of_steps_have_times() -> None:
    runner = SlowRunner()
    runner.info = msgspec.structs.replace(runner.info, weight_bytes=1000, kv_cache_bytes=2560)
    async with (
        serve(runner) as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        board = Board(response)
        first = await board.next()
        assert first["weight_bytes"] == 1000
        assert first["token_bytes"] == 2560 / (LIMITS.num_blocks * LIMITS.block_size)
        await client.post("/v1/completions", json=BODY)
        moments = [first, *await until_over(board, 1)]
        costs = [cost for moment in moments for cost in moment["costs"]]
        assert len(costs) == sum(moment["steps"] for moment in moments)
        assert all(seconds >= 0.01 for seconds, _, _ in costs)
        assert sum(rows for _, rows, _ in costs) == 13 + 19  # the last token is never computed
        assert max(context for _, _, context in costs) == 13 + 19
        (facts,) = [facts for moment in moments for facts in moment["arrived"]]
        (ended,) = [ended for moment in moments for ended in moment["ended"]]
        work = [work for moment in moments for work in moment["work"]]
        times = [facts["arrival"], *(w[name] for w in work for name in ("begin", "end"))]
        assert [*times, ended["time"]] == sorted([*times, ended["time"]])
        prompt = [w for w in work if w["prefill"]]
        assert all(w["begin"] < w["prefilled"] <= w["end"] for w in prompt)


async def test_hits_and_evictions_are_places_of_the_map() -> None:
    runner = FakeRunner(msgspec.structs.replace(LIMITS, num_blocks=12))
    async with (
        serve(runner) as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        board = Board(response)
        prompts = ["the same text", "the same text", *(f"{i} another" for i in range(4))]
        for prompt in prompts:
            await client.post("/v1/completions", json=BODY | {"prompt": prompt})
        moments = await until_over(board, len(prompts))
        hits = {cell for moment in moments for cell in moment["hits"]}
        evictions = {cell for moment in moments for cell in moment["evictions"]}
        stats = moments[-1]["stats"]
        assert len(hits) == stats["prefix_hits"] // LIMITS.block_size > 0
        assert 0 < len(evictions) <= stats["evictions"]
        assert hits | evictions <= set(range(12))


async def test_it_costs_nothing_while_nobody_looks() -> None:
    async with serve() as app, client_of(app) as client:
        watch = app.state.context.engine.watch
        watch.stepped = None  # a call would fail
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200
        assert not watch.is_on


async def test_blocks_are_followed_only_while_somebody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools: list[BlockPool] = []
    begin = StepWatch.begin

    def noted(watch: StepWatch, info: RunnerInfo, pool: BlockPool) -> None:
        pools.append(pool)
        begin(watch, info, pool)

    monkeypatch.setattr(StepWatch, "begin", noted)
    async with serve(start=False) as app:
        context = app.state.context
        reader = context.engine.watch.read()
        await anext(reader)  # somebody looks already while the model is loaded
        await context.start(report_nothing)
        (pool,) = pools
        assert (len(pool.on_hit), len(pool.on_eviction)) == (1, 1)
        await reader.aclose()
        assert (pool.on_hit, pool.on_eviction) == ([], [])


async def test_the_last_reader_turns_it_off() -> None:
    async with (
        serve() as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
    ):
        watch = app.state.context.engine.watch
        async with client.stream("GET", "/board/events") as one:
            await Board(one).next()
            async with client.stream("GET", "/board/events") as other:
                await Board(other).next()
            assert watch.is_on
        while watch.is_on:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("config", "headers", "status"),
    [
        ({"api_keys": tenants("user")}, {"x-api-key": "user"}, 403),
        ({"api_keys": tenants("user"), "admin_key": "boss"}, {}, 401),
        ({"api_keys": tenants("user"), "admin_key": "boss"}, {"x-api-key": "user"}, 401),
        ({"admin_key": "boss"}, {}, 401),
    ],
)
async def test_with_keys_it_is_the_operators(
    config: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async with (
        serve(config=ServerConfig(served_model_name="fake", **config)) as app,
        client_of(app) as client,
    ):
        response = await client.get("/board/events", headers=headers)
        assert response.status_code == status


async def test_readers_leave_when_the_server_is_drained() -> None:
    async with (
        serve() as app,
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=20) as client,
        client.stream("GET", "/board/events") as response,
    ):
        board = Board(response)
        await board.next()
        app.state.context.engine.drain("no more")
        with pytest.raises(EOFError):
            while True:
                await board.next()


async def test_the_address_of_the_board(client: httpx.AsyncClient) -> None:
    response = await client.get("/board")
    assert (response.status_code, response.headers["location"]) == (308, "./#/board")
