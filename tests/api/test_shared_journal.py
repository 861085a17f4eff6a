"""Two servers with one journal: each goes on with the answers of the other."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from starlette.applications import Starlette

from glmserve.api.answering.unfinished import finish_unfinished
from glmserve.config import RedisAddress, ServerConfig
from glmserve.journal.shared import connection, entries
from glmserve.journal.shared.scripts import PREFIX
from support.fake_server import serve, tenants
from support.redis_server import RedisServer
from support.resuming import BODY, STREAM, TEXT, GatedRunner, last, metric, post
from support.streaming import open_stream, texts_of
from support.waiting import until

KEYS = ServerConfig(served_model_name="fake", api_keys=tenants("mine", "theirs"))
MINE = {"Authorization": "Bearer mine"}


async def whole_text(app: Starlette, **headers: str) -> str:
    answer = await post(app, BODY, **headers)
    return str(answer.json()["choices"][0]["text"])


def die(app: Starlette) -> None:
    """As if the process were gone and its lease had ended."""
    store = app.state.context.answers.journal._store
    store._connection.run(lambda client: client.delete(f"{PREFIX}server:{store._server}"))


def may_adopt(app: Starlette) -> None:
    """It need not wait, as a server does that has just begun."""
    app.state.context.answers.journal._store._connection.failed_at = -1000.0


async def test_a_client_comes_back_to_another_server(redis_address: RedisAddress) -> None:
    """The one that has the broken connection, and goes on generating, stops."""
    runner = GatedRunner(stop_at=12)
    async with (
        serve(runner, config=KEYS, journal=redis_address) as one,
        serve(config=KEYS, journal=redis_address) as two,
        open_stream(one, TEXT, STREAM, MINE) as first,
    ):
        begun = [event for event in [await first.event() for _ in range(2)] if event]
        await runner.wait(one)
        theirs = await post(two, STREAM, **last(begun[-1]) | {"Authorization": "Bearer theirs"})
        assert theirs.json()["error"]["code"] == "stream_gone"
        async with open_stream(two, TEXT, STREAM, MINE | last(begun[-1])) as second:
            rest = await second.rest()
        runner.gate.set()
        left = await first.rest()
        assert texts_of(begun + rest)[0, "text"] == await whole_text(two, **MINE)
        assert len(left) < len(rest)  # what was committed before the second came
        assert not any(b"[DONE]" in event for event in left)
        assert metric(two, "journal_resumed_streams_total") == 1
        # And back again, from the record that the other has completed.
        async with open_stream(one, TEXT, STREAM, MINE | last(begun[0])) as third:
            assert texts_of([begun[0], *await third.rest()]) == texts_of(begun + rest)


async def test_a_key_is_the_same_answer_at_every_server(redis_address: RedisAddress) -> None:
    sampled = BODY | {"temperature": 1.0}
    async with serve(journal=redis_address) as one, serve(journal=redis_address) as two:
        answers = await asyncio.gather(
            *(post(app, sampled, Idempotency_Key="k") for app in (one, two, one, two))
        )
        assert len({answer.text for answer in answers}) == 1
        replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
        assert sorted(map(str, replayed)) == ["None", "true", "true", "true"]
        tokens = [metric(app, "output_tokens_total") for app in (one, two)]
        assert sum(filter(None, tokens)) == 30
        other = await post(two, sampled | {"max_tokens": 2}, Idempotency_Key="k")
        assert other.json()["error"]["code"] == "idempotency_key_reused"
        refused = BODY | {"logit_bias": {"999999": 1}}
        assert (await post(one, refused, Idempotency_Key="r")).status_code == 400
        assert (await post(two, BODY, Idempotency_Key="r")).status_code == 200


async def test_equal_requests_without_a_name_are_different_requests(
    redis_address: RedisAddress,
) -> None:
    async with serve(journal=redis_address) as one, serve(journal=redis_address) as two:
        answers = await asyncio.gather(*(post(app, BODY) for app in (one, two, one, two)))
        assert len({answer.json()["id"] for answer in answers}) == 4
        assert not list(one.state.context.answers.journal.index)


async def test_whole_answers_of_a_dead_server_are_finished_by_another(
    redis_address: RedisAddress,
) -> None:
    runner = GatedRunner(stop_at=9)
    async with (
        serve(runner, journal=redis_address) as one,
        serve(journal=redis_address) as two,
    ):
        asking = [asyncio.create_task(post(one, BODY)) for _ in range(2)]
        asking.append(asyncio.create_task(post(one, BODY, Idempotency_Key="k")))
        await until(lambda: len(list(one.state.context.answers.journal.index)) == len(asking))
        await runner.wait(one)
        die(one)
        may_adopt(two)
        finishing = asyncio.create_task(finish_unfinished(two.state.context, two.state.endpoints))
        while metric(two, "journal_finished_after_restart_total") != 3:
            await asyncio.sleep(0.01)
        finishing.cancel()
        named = await post(two, BODY, Idempotency_Key="k")
        *finished, new = [await post(two, BODY) for _ in range(3)]
        replayed = [a.headers.get("idempotent-replayed") for a in (named, *finished, new)]
        assert replayed == ["true", "true", "true", None]
        assert len({a.json()["id"] for a in (named, *finished, new)}) == 4
        assert {a.json()["choices"][0]["text"] for a in (named, *finished, new)} == {
            await whole_text(two)
        }
        # The server was not dead, only silent. It does not deliver what another one has; what
        # another one has delivered and deleted, it answers as its own.
        runner.gate.set()
        *unnamed, late = await asyncio.gather(*asking)
        assert [answer.status_code for answer in unnamed] == [200, 200]
        assert (late.status_code, late.json()["error"]["code"]) == (409, "stream_taken_over")


async def test_the_stores_death_stops_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_PAUSE", 0.1)
    monkeypatch.setattr(entries, "_HEARTBEAT", 0.05)
    server = RedisServer(tmp_path)
    runner = GatedRunner(stop_at=6)
    try:
        async with serve(runner, journal=RedisAddress(server.url())) as app:
            async with open_stream(app, TEXT, STREAM) as stream:
                events = [await stream.event()]
                await runner.wait(app)
                server.stop()
                runner.gate.set()
                events += await stream.rest()
            whole = [event for event in events if event]
            expected = await whole_text(app)
            assert texts_of(whole)[0, "text"] == expected
            assert await whole_text(app, Idempotency_Key="k") == expected
            ids = [event for event in whole if event.startswith(b"id: ")]
            taken_back = [event for event in whole if event.startswith(b"id:\n")]
            assert len(taken_back) == 1
            assert whole.index(taken_back[0]) == len(ids)
            gone = await post(app, STREAM, **last(ids[-1]))
            assert gone.status_code == 503
            assert gone.headers["retry-after"] == "1"
            assert gone.json()["error"]["code"] == "journal_unavailable"
            assert json.dumps(gone.json()).count(str(tmp_path)) == 0
            server.start()
            while (await post(app, STREAM, **last(ids[-1]))).status_code == 503:
                await asyncio.sleep(0.01)
            async with open_stream(app, TEXT, STREAM, last(ids[-1])) as stream:
                rest = await stream.rest()
            assert texts_of(ids + rest) == texts_of(whole)
            assert all(event.startswith(b"id: ") for event in rest)
            errors = [r for r in caplog.records if "cannot be written" in r.message]
            assert [record.levelno for record in errors] == [logging.ERROR]
    finally:
        server.stop()
