"""The recorder of answers: what it reads, what it replaces, and what it finds different."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from wire import compare, file_name
from wire_http import WireAnswer, read_answer
from wire_record import numbered_ids, readable_lines, record_of
from wire_references import Exchange, resolved
from wire_requests import SERVERS
from wire_requests.request import WireRequest, get, post
from wire_streams import finest

ID, OTHER = "0123456789abcdef" * 2, "f" * 32
STREAM = ("content-type: text/event-stream; charset=utf-8",)


def answer(body: bytes, headers: Sequence[str] = ()) -> WireAnswer:
    return WireAnswer("HTTP/1.1 200 OK", tuple(headers), body)


def test_chunks_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
    read = read_answer(io.BytesIO(head + chunks))
    assert read.body == b"abc0123456789"
    assert read.head == "HTTP/1.1 200 OK\nTransfer-Encoding: chunked"


def test_a_body_is_as_long_as_its_head_says() -> None:
    raw = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabcdef"
    assert read_answer(io.BytesIO(raw)).body == b"abc"
    assert read_answer(io.BytesIO(raw), has_body=False).body == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
def test_an_answer_that_is_cut_is_no_answer(raw: bytes) -> None:
    with pytest.raises(EOFError):
        read_answer(io.BytesIO(raw))


def test_ids_are_numbered_and_equal_ones_stay_equal() -> None:
    text = f'"chatcmpl-{ID}" "call_{ID[:24]}" {OTHER}:3:2 resp_{ID}'
    assert numbered_ids(text) == '"chatcmpl-<id32 0>" "call_<id24 1>" <id32 2>:3:2 resp_<id32 0>'
    for same in ("msg_own", f"a{ID}", ID[:20]):
        assert numbered_ids(same) == same


def test_a_record_has_nothing_that_changes_from_run_to_run() -> None:
    first, second = (
        record_of(
            get("r", "/v1/x"),
            answer(
                b'{"id":"resp_%s","created_at":%d,"completed_at":null}' % (name.encode(), time),
                (f"date: {time}", "allow: " + allowed, f"x-ratelimit-reset-tokens: {time}s"),
            ),
        )
        for name, time, allowed in ((ID, 1700000000, "GET, HEAD"), (OTHER, 1700000001, "HEAD, GET"))
    )
    assert first == second
    assert '{"id":"resp_<id32 0>","created_at":<time>,"completed_at":null}' in first


def test_values_of_metrics_are_replaced_and_their_names_are_not() -> None:
    body = b'# HELP a 5 things\na_total{x="b"} 3.0\nc 1e-05\n'
    text = record_of(get("m", "/metrics"), answer(body, ("content-length: 47",)))
    assert '# HELP a 5 things\na_total{x="b"} <value>\nc <value>\n' in text
    assert "content-length: <length>" in text


def test_references_are_resolved() -> None:
    first = post("first one", "/", {}, Idempotency_Key="k-{{try}}")
    body = b'id: a:1:0\ndata: {"id":"resp_1"}\n\nid: a:2:1\ndata: {}\n\n'
    earlier = {"first one": Exchange(resolved(first, {}, 3), answer(body))}
    second = post(
        "second",
        "/{{id first one}}",
        {"previous": "{{id first one}}"},
        Last_Event_ID="{{event first one 1}}",
        Idempotency_Key="{{key first one}}",
    )
    sent = resolved(second, earlier, 0)
    assert sent.path == "/resp_1"
    assert sent.body == b'{"previous": "resp_1"}'
    assert dict(sent.headers) == {"Last-Event-ID": "a:2:1", "Idempotency-Key": "k-3"}
    with pytest.raises(LookupError):
        resolved(second, {}, 0)


def test_the_finest_stream_is_taken() -> None:
    bodies = [b"data: %d\n\n" % n * count for n, count in enumerate([4, 2, 3, 3, 2, 3, 3, 3, 2])]
    sent = []

    def send(attempt: int) -> Exchange:
        sent.append(attempt)
        return Exchange(get("s", "/"), answer(bodies[attempt], STREAM))

    assert finest(send).answer.body == bodies[7]
    assert sent == list(range(8))


def test_an_answer_that_is_no_stream_is_asked_for_once() -> None:
    sent = []

    def send(attempt: int) -> Exchange:
        sent.append(attempt)
        return Exchange(get("s", "/"), answer(b"{}", ("content-type: application/json",)))

    assert finest(send).answer.body == b"{}"
    assert sent == [0]


def write(folder: Path, **texts: str) -> Path:
    (folder / "plain").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "plain" / f"{name}.txt").write_text(text, newline="")
    return folder


def test_recordings_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path / "before", a='{"x":1,"y":2}', b="same", c="gone", d="end\n")
    after = write(tmp_path / "after", a='{"x":1,"y":3}', b="same", d="end\r\n")
    assert compare(before, before) == 0
    capsys.readouterr()
    assert compare(before, after) == 1
    said = capsys.readouterr().out
    assert '-"y":2}\n+"y":3}' in said
    assert f"=== plain/c.txt: only in {before}" in said
    assert "=== plain/d.txt\nonly line ends differ" in said
    assert "4 answers, 3 different" in said
    with pytest.raises(SystemExit):
        compare(tmp_path / "nothing", after)


def test_long_json_is_broken_into_lines() -> None:
    lines = list(readable_lines('{"a":[{"b":"c, d"}],"e":1}'))
    assert lines == ["{", '"a":[', "{", '"b":"c, d"}],', '"e":1}']


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_requests_can_be_told_apart(server: object) -> None:
    requests: Sequence[WireRequest] = server.requests  # type: ignore[attr-defined]
    names = [file_name(request.name) for request in requests]
    assert len(set(names)) == len(names) > 0
