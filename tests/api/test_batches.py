"""/v1/files and /v1/batches, as OpenAI's SDK uses them, over a fake runner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from glmserve.config import BatchConfig, ServerConfig
from support.fake_server import client_of, serve, tenants

CHAT = "/v1/chat/completions"


def line(custom_id: str, url: str = CHAT, **body: Any) -> bytes:
    """A request of a batch."""
    if not body:
        body = {"messages": [{"role": "user", "content": f"Hi {custom_id}"}], "max_tokens": 5}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode()


def lines(count: int) -> bytes:
    return b"\n".join(line(f"request-{i}") for i in range(count))


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Service:
    """A server, and OpenAI's client of it."""

    def __init__(self, http: httpx.AsyncClient, key: str = "none") -> None:
        self.http = http
        self.sdk = openai.AsyncOpenAI(
            api_key=key, base_url="http://test/v1", http_client=http, max_retries=0
        )

    async def upload(self, content: bytes, name: str = "in.jsonl") -> str:
        return (await self.sdk.files.create(file=(name, content), purpose="batch")).id

    async def start(self, content: bytes, url: Any = CHAT, **options: Any) -> Batch:
        file_id = await self.upload(content)
        return await self.sdk.batches.create(
            input_file_id=file_id, endpoint=url, completion_window="24h", **options
        )

    async def finished(self, batch: Batch) -> Batch:
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            await asyncio.sleep(0.01)
            batch = await self.sdk.batches.retrieve(batch.id)
        return batch

    async def answers(self, file_id: str | None) -> dict[str, Any]:
        """Lines of an output file by their custom ids, which are all different."""
        assert file_id is not None
        text = (await self.sdk.files.content(file_id)).text
        found = [json.loads(part) for part in text.splitlines()]
        by_id = {item["custom_id"]: item for item in found}
        assert len(by_id) == len(found)
        return by_id


@asynccontextmanager
async def service(folder: Path, **options: Any) -> AsyncIterator[Service]:
    config = BatchConfig(folder, **options)
    async with serve(batches=config) as app, client_of(app) as http:
        yield Service(http)


async def test_a_batch_goes_from_its_input_to_its_output(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        batch = await server.start(lines(40), metadata={"job": "night"})
        assert batch.status == "validating"
        batch = await server.finished(batch)
        assert batch.status == "completed"
        assert batch.metadata == {"job": "night"}
        counts = batch.request_counts
        assert counts is not None
        assert (counts.total, counts.completed, counts.failed) == (40, 40, 0)
        assert batch.error_file_id is None
        answers = await server.answers(batch.output_file_id)
        assert answers.keys() == {f"request-{i}" for i in range(40)}
        for answer in answers.values():
            assert answer["error"] is None
            assert answer["response"]["status_code"] == 200
            content = answer["response"]["body"]["choices"][0]["message"]["content"]
            assert len(content) == 5
        stored = await server.sdk.files.retrieve(batch.output_file_id or "")
        assert stored.purpose == "batch_output"


async def test_answers_are_those_of_the_routes(tmp_path: Path) -> None:
    bodies: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "n": 2, "seed": 3},
        "/v1/completions": {"prompt": ["one", "two"], "max_tokens": 6, "temperature": 0},
        "/v1/embeddings": {"input": ["x", "yz"]},
        "/v1/responses": {"input": "hello", "max_output_tokens": 7},
    }
    async with service(tmp_path) as server:
        for url, body in bodies.items():
            batch = await server.finished(await server.start(line("only", url, **body), url))
            answers = await server.answers(batch.output_file_id)
            alone = (await server.http.post(url, json=body)).json()
            answered = answers["only"]["response"]["body"]
            assert _contents(answered) == _contents(alone)


def _contents(answer: dict[str, Any]) -> Any:
    """What an answer says: all but its ids and times."""
    if "output" in answer:
        return [item["content"] for item in answer["output"]]
    if "choices" in answer:
        return [answer["choices"], answer["usage"]["total_tokens"]]
    return answer


async def test_lines_that_cannot_be_answered_are_in_the_error_file(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}]
    content = [
        line("good"),
        line("stream", messages=messages, stream=True),
        line("model", messages=messages, model="other"),
        line("field", messages=messages, temperature="warm"),
    ]
    async with service(tmp_path) as server:
        batch = await server.finished(await server.start(b"\n".join(content)))
        assert batch.status == "completed"
        assert (await server.answers(batch.output_file_id)).keys() == {"good"}
        errors = await server.answers(batch.error_file_id)
        said = {i: (e["response"]["status_code"], _param(e)) for i, e in errors.items()}
        assert said == {
            "stream": (400, "stream"),
            "model": (404, "model"),
            "field": (400, "temperature"),
        }


def _param(item: dict[str, Any]) -> str:
    param: str = item["response"]["body"]["error"]["param"]
    return param


async def test_a_background_response_is_refused_by_name(tmp_path: Path) -> None:
    url = "/v1/responses"
    async with service(tmp_path) as server:
        content = line("r", url, input="hi", background=True)
        batch = await server.finished(await server.start(content, url))
        assert _param((await server.answers(batch.error_file_id))["r"]) == "background"


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        (b"", "empty_file", None),
        (b"\n\r\n  \n", "empty_file", None),
        (line("a") + b"\nnonsense", "invalid_json_line", 2),
        (line("a") + b"\n\n\xff\xfe", "invalid_json_line", 3),
        (b"\xff\xfe" + line("a").decode().encode("utf-16-le"), "invalid_json_line", 1),
        (line("a") + b"\n[1]", "invalid_line", 2),
        (line("a") + b"\n" + line("a"), "duplicate_custom_id", 2),
        (line("a", "/v1/completions", prompt="a"), "mismatched_url", 1),
        (line(""), "invalid_custom_id", 1),
        (line("a").replace(b"POST", b"GET"), "invalid_method", 1),
        (line("a").replace(b'"body": {', b'"body": [{').replace(b"}}", b"}]}"), "invalid_body", 1),
        (line("a").replace(b'"method"', b'"colour": 1, "method"'), "invalid_line", 1),
        (line("a").replace(b'"method": "POST", ', b""), "invalid_line", 1),
        (b"\n".join([line(str(i)) for i in range(9)]), "too_many_lines", None),
        (line("a", prompt="x" * 10_000_000), "line_too_long", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_input_fails_with_the_number_of_the_line(
    tmp_path: Path, content: bytes, code: str, number: int | None
) -> None:
    async with service(tmp_path, max_lines=8) as server:
        batch = await server.finished(await server.start(content))
        assert batch.status == "failed"
        assert batch.failed_at is not None
        assert batch.errors is not None
        (problem,) = batch.errors.data or []
        assert (problem.code, problem.line) == (code, number)
        assert problem.message


async def test_a_mark_windows_line_ends_and_empty_lines_are_accepted(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + line("a") + b"\r\n\r\n" + line("b") + b"\r\n"
    async with service(tmp_path) as server:
        batch = await server.finished(await server.start(content))
        assert (await server.answers(batch.output_file_id)).keys() == {"a", "b"}


async def test_what_some_clients_take_for_a_line_end_is_escaped(tmp_path: Path) -> None:
    names = ["a\u2028b", "a\u2029b", "a\x85b", "a\nb", "\u00e9\u4e2d"]
    async with service(tmp_path) as server:
        batch = await server.finished(await server.start(b"\n".join(map(line, names))))
        assert (await server.answers(batch.output_file_id)).keys() == set(names)


async def test_files_are_listed_in_pages_and_deleted(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        ids = [await server.upload(line("a"), f"{i}.jsonl") for i in range(5)]
        files = server.sdk.files
        assert [file.id async for file in await files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in await files.list(limit=2, order="asc")] == ids
        assert [file.id async for file in await files.list(purpose="batch_output")] == []
        file = await files.retrieve(ids[0])
        assert (file.filename, file.bytes, file.purpose) == ("0.jsonl", len(line("a")), "batch")
        assert (await files.content(ids[0])).content == line("a")
        assert (await files.delete(ids[0])).deleted
        for call in (files.retrieve, files.content, files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(ids[0])
        assert len(names_in(tmp_path / "files")) == 4


async def test_batches_are_listed_in_pages(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        ids = [(await server.start(line("a"))).id for _ in range(5)]
        found = [batch.id async for batch in await server.sdk.batches.list(limit=2)]
        assert found == ids[::-1]


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a\\..\\b.jsonl", "..", "x\r\ny", '"; name="purpose', ""]
)
async def test_a_name_is_a_label_and_no_path(tmp_path: Path, name: str) -> None:
    async with service(tmp_path / "store") as server:
        form = {"file": (name or " ", line("a"))}
        answer = await server.http.post("/v1/files", files=form, data={"purpose": "batch"})
        assert answer.status_code == 200
        label = answer.json()["filename"]
        assert not set("/\\\r\n") & set(label)
        assert names_in(tmp_path / "store" / "files") == [answer.json()["id"]]
        assert names_in(tmp_path) == ["store"]


@pytest.mark.parametrize("file_id", ["..", "../batches.sqlite", "%2e%2e%2fbatches.sqlite"])
async def test_an_id_is_no_path(tmp_path: Path, file_id: str) -> None:
    async with service(tmp_path) as server:
        for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
            url = httpx.URL("http://test", raw_path=path.encode())
            assert (await server.http.get(url)).status_code == 404


async def test_files_and_batches_belong_to_their_key(tmp_path: Path) -> None:
    config = ServerConfig("fake", api_keys=tenants("mine", "theirs"))
    async with serve(config=config, batches=BatchConfig(tmp_path)) as app, client_of(app) as http:
        mine, theirs = Service(http, "mine"), Service(http, "theirs")
        batch = await mine.finished(await mine.start(lines(3)))
        for file_id in (batch.input_file_id, batch.output_file_id or ""):
            with pytest.raises(openai.NotFoundError):
                await theirs.sdk.files.content(file_id)
            with pytest.raises(openai.NotFoundError):
                await theirs.sdk.files.delete(file_id)
            with pytest.raises(openai.NotFoundError):
                await theirs.sdk.files.list(after=file_id)
        with pytest.raises(openai.NotFoundError):
            await theirs.sdk.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.sdk.batches.cancel(batch.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.sdk.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            )
        assert (await theirs.sdk.files.list()).data == []
        assert (await theirs.sdk.batches.list()).data == []


async def test_owners_stay_the_same_in_the_next_server(tmp_path: Path) -> None:
    config = ServerConfig("fake", api_keys=tenants("mine"))
    ids = []
    for _ in range(2):
        async with (
            serve(config=config, batches=BatchConfig(tmp_path)) as app,
            client_of(app) as http,
        ):
            mine = Service(http, "mine")
            ids.append(await mine.upload(line("a")))
            assert [file.id for file in (await mine.sdk.files.list(order="asc")).data] == ids


async def test_limits_are_named(tmp_path: Path) -> None:
    options = {"max_file_size": 1000, "max_storage": 1500, "max_batches": 1}
    async with service(tmp_path, **options) as server:
        with pytest.raises(openai.APIStatusError, match="--batch-file-size") as large:
            await server.upload(b"x" * 1001)
        assert large.value.status_code == 413
        kept = await server.upload(b"x" * 800)
        with pytest.raises(openai.APIStatusError, match="--batch-storage"):
            await server.upload(b"x" * 800)
        await server.sdk.files.delete(kept)
        await server.upload(b"x" * 800)
        assert len(names_in(tmp_path / "files")) == 1


async def test_there_is_an_end_to_small_files_and_to_old_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmserve.batches.storage.MOST_FILES", 6)
    monkeypatch.setattr("glmserve.batches.storage.MOST_BATCHES", 3)
    async with service(tmp_path) as server:
        ids = [(await server.finished(await server.start(b"wrong"))).id for _ in range(5)]
        await server.upload(b"")
        with pytest.raises(openai.APIStatusError, match="6 files"):
            await server.upload(b"")
        assert len(names_in(tmp_path / "files")) == 6
        found = [batch.id async for batch in await server.sdk.batches.list()]
        assert found == ids[:1:-1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"input_file_id": "../x"}, "input_file_id"),
        ({"input_file_id": 7}, "input_file_id"),
        ({"output_expires_after": {"anchor": "now", "seconds": 4000}}, "output_expires_after"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_batches_that_mean_nothing_are_refused(
    tmp_path: Path, body: dict[str, Any], param: str
) -> None:
    async with service(tmp_path) as server:
        file_id = await server.upload(line("a"))
        whole = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "1h", **body}
        answer = await server.http.post("/v1/batches", json=whole)
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"messages": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"n": 1e999}',
        b'{"max_tokens": 5, "max_tokens": 6}',
    ],
    ids=["list", "nested", "surrogate", "infinite", "twice"],
)
async def test_hostile_bodies_harm_their_own_line_only(tmp_path: Path, body: bytes) -> None:
    hostile = b'{"custom_id": "evil", "method": "POST", "url": "%s", "body": %s}'
    async with service(tmp_path) as server:
        content = line("good") + b"\n" + hostile % (CHAT.encode(), body)
        batch = await server.finished(await server.start(content))
        if batch.status == "completed":
            answers = await server.answers(batch.output_file_id)
            assert "good" in answers
            if batch.error_file_id is not None:
                assert (await server.answers(batch.error_file_id)).keys() == {"evil"}
        else:
            assert batch.errors is not None
            assert [problem.line for problem in batch.errors.data or []] == [2]
        assert (await server.http.get("/health")).status_code == 200


async def test_a_key_has_so_many_unfinished_batches(tmp_path: Path) -> None:
    async with service(tmp_path, max_batches=1) as server:
        first = await server.start(lines(200))
        with pytest.raises(openai.RateLimitError, match="1 unfinished"):
            await server.start(lines(1))
        await server.finished(first)
        await server.start(lines(1))


async def test_cancelling_keeps_what_is_answered_and_names_the_rest(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        batch = await server.start(lines(500))
        while ((batch.request_counts and batch.request_counts.completed) or 0) < 10:
            batch = await server.sdk.batches.retrieve(batch.id)
        with pytest.raises(openai.BadRequestError, match="reads this file"):
            await server.sdk.files.delete(batch.input_file_id)
        assert (await server.sdk.batches.cancel(batch.id)).status == "cancelling"
        batch = await server.finished(batch)
        assert batch.status == "cancelled"
        output = await server.answers(batch.output_file_id)
        errors = await server.answers(batch.error_file_id)
        assert output.keys() | errors.keys() == {f"request-{i}" for i in range(500)}
        assert not output.keys() & errors.keys()
        assert {item["error"]["code"] for item in errors.values()} == {"batch_cancelled"}
        await server.sdk.files.delete(batch.input_file_id)
        assert (await server.sdk.batches.cancel(batch.id)).status == "cancelled"


async def test_cancelling_at_once(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        batch = await server.start(lines(20))
        await server.sdk.batches.cancel(batch.id)
        batch = await server.finished(batch)
        assert batch.status == "cancelled"
        assert len(await server.answers(batch.error_file_id)) <= 20


async def test_lines_expire_with_the_window(tmp_path: Path) -> None:
    async with serve(batches=BatchConfig(tmp_path)) as app, client_of(app) as http:
        server = Service(http)
        app.state.context.engine.drain("for a while")
        batch = await server.start(lines(5))
        storage = app.state.context.batches
        while (await server.sdk.batches.retrieve(batch.id)).status == "validating":
            await asyncio.sleep(0.01)
        runner = app.state.batches
        (job,) = runner._jobs.values()
        job.batch.expires = 0
        job.close()
        await storage.update_batch(job.batch)
    async with service(tmp_path) as server:
        batch = await server.finished(batch)
        assert batch.status == "expired"
        errors = await server.answers(batch.error_file_id)
        assert {item["error"]["code"] for item in errors.values()} == {"batch_expired"}
        assert len(errors) == 5


async def test_a_draining_server_feeds_no_lines_and_goes_on_later(tmp_path: Path) -> None:
    async with serve(batches=BatchConfig(tmp_path)) as app, client_of(app) as http:
        server, engine = Service(http), app.state.context.engine
        engine.drain("for a while")
        batch = await server.start(lines(3))
        while batch.status == "validating":
            batch = await server.sdk.batches.retrieve(batch.id)
            await asyncio.sleep(0)
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 0
        engine.stop_draining()
        assert (await server.finished(batch)).status == "completed"


async def test_the_next_server_goes_on(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        batch = await server.start(lines(300))
        while not (batch.request_counts and batch.request_counts.completed):
            batch = await server.sdk.batches.retrieve(batch.id)
    async with service(tmp_path) as server:
        batch = await server.finished(batch)
        assert batch.status == "completed"
        answers = await server.answers(batch.output_file_id)
        assert answers.keys() == {f"request-{i}" for i in range(300)}


async def test_files_expire(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        file = await server.sdk.files.create(
            file=("a", line("a")),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert file.expires_at == file.created_at + 3600
        assert file.expires_at < 2**33
    async with serve(batches=BatchConfig(tmp_path)) as app, client_of(app) as http:
        app.state.context.batches.now = lambda: file.created_at + 3601.0
        with pytest.raises(openai.NotFoundError):
            await Service(http).sdk.files.retrieve(file.id)
        assert (await Service(http).sdk.files.list()).data == []
        assert not names_in(tmp_path / "files")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({}, "purpose"),
        ({"purpose": "batch", "colour": "red"}, "colour"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"purpose": "batch", "expires_after[seconds]": "4000"}, "expires_after.anchor"),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "9",
            },
            "expires_after.seconds",
        ),
    ],
)
async def test_forms_that_mean_nothing_are_refused(
    tmp_path: Path, fields: dict[str, str], param: str
) -> None:
    async with service(tmp_path) as server:
        form = {"file": ("a", line("a"))}
        answer = await server.http.post("/v1/files", files=form, data=fields)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert not names_in(tmp_path / "files")


@pytest.mark.parametrize("window", ["24", "0h", "31d", "24 h", "h", "1e3h", "-1h"])
async def test_windows_that_mean_nothing_are_refused(tmp_path: Path, window: str) -> None:
    async with service(tmp_path) as server:
        file_id = await server.upload(line("a"))
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": window}
        answer = await server.http.post("/v1/batches", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "completion_window"


async def test_without_a_folder_the_routes_name_the_option() -> None:
    async with serve() as app, client_of(app) as http:
        for path in ("/v1/files", "/v1/files/a", "/v1/files/a/content", "/v1/batches"):
            answer = await http.get(path)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "batches_disabled"
            assert "--batch-dir" in answer.json()["error"]["message"]


async def test_metrics_count_lines_and_batches(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        await server.finished(await server.start(lines(3)))
        text = (await server.http.get("/metrics")).text
        for expected in (
            'glmserve_batch_lines_total{model_name="fake",outcome="completed"} 3.0',
            'glmserve_batches_ended_total{model_name="fake",status="completed"} 1.0',
            'glmserve_batches_unfinished{model_name="fake"} 0.0',
            'glmserve_background_requests{model_name="fake"} 0.0',
        ):
            assert expected in text
