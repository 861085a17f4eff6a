"""Who may have the rest of an answer, and who gets it once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from glmserve.api.answering.unfinished import finish_unfinished
from glmserve.config import SchedulerConfig, ServerConfig
from glmserve.journal import local_entries
from support.fake_server import client_of, serve, tenants
from support.fakes import FakeRunner
from support.resuming import BODY, STREAM, TEXT, GatedRunner, last, metric, post
from support.streaming import OpenStream, data_of, id_of, open_stream, texts_of
from support.waiting import until
from support.worker_on_thread import WorkerOnThread

KEYS = ServerConfig(served_model_name="fake", api_keys=tenants("mine", "theirs"))


async def test_without_a_journal_there_are_no_ids_and_no_way_back() -> None:
    async with serve() as app:
        async with open_stream(app, TEXT, STREAM) as stream:
            assert not any(b"id: " in event for event in await stream.rest())
        gone = await post(app, STREAM, Last_Event_ID=f"{'0' * 32}:1:1")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "stream_gone")
        assert "--journal" in gone.json()["error"]["message"]
        assert "glmserve_journal" not in (await client_of(app).get("/metrics")).text


async def test_a_client_that_left_gets_the_rest_and_others_get_nothing(tmp_path: Path) -> None:
    mine = {"Authorization": "Bearer mine"}
    async with serve(config=KEYS, journal=tmp_path) as app:
        async with open_stream(app, TEXT, STREAM, mine) as stream:
            whole = await stream.rest()
        async with open_stream(app, TEXT, STREAM, mine) as stream:
            first = [await stream.event() for _ in range(3)]
        assert first[-1] is not None
        came_back = mine | last(first[-1])
        error = (await post(app, STREAM, **came_back | {"Authorization": "Bearer theirs"})).json()
        assert error["error"]["code"] == "stream_gone"
        other = await post(app, STREAM | {"max_tokens": 31}, **came_back)
        assert (other.status_code, other.json()["error"]["code"]) == (400, "stream_mismatch")
        async with open_stream(app, TEXT, STREAM, came_back) as stream:
            events = [event for event in first if event] + await stream.rest()
        assert texts_of(events) == texts_of(whole)
        assert metric(app, "journal_resumed_streams_total") == 1
        assert metric(app, "kv_blocks_used") == 0


@pytest.mark.parametrize("event_id", ["7", "x:1:1", f"{'0' * 32}:1:1", f"{'0' * 32}:1", ":"])
async def test_ids_of_nobody(event_id: str, tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        gone = await post(app, STREAM, Last_Event_ID=event_id)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "stream_gone")


async def test_what_the_journal_has_lost_is_not_made_up(tmp_path: Path) -> None:
    """A machine that goes down may take the last commits with it."""
    async with serve(journal=tmp_path) as app:
        async with open_stream(app, TEXT, STREAM) as stream:
            stream_id, number, num_deltas = id_of((await stream.rest())[-1]).split(":")
        lost = f"{stream_id}:{number}:{int(num_deltas) + 1}"
        assert (await post(app, STREAM, Last_Event_ID=lost)).status_code == 404


async def test_the_later_connection_gets_the_stream(tmp_path: Path) -> None:
    """The one before may be half dead: it does not even read."""
    runner = GatedRunner(stop_at=12)
    async with (
        serve(runner, journal=tmp_path) as app,
        open_stream(app, TEXT, STREAM) as first,
    ):
        begun = [await first.event() for _ in range(2)]
        assert begun[-1] is not None
        await runner.wait(app)
        async with open_stream(app, TEXT, STREAM, last(begun[-1])) as second:
            runner.gate.set()
            rest = await second.rest()
        left = await first.rest()
        whole = [event for event in begun if event] + rest
        assert texts_of(whole)[0, "text"] == (await post(app, BODY)).json()["choices"][0]["text"]
        assert len(left) < len(rest)  # what was sent before the second came


async def test_a_stream_taken_over_before_its_first_token_is_told_so(tmp_path: Path) -> None:
    """It must not begin: its events would have ids of tokens that are not recorded."""
    runner = GatedRunner(stop_at=5)
    key = {"Idempotency-Key": "k"}
    one_at_a_time = SchedulerConfig(max_batch_size=1)
    async with (
        serve(runner, one_at_a_time, journal=tmp_path) as app,
        open_stream(app, TEXT, STREAM) as running,
    ):
        await runner.wait(app)
        async with open_stream(app, TEXT, STREAM, key) as first:
            ended = asyncio.create_task(first.rest())
            await asyncio.sleep(0)
            while not list(app.state.context.answers.journal.index)[1:]:
                await asyncio.sleep(0)
            async with open_stream(app, TEXT, STREAM, key) as second:
                (error,) = await ended
                assert first.status == 409
                assert json.loads(error)["error"]["code"] == "stream_taken_over"
                runner.gate.set()
                whole = await second.rest()
        assert texts_of(whole) == texts_of(await running.rest())
    assert second.status == 200


async def test_a_stream_that_is_ending_is_not_ended_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = list[Message]()

    class Ending(OpenStream):
        """Its last piece is on its way when the stream is resumed."""

        async def send(self, message: Message) -> None:
            if message["type"] == "http.response.body" and not message["more_body"]:
                ends.append(message)
                await asyncio.Event().wait()
            await super().send(message)

    async with serve(journal=tmp_path) as app:
        with monkeypatch.context() as patch:
            patch.setattr("support.streaming.OpenStream", Ending)
            opening = open_stream(app, TEXT, STREAM)
            first = await opening.__aenter__()
        events = [await first.event() for _ in range(2)]
        reading = asyncio.create_task(first.rest())
        while not ends:
            await asyncio.sleep(0)
        assert events[0] is not None
        async with open_stream(app, TEXT, STREAM, last(events[0])) as second:
            assert len(await second.rest()) == len(await reading) + 1
        await opening.__aexit__(None, None, None)
    assert len(ends) == 1


async def test_an_entry_is_kept_for_a_while_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_entries, "_EXPIRY_INTERVAL", 0.01)
    async with serve(journal=tmp_path) as app:
        async with open_stream(app, TEXT, STREAM) as stream:
            whole = await stream.rest()
        async with open_stream(app, TEXT, STREAM, last(whole[0])) as stream:
            assert len(await stream.rest()) == len(whole) - 1
        journal = app.state.context.answers.journal
        (entry,) = journal.index
        entry.expires = time.time()
        await until(lambda: not list(journal.index))
        assert (await post(app, STREAM, **last(whole[0]))).status_code == 404


async def test_the_same_key_is_the_same_answer(tmp_path: Path) -> None:
    sampled = BODY | {"temperature": 1.0}
    async with serve(config=KEYS, journal=tmp_path) as app:
        mine = {"Authorization": "Bearer mine", "Idempotency_Key": "k-1"}
        first, second = await asyncio.gather(*(post(app, sampled, **mine) for _ in range(2)))
        third = await post(app, sampled, **mine)
        assert first.json() == second.json() == third.json()
        replayed = [r.headers.get("idempotent-replayed") for r in (first, second, third)]
        assert replayed == [None, "true", "true"]
        assert metric(app, "output_tokens_total") == 30
        other = await post(app, sampled | {"max_tokens": 2}, **mine)
        assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
        theirs = await post(app, sampled, **mine | {"Authorization": "Bearer theirs"})
        assert theirs.json()["id"] != first.json()["id"]


async def test_a_key_of_a_request_that_was_refused_is_free(tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        key = {"Idempotency_Key": "k"}
        assert (await post(app, BODY | {"logit_bias": {"999999": 1}}, **key)).status_code == 400
        assert (await post(app, BODY, **key)).status_code == 200


async def test_a_stream_by_its_key(tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        key = {"Idempotency-Key": "k"}
        async with open_stream(app, TEXT, STREAM, key) as stream:
            whole = await stream.rest()
        async with open_stream(app, TEXT, STREAM, key) as stream:
            assert [data_of(e) for e in await stream.rest()] == [data_of(e) for e in whole]


@pytest.mark.parametrize("key", ["", "with blanks in it", "x" * 256])
async def test_keys_that_are_none(key: str, tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        refused = await post(app, BODY, Idempotency_Key=key)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "Idempotency-Key"


async def test_equal_requests_without_a_name_are_different_requests(tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        answers = await asyncio.gather(*(post(app, BODY) for _ in range(5)))
        assert len({answer.json()["id"] for answer in answers}) == 5
        assert not list(app.state.context.answers.journal.index)


async def test_what_a_killed_server_had_accepted_is_finished_once(tmp_path: Path) -> None:
    runner = GatedRunner(stop_at=9)
    async with serve(runner, journal=tmp_path / "journal") as app:
        asking = [asyncio.create_task(post(app, BODY)) for _ in range(2)]
        asking.append(asyncio.create_task(post(app, BODY, Idempotency_Key="k")))
        await until(lambda: len(list(app.state.context.answers.journal.index)) == len(asking))
        await runner.wait(app)
        shutil.copytree(tmp_path / "journal", tmp_path / "left")
        runner.gate.set()
        expected = [answer.json() for answer in await asyncio.gather(*asking)]
    async with serve(journal=tmp_path / "left") as app:
        await finish_unfinished(app.state.context, app.state.endpoints)
        assert metric(app, "journal_finished_after_restart_total") == 3
        finished = metric(app, "output_tokens_total")
        answers = [await post(app, BODY) for _ in range(3)]
        named = await post(app, BODY, Idempotency_Key="k")
        *old, new = [answer.json() for answer in answers]
        assert [*old, named.json()] == expected
        assert new["id"] not in {answer["id"] for answer in expected}
        assert new["choices"] == expected[0]["choices"]
        assert finished is not None
        assert metric(app, "output_tokens_total") == finished + 30


async def test_a_path_that_this_server_lacks_keeps_nothing_else_from_being_finished(
    tmp_path: Path,
) -> None:
    runner = GatedRunner(stop_at=9)
    async with serve(runner, journal=tmp_path / "journal") as app:
        chat = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 30}
        async with client_of(app) as client:
            asking = [
                asyncio.create_task(client.post(path, json=body))
                for path, body in (("/v1/chat/completions", chat), (TEXT, BODY))
            ]
            await until(lambda: len(list(app.state.context.answers.journal.index)) == len(asking))
            await runner.wait(app)
            shutil.copytree(tmp_path / "journal", tmp_path / "left")
            runner.gate.set()
            await asyncio.gather(*asking)
    async with serve(journal=tmp_path / "left") as app:
        endpoints = {TEXT: app.state.endpoints[TEXT]}
        await finish_unfinished(app.state.context, endpoints)
        assert metric(app, "journal_finished_after_restart_total") == 1


async def test_a_request_of_its_own_fault_is_not_kept(tmp_path: Path) -> None:
    class Poisoned(FakeRunner):
        def execute(self, step: Any, masks: Any = list) -> Any:
            if any(ord("!") in s.token_ids for s in step.sequences):
                raise RuntimeError("poison")
            return super().execute(step, masks)

    async with serve(
        executor=WorkerOnThread(*(Poisoned() for _ in range(4))), journal=tmp_path
    ) as app:
        async with open_stream(app, TEXT, STREAM | {"prompt": "!"}) as stream:
            (event,) = await stream.rest()
        assert b"worker_crashed" in event
        assert b"id:" not in event
        assert not list(app.state.context.answers.journal.index)


async def test_a_client_that_left_early_gets_its_whole_answer(tmp_path: Path) -> None:
    """It repeats the request, as clients do after a timeout."""
    runner = GatedRunner(stop_at=9)
    async with serve(runner, journal=tmp_path) as app:
        async with open_stream(app, TEXT, BODY):
            await runner.wait(app)
        runner.gate.set()
        first, second = [await post(app, BODY) for _ in range(2)]
        assert first.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in second.headers
        assert first.json()["choices"] == second.json()["choices"]


async def test_a_key_of_a_server_is_the_same_in_its_next_life(tmp_path: Path) -> None:
    mine = {"Authorization": "Bearer mine"}
    async with (
        serve(config=KEYS, journal=tmp_path) as app,
        open_stream(app, TEXT, STREAM, mine) as stream,
    ):
        whole = await stream.rest()
    async with serve(config=KEYS, journal=tmp_path) as app:
        theirs = {"Authorization": "Bearer theirs"} | last(whole[0])
        assert (await post(app, STREAM, **theirs)).status_code == 404
        async with open_stream(app, TEXT, STREAM, mine | last(whole[0])) as stream:
            assert [data_of(event) for event in await stream.rest()] == [*map(data_of, whole[1:])]
    assert b"mine" not in (tmp_path / "journal.sqlite").read_bytes()


async def test_only_a_stream_can_be_gone_on_with(tmp_path: Path) -> None:
    async with serve(journal=tmp_path) as app:
        refused = await post(app, BODY, Last_Event_ID=f"{'0' * 32}:1:1")
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "Last-Event-ID"


async def test_an_error_event_is_no_end(tmp_path: Path) -> None:
    runner = GatedRunner(stop_at=9)
    async with serve(runner, journal=tmp_path) as app:
        async with open_stream(app, TEXT, STREAM) as stream:
            begun = [await stream.event()]
            await runner.wait(app)
            app.state.context.engine.end_streams()
            runner.gate.set()
            *events, error = [event for event in begun if event] + await stream.rest()
        assert b"shutting down" in error
        assert b"id:" not in error
    async with serve(journal=tmp_path) as app:
        async with open_stream(app, TEXT, STREAM, last(events[-1])) as stream:
            events += await stream.rest()
        assert texts_of(events)[0, "text"] == (await post(app, BODY)).json()["choices"][0]["text"]


async def test_a_full_disk_stops_no_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = GatedRunner(stop_at=6)
    async with serve(runner, journal=tmp_path) as app:
        database = app.state.context.answers.journal._store._db
        async with open_stream(app, TEXT, STREAM) as stream:
            events = [await stream.event()]
            await runner.wait(app)
            database.execute("PRAGMA max_page_count = 1")  # nothing more fits in
            fill(database)
            runner.gate.set()
            events += await stream.rest()
        whole = [event for event in events if event]
        assert texts_of(whole)[0, "text"] == (await post(app, BODY)).json()["choices"][0]["text"]
        failed = metric(app, "journal_commit_failures_total")
        assert failed
        ids = [event for event in whole if event.startswith(b"id: ")]
        taken_back = [event for event in whole if event.startswith(b"id:\n")]
        assert len(taken_back) == 1
        assert whole.index(taken_back[0]) == len(ids)
        assert [r.levelname for r in caplog.records if "cannot be written" in r.message] == [
            "ERROR"
        ]
        # Whoever has seen only events with ids gets the rest, once there is space again.
        database.execute("PRAGMA max_page_count = 100000")
        monkeypatch.setattr("glmserve.journal.journal._RECOVERY_SECONDS", 0.0)
        async with open_stream(app, TEXT, STREAM, last(ids[-1])) as stream:
            rest = await stream.rest()
        assert texts_of(ids + rest) == texts_of(whole)
        assert all(event.startswith(b"id: ") for event in rest)
        assert metric(app, "journal_commit_failures_total") == failed
        assert [r.levelno for r in caplog.records if "written again" in r.message] == [
            logging.WARNING
        ]


def fill(database: Any) -> None:
    """Use up what is free in the database's last page."""
    with contextlib.suppress(sqlite3.OperationalError):
        for number in itertools.count():
            database.execute("INSERT INTO delta VALUES (?, 0, zeroblob(50))", (-number,))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_in_the_background_is_finished_by_the_next_server(
    tmp_path: Path, stream: bool
) -> None:
    runner = GatedRunner(stop_at=9)
    body = {"input": "abc", "max_output_tokens": 30, "temperature": 0, "background": True}
    async with serve(runner, journal=tmp_path / "journal") as app, client_of(app) as client:
        asking = asyncio.create_task(client.post("/v1/responses", json={**body, "stream": stream}))
        await runner.wait(app)
        ((_, response_id),) = app.state.background._running
        shutil.copytree(tmp_path / "journal", tmp_path / "left")
        runner.gate.set()
        await asking
        path = f"/v1/responses/{response_id}"
        while (expected := (await client.get(path)).json())["status"] == "in_progress":
            await asyncio.sleep(0.01)
    async with serve(journal=tmp_path / "left") as app, client_of(app) as client:
        await finish_unfinished(app.state.context, app.state.endpoints)
        finished = (await client.get(path)).json()
        for response in (expected, finished):
            response["usage"].pop("input_tokens_details")
        assert finished == expected
