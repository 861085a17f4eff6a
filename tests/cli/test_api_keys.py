"""Where API keys come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.cli.api_keys import read_api_keys
from glmserve.errors import OptionError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GLMSERVE_API_KEY", raising=False)
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    return path


def test_all_sources_count_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_api_keys(None, None) == ()
    file.write_text("# ours\n\nfile-1\n  file-2  \r\n  # theirs\nfile-1\noption\nclé#3\n")
    assert read_api_keys(None, file) == ("file-1", "file-2", "option", "clé#3")
    monkeypatch.setenv("GLMSERVE_API_KEY", "environment")
    keys = ("option", "environment", "file-1", "file-2", "clé#3")
    assert read_api_keys("option", file) == keys
    assert read_api_keys(None, None) == ("environment",)


@pytest.mark.parametrize("key", ["", "a b", "a\n"])
def test_a_wrong_key_in_the_environment_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMSERVE_API_KEY", key)
    with pytest.raises(OptionError, match="GLMSERVE_API_KEY must not"):
        read_api_keys(None, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no key in it"),
        (b"# only\n\n  # comments", "has no key in it"),
        (b"fine\nsecret key\n", "line 2 must not contain blanks"),
        (b"\xff\xfe", "not valid UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_without_telling_its_keys(
    file: Path, content: bytes, said: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(OptionError, match=said) as caught:
        read_api_keys(None, file)
    assert str(file) in caught.value.message
    assert "secret" not in caught.value.message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is a directory"):
        read_api_keys(None, tmp_path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_can_read_is_a_warning(
    file: Path, mode: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("secret\n")
    file.chmod(mode)
    assert read_api_keys(None, file) == ("secret",)
    text = capsys.readouterr().err
    assert ("warning" in text) == warned
    assert text.count("\n") == warned
    assert "secret" not in text
