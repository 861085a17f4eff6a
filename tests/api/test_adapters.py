"""Requests choose adapters by `model`; operators load and unload them while the server runs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from glmserve.adapters import digest
from glmserve.api.answering.unfinished import finish_unfinished
from glmserve.config import AdapterConfig, NamedAdapter, RedisAddress, SchedulerConfig, ServerConfig
from glmserve.errors import StartupError
from support.adapters import AdapterRunner, expected_with, with_adapters, write_adapter
from support.fake_server import client_of, serve, tenants
from support.fakes import LIMITS, expected_output
from support.forbidden import forbid
from support.resuming import last, post
from support.streaming import open_stream, texts_of
from support.waiting import let_queue_time_out, until, until_queued
from support.worker_on_thread import WorkerOnThread

KEY = {"Authorization": "Bearer operator"}
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT = "the same prompt for all"


def config(directory: Path | None = None, *named: NamedAdapter, **fields: Any) -> ServerConfig:
    options = AdapterConfig(named=named, directory=directory)
    return ServerConfig("fake", admin_key="operator", adapters=options, **fields)


def body(model: str, max_tokens: int = 8, **fields: Any) -> dict[str, Any]:
    return {"model": model, "prompt": PROMPT, "max_tokens": max_tokens, "temperature": 0, **fields}


def text_with(folder: Path | None, num_tokens: int = 8) -> str:
    ids = [*PROMPT.encode()]
    if folder is None:
        return bytes(expected_output(ids, num_tokens)).decode()
    return bytes(expected_with(digest(folder), ids, num_tokens)).decode()


async def complete(client: httpx.AsyncClient, model: str) -> str:
    response = await client.post(TEXT, json=body(model))
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    text: str = response.json()["choices"][0]["text"]
    return text


async def test_equal_prompts_under_two_adapters_and_the_model(tmp_path: Path) -> None:
    one, two = (write_adapter(tmp_path / name, name) for name in ("one", "two"))
    named = (NamedAdapter("first", one), NamedAdapter("second", two))
    async with serve(AdapterRunner(), config=config(None, *named)) as app, client_of(app) as client:
        for _ in range(2):
            names = ("first", "fake", "second", "first", "second", "fake")
            texts = await asyncio.gather(*(complete(client, name) for name in names))
            assert texts[0] == texts[3] == text_with(one)
            assert texts[1] == texts[5] == text_with(None)
            assert texts[2] == texts[4] == text_with(two)
        cached = (await client.post(TEXT, json=body("first"))).json()["usage"]
        assert cached["prompt_tokens_details"]["cached_tokens"] == 20


async def test_every_api_answers_with_the_adapter(tmp_path: Path) -> None:
    write_adapter(tmp_path / "one", "1")
    runner = AdapterRunner()
    messages = [{"role": "user", "content": "hi"}]
    async with serve(runner, config=config(tmp_path)) as app, client_of(app) as client:
        for path, fields in (
            (TEXT, {"prompt": "abc"}),
            (CHAT, {"messages": messages}),
            (CHAT + "/batch", {"messages": [messages, messages]}),
            ("/v1/responses", {"input": "hi"}),
            ("/v1/messages", {"messages": messages, "max_tokens": 3}),
            ("/v1/embeddings", {"input": ["abc", "de"]}),
            ("/invocations", {"prompt": "abc"}),
        ):
            begin = len(runner.steps)
            response = await client.post(path, json={"model": "one", **fields})
            assert (response.status_code, response.json()["model"]) == (200, "one"), response.text
            used = {s.adapter_id for step in runner.steps[begin:] for s in step.sequences}
            assert used == {1}, path
        steps = len(runner.steps)
        for path, fields in (
            ("/tokenize", {"prompt": "abc"}),
            ("/detokenize", {"tokens": [65]}),
            (TEXT + "/render", {"prompt": "abc"}),
            (CHAT + "/render", {"messages": messages}),
            ("/v1/responses/render", {"input": "hi"}),
            ("/v1/responses/input_tokens", {"input": "hi"}),
            ("/v1/messages/render", {"messages": messages, "max_tokens": 3}),
            ("/v1/messages/count_tokens", {"messages": messages}),
        ):
            response = await client.post(path, json={"model": "one", **fields})
            assert response.status_code == 200, (path, response.text)
            unknown = await client.post(path, json={"model": "two", **fields})
            assert unknown.status_code == 404, path
        assert len(runner.steps) == steps


async def test_models_and_unknown_ones(tmp_path: Path) -> None:
    write_adapter(tmp_path / "in dir", "1")
    (tmp_path / "no adapter").mkdir()
    named = NamedAdapter("org/named", write_adapter(tmp_path / "in dir" / "x", "2"))
    served = config(tmp_path, named)
    async with serve(AdapterRunner(), config=served) as app, client_of(app) as client:
        models = (await client.get("/v1/models")).json()["data"]
        assert [(m["id"], m["root"], m.get("parent")) for m in models] == [
            ("fake", "fake", None),
            ("in dir", "in dir", "fake"),
            ("org/named", "x", "fake"),
        ]
        assert (await client.get("/v1/models/org/named")).json() == models[2]
        assert (await client.get("/v1/models/no adapter")).status_code == 404
        error = (await client.post(TEXT, json=body("other"))).json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "'fake', 'in dir', 'org/named'" in error["message"]


async def test_a_folder_of_another_user_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "locked"):
        write_adapter(tmp_path / name, name)
    forbid(monkeypatch, tmp_path / "locked")
    async with serve(AdapterRunner(), config=config(tmp_path)) as app, client_of(app) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["fake", "one"]
        assert (await client.get("/admin/adapters", headers=KEY)).status_code == 200
        for name in ("locked", "none"):
            assert (await client.post(TEXT, json=body(name))).status_code == 404


async def test_an_adapter_whose_folder_is_gone_is_listed_no_more(tmp_path: Path) -> None:
    runner = AdapterRunner()
    folder = write_adapter(tmp_path / "one", "1")
    async with serve(runner, config=config(tmp_path)) as app, client_of(app) as client:
        await complete(client, "one")
        shutil.rmtree(folder)
        listed = (await client.get("/admin/adapters", headers=KEY)).json()
        assert listed["adapters"] == []
        await asyncio.sleep(0.05)
        assert not runner.installed


async def test_operators_load_replace_and_unload(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "old")
    async with serve(AdapterRunner(), config=config()) as app, client_of(app) as client:
        wanted = {"name": "a/b", "path": str(folder)}
        added = await client.post("/admin/adapters", json=wanted, headers=KEY)
        assert added.status_code == 200, added.text
        first = added.json()
        assert (first["status"], first["kind"], first["digest"]) == (
            "loaded",
            "lora",
            digest(folder),
        )
        assert await complete(client, "a/b") == text_with(folder)
        write_adapter(folder, "new")
        second = (await client.post("/admin/adapters", json=wanted, headers=KEY)).json()
        assert second["id"] != first["id"]
        assert await complete(client, "a/b") == text_with(folder)
        again = await client.post("/admin/adapters", json=wanted, headers=KEY)
        assert again.json()["id"] == second["id"]
        listed = (await client.get("/admin/adapters", headers=KEY)).json()
        assert (listed["max_adapters"], listed["adapters"]) == (2, [again.json()])
        gone = await client.delete("/admin/adapters/a/b", headers=KEY)
        assert (gone.status_code, gone.json()["status"]) == (200, "retired")
        assert (await client.post(TEXT, json=body("a/b"))).status_code == 404
        missing = await client.delete("/admin/adapters/a/b", headers=KEY)
        error = missing.json()["error"]
        assert (missing.status_code, error["code"], error["param"]) == (
            404,
            "model_not_found",
            "name",
        )
        assert (await client.get("/admin/adapters", headers=KEY)).json()["adapters"] == []


async def test_vllms_routes(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "1")
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    async with serve(AdapterRunner(), config=config(tmp_path)) as app, client_of(app) as client:

        async def ask(path: str, **fields: Any) -> httpx.Response:
            return await client.post(path, json=fields, headers=KEY)

        loaded = await ask(load, lora_name="sql", lora_path="one", is_3d_lora_weight=False)
        assert (loaded.status_code, loaded.text) == (
            200,
            "Success: LoRA adapter 'sql' added successfully.",
        )
        assert await complete(client, "sql") == text_with(folder)
        twice = await ask(load, lora_name="sql", lora_path="one")
        assert twice.status_code == 400
        assert "load_inplace" in twice.json()["error"]["message"]
        write_adapter(folder, "2")
        replaced = await ask(load, lora_name="sql", lora_path=str(folder), load_inplace=True)
        assert replaced.status_code == 200
        assert await complete(client, "sql") == text_with(folder)
        model = await ask(load, lora_name="fake", lora_path=str(folder))
        assert (model.status_code, model.json()["error"]["param"]) == (400, "lora_name")
        nowhere = await ask(load, lora_name="x", lora_path=str(tmp_path / "nowhere"))
        assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (400, "adapter_refused")
        assert (await ask(unload, lora_name="sql", lora_int_id=99)).status_code == 400
        removed = await ask(unload, lora_name="sql")
        assert removed.text == "Success: LoRA adapter 'sql' removed successfully."
        assert (await ask(unload, lora_name="sql")).status_code == 404
        assert (await ask(load, lora_name="", lora_path="x")).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/adapters"),
        ("POST", "/admin/adapters"),
        ("DELETE", "/admin/adapters/one"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
    ],
)
@pytest.mark.parametrize(
    ("admin_key", "headers", "status", "code"),
    [
        (None, KEY, 403, "admin_disabled"),
        ("operator", {}, 401, "invalid_api_key"),
        ("operator", {"x-api-key": "client"}, 401, "invalid_api_key"),
    ],
)
async def test_none_but_operators_may(
    method: str, path: str, admin_key: str | None, headers: dict[str, str], status: int, code: str
) -> None:
    served = ServerConfig("fake", admin_key=admin_key, api_keys=tenants("client"))
    async with serve(AdapterRunner(), config=served) as app, client_of(app) as client:
        response = await client.request(method, path, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_a_server_without_room_says_how_to_get_some(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "1")
    async with serve(AdapterRunner(LIMITS), config=config()) as app, client_of(app) as client:
        wanted = {"name": "one", "path": str(folder)}
        refused = await client.post("/admin/adapters", json=wanted, headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "adapter_refused")
        assert "--max-adapters" in refused.json()["error"]["message"]
        assert 'glmserve_adapter_slots{model_name="fake"} 0' in (await client.get("/metrics")).text


async def test_an_adapter_of_the_command_line_that_is_refused_ends_the_start(
    tmp_path: Path,
) -> None:
    named = NamedAdapter("bad", write_adapter(tmp_path / "bad", "refused"))
    with pytest.raises(StartupError, match=r"--adapter bad: .*does not fit"):
        async with serve(AdapterRunner(), config=config(None, named)):
            pass


async def test_a_failed_load_is_answered_without_paths(tmp_path: Path) -> None:
    write_adapter(tmp_path / "bad", "refused")
    write_adapter(tmp_path / "broken", "1", r="two")
    async with serve(AdapterRunner(), config=config(tmp_path)) as app, client_of(app) as client:
        for name in ("bad", "broken"):
            for fields in ({}, {"stream": True}):
                failed = await client.post(TEXT, json=body(name, **fields))
                assert (failed.status_code, failed.json()["error"]["code"]) == (
                    503,
                    "adapter_unavailable",
                )
                assert str(tmp_path) not in failed.text
                assert name in failed.json()["error"]["message"]
        write_adapter(tmp_path / "bad", "good now")
        assert await complete(client, "bad") == text_with(tmp_path / "bad")


async def test_a_stream_outlives_the_name_of_its_adapter(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "1")
    served = config(None, NamedAdapter("one", folder))
    async with (
        serve(AdapterRunner(), config=served) as app,
        client_of(app) as client,
        open_stream(app, TEXT, body("one", 60, stream=True)) as stream,
    ):
        begun = [await stream.event() for _ in range(2)]
        assert (await client.delete("/admin/adapters/one", headers=KEY)).status_code == 200
        assert (await client.post(TEXT, json=body("one"))).status_code == 404
        expected = text_with(folder, 60)
        events = [event for event in begun if event] + await stream.rest()
        assert texts_of(events)[0, "text"] == expected


async def test_preempted_requests_keep_their_adapters(tmp_path: Path) -> None:
    """The cache holds fewer tokens than the choices of one request, whenever the others come."""
    limits = with_adapters(2, RunnerLimits16)
    folders = [write_adapter(tmp_path / name, name) for name in ("one", "two")]
    async with (
        serve(AdapterRunner(limits), config=config(tmp_path)) as app,
        client_of(app) as client,
    ):
        bodies = [body(name, 24) | {"n": 6} for name in ("one", "two", "fake")]
        answers = await asyncio.gather(*(client.post(TEXT, json=each) for each in bodies))
        for answer, folder in zip(answers, (*folders, None), strict=True):
            texts = [choice["text"] for choice in answer.json()["choices"]]
            assert texts == [text_with(folder, 24)] * 6
        stats = app.state.context.engine.stats.registry
        assert stats.get_sample_value("glmserve_preemptions_total") > 0


RunnerLimits16 = type(LIMITS)(
    num_blocks=30, block_size=4, max_sequences=6, max_step_tokens=16, max_context=64
)


async def test_the_response_cache_knows_contents(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "1")
    served = config(tmp_path, cache_size=4)
    async with serve(AdapterRunner(), config=served) as app, client_of(app) as client:
        before = [await client.post(TEXT, json=body("one")) for _ in range(2)]
        assert [answer.headers["x-glmserve-cache"] for answer in before] == ["miss", "hit"]
        write_adapter(folder, "22")
        after = await client.post(TEXT, json=body("one"))
        assert after.headers["x-glmserve-cache"] == "miss"
        assert after.json()["choices"][0]["text"] == text_with(folder) != before[0].text


async def test_metrics_and_the_access_log_name_the_adapter(tmp_path: Path) -> None:
    write_adapter(tmp_path / "one", "1")
    records: list[Any] = []
    served = config(tmp_path, metrics_compat="vllm")
    async with (
        serve(AdapterRunner(), config=served, observers=[records.append]) as app,
        client_of(app) as client,
    ):
        async with open_stream(app, TEXT, body("one", 60, stream=True)) as stream:
            await stream.event()
            text = (await client.get("/metrics")).text
        assert re.search(
            r'vllm:lora_requests_info\{max_lora="2",running_lora_adapters="one",'
            r'waiting_lora_adapters=""\} 1\.',
            text,
        )
        assert (
            'glmserve_adapter_requests{adapter="one",model_name="fake",state="running"} 1' in text
        )
    from glmserve.api.operator.access_log import as_json, line_of

    (record,) = [record for record in records if record.generation is not None]
    assert json.loads(as_json(line_of(record)))["adapter"] == "one"


async def test_requests_that_wait_for_a_place_obey_the_limits_of_the_queue(tmp_path: Path) -> None:
    """They time out, and are refused when the server drains."""
    for name in ("one", "two"):
        write_adapter(tmp_path / name, name)
    runner = AdapterRunner(with_adapters(1))
    gate = threading.Event()
    scheduler = SchedulerConfig(queue_timeout=1000)
    async with (
        serve(runner, scheduler, config(tmp_path)) as app,
        client_of(app) as client,
        open_stream(app, TEXT, body("one", 100, stream=True)) as stream,
    ):
        await stream.event()
        runner.gate = gate
        engine = app.state.context.engine
        timed_out = asyncio.create_task(client.post(TEXT, json=body("two")))
        await until(lambda: any(engine.adapters.waiting()))
        let_queue_time_out(engine)
        late = await timed_out
        assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
        waiting = asyncio.create_task(client.post(TEXT, json=body("two")))
        await until(lambda: any(engine.adapters.waiting()))
        await client.post("/admin/drain", headers=KEY)
        assert (await waiting).json()["error"]["code"] == "not_ready"
        gate.set()


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_answer_never_goes_on_with_another_content(
    tmp_path: Path, key: str | None
) -> None:
    """After a new content under the same name in the same server, and in the next."""
    folder = write_adapter(tmp_path / "dir" / "one", "1")
    headers = {"Idempotency-Key": key} if key else {}
    served = config(tmp_path / "dir")
    stream_body = body("one", 40, stream=True)
    async with serve(AdapterRunner(), config=served, journal=tmp_path / "journal") as app:
        async with open_stream(app, TEXT, stream_body, headers) as stream:
            begun = [await stream.event() for _ in range(3)]
        assert begun[-1] is not None
        back = headers | last(begun[-1])
        async with open_stream(app, TEXT, stream_body, back) as stream:
            events = [event for event in begun if event] + [await stream.event() or b""]
        assert stream.status == 200
        write_adapter(folder, "22")
        await refused(app, stream_body, back)
    async with serve(AdapterRunner(), config=served, journal=tmp_path / "journal") as app:
        await refused(app, stream_body, back)
        write_adapter(folder, "1")
        async with open_stream(app, TEXT, stream_body, headers | last(events[-1])) as stream:
            events += await stream.rest()
        assert texts_of(events)[0, "text"] == text_with(folder, 40)


async def refused(app: Starlette, wanted: dict[str, Any], headers: dict[str, str]) -> None:
    answer = await post(app, wanted, **headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "adapter_changed")
    assert "'one'" in answer.json()["error"]["message"]


async def test_another_request_under_the_same_key_is_called_that(tmp_path: Path) -> None:
    write_adapter(tmp_path / "dir" / "one", "1")
    headers = {"Idempotency-Key": "k"}
    served = config(tmp_path / "dir")
    async with (
        serve(AdapterRunner(), config=served, journal=tmp_path / "journal") as app,
        client_of(app) as client,
    ):
        assert (await client.post(TEXT, json=body("one"), headers=headers)).status_code == 200
        other = await client.post(TEXT, json=body("fake"), headers=headers)
        assert other.json()["error"]["code"] == "idempotency_key_reused"


async def test_a_lost_client_gets_a_new_answer_from_a_new_content(tmp_path: Path) -> None:
    """Without a key a request that comes again goes on with the answer that lost its client."""
    folder = write_adapter(tmp_path / "dir" / "one", "1")
    served = config(tmp_path / "dir")
    runner = AdapterRunner()
    async with (
        serve(runner, config=served, journal=tmp_path / "journal") as app,
        client_of(app) as client,
    ):
        async with open_stream(app, TEXT, body("one", 100)):
            while not any(s.adapter_id for step in runner.steps for s in step.sequences):
                await asyncio.sleep(0.001)
        write_adapter(folder, "22")
        answer = await client.post(TEXT, json=body("one", 100))
        assert answer.json()["choices"][0]["text"] == text_with(folder, 100)


@pytest.mark.parametrize("is_shared", [False, True], ids=["sqlite", "redis"])
async def test_the_next_server_finishes_what_has_its_adapter(
    tmp_path: Path,
    is_shared: bool,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place: Path | RedisAddress = tmp_path / "journal"
    if is_shared:
        place = request.getfixturevalue("redis_address")
    folders = [write_adapter(tmp_path / "dir" / name, name) for name in ("same", "changed")]
    served = config(tmp_path / "dir")
    async with (
        serve(AdapterRunner(), config=served, journal=place) as app,
        client_of(app) as client,
    ):
        asked = [
            asyncio.create_task(
                client.post(TEXT, json=body(f.name, 100), headers={"Idempotency-Key": f.name})
            )
            for f in folders
        ]
        while len(app.state.context.engine.adapters.versions) < 2:
            await asyncio.sleep(0.001)
        await until_queued(app, len(folders))
        app.state.context.engine.end_streams()
        await asyncio.gather(*asked)
    write_adapter(folders[1], "22")
    async with (
        serve(AdapterRunner(), config=served, journal=place) as app,
        client_of(app) as client,
    ):
        finishing = asyncio.create_task(finish_unfinished(app.state.context, app.state.endpoints))
        headers = {"Idempotency-Key": "same"}
        answer = await client.post(TEXT, json=body("same", 100), headers=headers)
        assert answer.json()["choices"][0]["text"] == text_with(folders[0], 100)
        await refused_by_name(client, "changed")
        finishing.cancel()


async def refused_by_name(client: httpx.AsyncClient, name: str) -> None:
    headers = {"Idempotency-Key": name}
    answer = await client.post(TEXT, json=body(name, 100), headers=headers)
    assert answer.json()["error"]["code"] == "adapter_changed"
    assert repr(name) in answer.json()["error"]["message"]


async def test_streams_over_http_survive_a_lost_worker(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", "1")
    first, second = AdapterRunner(), AdapterRunner()
    first.fail_at_step = 20
    executor = WorkerOnThread(first, second)
    async with (
        serve(config=config(tmp_path), executor=executor) as app,
        client_of(app) as client,
    ):
        answers = await asyncio.gather(
            *(client.post(TEXT, json=body(name, 50)) for name in ("one", "fake"))
        )
        texts = [answer.json()["choices"][0]["text"] for answer in answers]
        assert texts == [text_with(folder, 50), text_with(None, 50)]
        assert second.steps


async def test_a_template_beside_an_adapter_is_named_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, other = (write_adapter(tmp_path / name, name) for name in ("plain", "other"))
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    (plain / "tokenizer_config.json").write_text("{}")
    messages = [{"role": "user", "content": "hi"}]
    async with serve(AdapterRunner(), config=config(tmp_path)) as app, client_of(app) as client:
        for name in ("plain", "other", "other"):
            answer = await client.post(CHAT, json={"model": name, "messages": messages})
            assert answer.json()["usage"]["prompt_tokens"] == len("user:hi\n")
    (record,) = [r for r in caplog.records if "chat template" in r.getMessage()]
    assert str(other) in record.getMessage()
