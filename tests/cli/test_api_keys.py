"""Where API keys come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from glmserve.cli.api_keys import read_api_keys
from glmserve.config import DEFAULT_TENANT, Tenant
from glmserve.errors import OptionError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GLMSERVE_API_KEY", raising=False)
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    return path


def keys_of(given: Sequence[str], path: Path | None) -> list[str]:
    return list(read_api_keys(given, path, DEFAULT_TENANT))


def test_a_line_may_say_whose_key_it_is_and_what_they_may_have(file: Path) -> None:
    usual = Tenant("", max_requests=3, tokens_per_minute=500)
    file.write_text(
        "plain\n"
        "one name=team weight=2.5 priority=1\n"
        "two   name=team  weight=2.5 priority=1\n"
        "free name=boss max-requests=0 tokens-per-minute=0\n"
    )
    keys = read_api_keys(["option"], file, usual)
    team = Tenant("team", 2.5, 1, max_requests=3, tokens_per_minute=500)
    assert keys == {
        "option": Tenant("key 1", max_requests=3, tokens_per_minute=500),
        "plain": Tenant("key 2", max_requests=3, tokens_per_minute=500),
        "one": team,
        "two": team,
        "free": Tenant("boss"),
    }


def test_all_sources_count_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys_of([], None) == []
    file.write_text("# ours\n\nfile-1\n  file-2  \r\n  # theirs\nfile-1\noption\nclé#3\n")
    assert keys_of([], file) == ["file-1", "file-2", "option", "clé#3"]
    monkeypatch.setenv("GLMSERVE_API_KEY", "environment")
    keys = ["option", "environment", "file-1", "file-2", "clé#3"]
    assert keys_of(["option"], file) == keys
    assert keys_of([], None) == ["environment"]
    assert keys_of(["one", "two", "one"], None) == ["one", "two", "environment"]


@pytest.mark.parametrize("key", ["", "a b", "a\n"])
def test_a_wrong_key_in_the_environment_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMSERVE_API_KEY", key)
    with pytest.raises(OptionError, match="GLMSERVE_API_KEY must not"):
        keys_of([], None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no key in it"),
        (b"# only\n\n  # comments", "has no key in it"),
        (b"fine\nsecret key\n", "line 2: .* must not contain blanks"),
        (b"secret name=\n", "line 1: .* NAME=VALUE"),
        (b"secret weight=heavy\n", "line 1: weight: 'heavy' is no number"),
        (b"secret weight=0\n", "weight: 0 is no weight"),
        (b"secret priority=1.5\n", "priority: '1.5' is no whole number"),
        (b"secret max-requests=-1\n", "max-requests: -1 is too small"),
        (b"secret tokens=7\n", "line 1: behind a key come only name, weight,"),
        (b"secret name=a\nsecret name=b\n", "line 2: this key is given twice"),
        (b"a name=x weight=2\nsecret name=x\n", "line 2: x has other settings"),
        (b"\xff\xfe", "not valid UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_without_telling_its_keys(
    file: Path, content: bytes, said: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(OptionError, match=said) as caught:
        keys_of([], file)
    assert str(file) in caught.value.message
    assert "secret" not in caught.value.message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is a directory"):
        keys_of([], tmp_path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_all_users_can_read_is_a_warning(
    file: Path, mode: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("secret\n")
    file.chmod(mode)
    assert keys_of([], file) == ["secret"]
    text = capsys.readouterr().err
    assert ("warning" in text) == warned
    assert text.count("\n") == warned
    assert "secret" not in text
