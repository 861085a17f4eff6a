"""`glmserve bench summarize`: glm-tiny's letters, a broken model, and transformers beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glmserve.cli.main import main
from glmserve.config import EMBEDDED_CHECKPOINT

CPU = ("--device", "cpu", "--dtype", "float32")


def summarize(*arguments: str | Path) -> int:
    """Run the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main(["bench", "summarize", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def _rouge() -> None:
    pytest.importorskip("rouge_score", reason="the rouge extra is missing")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """glm-tiny with a wrong rotation, as of a kernel with a mistake."""
    folder = tmp_path / "broken"
    shutil.copytree(EMBEDDED_CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_ratio": 2}))
    return folder


@pytest.mark.usefixtures("_rouge")
def test_the_letters_tell_a_right_model_from_a_broken_one(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are run at once: the broken one is the second checkpoint."""
    file = tmp_path / "found.json"
    arguments = ("--against", broken, "--rope-scaling", "positions", "--rouge1-threshold", "70")
    assert summarize(*CPU, *arguments, "--json", file) == 0
    *_, header, own, other, chance, same = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "seconds"]
    assert own.split()[0] == "glmserve"
    assert other.split()[0] == str(broken)
    assert chance.split()[0] == "chance"
    assert same.startswith("the same summary from both: ")

    found = json.loads(file.read_text())
    right, wrong = (engine["rouge1"] for engine in found["engines"])
    assert right > 80
    assert found["chance"]["rouge1"] < 20
    assert wrong < 40
    assert float(own.split()[1]) == pytest.approx(right, abs=0.01)
    assert len(found["articles"]) == len(found["articles"][0]["summaries"]) + 27 == 29


@pytest.mark.usefixtures("_rouge")
def test_the_exit_code_says_what_is_below_the_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.jsonl").write_text('{"article": "x", "summary": "y"}\n')
    arguments = ("--device", "null", "--rouge1-threshold", "50", tmp_path / "some.jsonl")
    assert summarize(*arguments) == 1
    output = capsys.readouterr().out
    assert output.endswith("ROUGE-1 is 0.00, below 50\n")
    assert "chance" not in output  # there is no other reference


@pytest.mark.slow
@pytest.mark.usefixtures("_rouge")
def test_transformers_writes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the bench extra is missing")
    file = tmp_path / "found.json"
    assert summarize(*CPU, "--against", "transformers", "--json", file) == 0
    found = json.loads(file.read_text())
    assert [engine["name"] for engine in found["engines"]] == ["glmserve", "transformers"]
    assert all(len(set(article["summaries"])) == 1 for article in found["articles"])
    assert found["engines"][0]["output_tokens"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("_rouge")
def test_what_transformers_cannot_load_is_a_line_after_the_table(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A last norm is what its class always has."""
    config = json.loads((broken / "config.json").read_text())
    del config["rope_ratio"]
    config["apply_residual_connection_post_layernorm"] = True
    (broken / "config.json").write_text(json.dumps(config))
    arguments = ("--checkpoint", broken, "--against", "transformers", "--num-articles", "2")
    assert summarize(*CPU, *arguments) == 1
    output, errors = capsys.readouterr()
    assert output.splitlines()[-2].split()[0] == "glmserve"
    assert "--against transformers: its Glm class adds to the stream" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("nowhere.jsonl", 2, "nowhere.jsonl: No such file"),
        ("--prompt short", 2, "write {article}"),
        ("--rouge1-threshold 101", 2, "101 is not between 0 and 100"),
        ("--against transformers --load-format dummy", 2, "random weights are in no file"),
        ("--against nowhere/at/all", 1, "nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "nowhere/at" in arguments:
        pytest.importorskip("rouge_score", reason="the rouge extra is missing")
    assert summarize(*arguments.split(), "--device", "null") == code
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1
