"""Forms, in pieces of any size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.batching.multipart import (
    MultipartParser,
    PartBegin,
    PartData,
    PartEnd,
    boundary_of,
)
from glmserve.config import BatchConfig
from glmserve.errors import InvalidRequestError
from support.fake_server import client_of, serve
from support.live_server import connect, listening

HEAD = b'Content-Disposition: form-data; name="%s"'


def parts_of(body: bytes, boundary: bytes, sizes: list[int]) -> list[tuple[str, str | None, bytes]]:
    """Name, filename and contents of each part, of a body that comes in pieces."""
    parser = MultipartParser(boundary)
    parts: list[tuple[str, str | None, bytes]] = []
    data, is_open, start = b"", False, 0
    for size in [*sizes, len(body)]:
        for event in parser.feed(body[start : start + size]):
            match event:
                case PartBegin(name, filename):
                    assert not is_open
                    is_open, data = True, b""
                    parts.append((name, filename, b""))
                case PartData(piece):
                    assert is_open
                    data += piece
                case PartEnd():
                    is_open = False
                    parts[-1] = (*parts[-1][:2], data)
        start += size
    assert parser.is_complete
    assert not is_open
    return parts


@given(
    contents=st.lists(
        st.lists(st.sampled_from([b"\r\n", b"--", b"B", b"\r", b"\n", b"-", b"x"])).map(b"".join),
        min_size=1,
        max_size=4,
    ),
    sizes=st.lists(st.integers(1, 30)),
    preamble=st.sampled_from([b"", b"ignore this\r\n", b"\r\n"]),
    padding=st.sampled_from([b"", b" ", b"\t "]),
)
def test_any_pieces_give_the_same_parts(
    contents: list[bytes], sizes: list[int], preamble: bytes, padding: bytes
) -> None:
    body = preamble
    contents = [content for content in contents if b"\r\n--BB" not in b"\r\n" + content]
    for number, content in enumerate(contents):
        head = HEAD % str(number).encode()
        body += b"--BB" + padding + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    body += b"--BB--\r\nepilogue"
    expected = [(str(number), None, content) for number, content in enumerate(contents)]
    assert parts_of(body, b"BB", sizes) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="a\tb"',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/mixed; boundary=x",
        "application/json",
        "",
    ],
)
def test_content_types_that_are_no_form(content_type: str) -> None:
    with pytest.raises(InvalidRequestError):
        boundary_of(content_type)


def test_a_boundary_may_be_quoted() -> None:
    assert boundary_of('Multipart/Form-Data; charset=x; boundary="a b\'c"') == b"a b'c"


def form(*parts: tuple[bytes, bytes], end: bytes = b"--B--\r\n") -> bytes:
    body = b"".join(b"--B\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + end


FILE = (HEAD % b"file" + b'; filename="a"', b"contents")
PURPOSE = (HEAD % b"purpose", b"batch")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(FILE, PURPOSE), 200),
        (form(PURPOSE, FILE), 200),
        (form(PURPOSE, FILE) + b"--B\r\nmore", 200),
        (form(PURPOSE, (FILE[0] + b"\r\nContent-Type: text/plain", b"")), 200),
        (form(PURPOSE, (FILE[0] + b"\r\nContent-Transfer-Encoding: base64", b"YQ==")), 400),
        (form(PURPOSE, FILE, FILE), 400),
        (form(PURPOSE, PURPOSE, FILE), 400),
        (form(PURPOSE, (HEAD % b"file", b"no filename")), 400),
        (form(PURPOSE, (b"X: y", b"no name")), 400),
        (form(PURPOSE, (HEAD % b"file" + b";" * 9000, b"")), 400),
        (form(PURPOSE, FILE, end=b""), 400),
        (form(PURPOSE, FILE).replace(b"\r\n", b"\n"), 400),
        (form(*[(HEAD % b"purpose%d" % i, b"") for i in range(20)]), 400),
        (form((HEAD % b"purpose", b"x" * 300), FILE), 400),
        (b"--Bx\r\n" + form(PURPOSE, FILE), 400),
        (b"", 400),
        (b"\r\n" * 5000, 400),
    ],
)
async def test_forms_well_formed_and_not(tmp_path: Path, body: bytes, status: int) -> None:
    headers = {"content-type": "multipart/form-data; boundary=B"}
    async with serve(batches=BatchConfig(tmp_path)) as app, client_of(app) as http:
        answer = await http.post("/v1/files", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        stored = (await http.get("/v1/files")).json()["data"]
        assert len(stored) == (status == 200)


async def test_a_client_that_leaves_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    head = (
        b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
        b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    )
    async with serve(batches=BatchConfig(tmp_path)) as app, listening(app) as port:
        async with connect(port) as client:
            await client.send(head + form(PURPOSE, FILE)[:-20])
            while not names_in(tmp_path / "files"):
                await asyncio.sleep(0.01)
        while names_in(tmp_path / "files"):
            await asyncio.sleep(0.01)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
