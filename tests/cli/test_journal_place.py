"""--journal: a folder, or an address whose password is not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.cli.main import build_parser, main
from glmserve.config import RedisAddress


def place(text: str) -> Path | RedisAddress:
    found: Path | RedisAddress = build_parser().parse_args(["serve", "--journal", text]).journal
    return found


def test_places() -> None:
    assert place("/var/lib/glmserve") == Path("/var/lib/glmserve")
    for address in ("redis://h", "redis://h:7000/2", "rediss://me:x@h:1/0", "unix:///run/r?db=1"):
        assert place(address) == RedisAddress(address)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://:secret@h/0", "http:// is no place for a journal"),
        ("redis+sentinel://:secret@h/0", "redis+sentinel:// is no place"),
        ("redis://:secret@/0", "redis://HOST:PORT/DATABASE"),
        ("redis://:secret@h:port/0", "redis://HOST:PORT/DATABASE"),
        ("redis://:secret@h/first", "redis://HOST:PORT/DATABASE"),
        ("unix://:secret@run/redis", "redis://HOST:PORT/DATABASE"),
    ],
)
def test_what_is_no_place(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        place(text)
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error


def test_a_store_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("redis", reason="needs the redis extra")
    given = ["serve", "--device", "null", "--port", "0", "--journal", "redis://:secret@127.0.0.1:1"]
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("glmserve: error: --journal redis://127.0.0.1:1 cannot be used: ")
    assert "secret" not in line
