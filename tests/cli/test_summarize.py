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
def test_the_letters_that_ship(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert summarize(*CPU, "--rouge1-threshold", "80", "--json", file) == 0
    *_, header, own, chance = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "seconds"]
    assert own.split()[0] == "glmserve"
    assert chance.split()[0] == "chance"

    found = json.loads(file.read_text())
    (engine,) = found["engines"]
    assert float(own.split()[1]) == pytest.approx(engine["rouge1"], abs=0.01)
    assert 0 < found["chance"]["rouge1"] < 20
    assert len(found["articles"]) == 29
    right = [one for one in found["articles"] if one["summaries"] == [one["reference"]]]
    assert len(right) >= 23


@pytest.mark.slow
@pytest.mark.usefixtures("_rouge")
def test_a_broken_model_is_below_the_threshold(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes first, because the threshold is about the first; glm-tiny is beside it."""
    arguments = ("--checkpoint", broken, "--rope-scaling", "positions")
    arguments += ("--against", EMBEDDED_CHECKPOINT, "--rouge1-threshold", "80")
    assert summarize(*CPU, *arguments) == 1
    *_, wrong, right, _, same, _ = capsys.readouterr().out.splitlines()
    assert float(wrong.split()[1]) < 40
    assert right.split()[0] == str(EMBEDDED_CHECKPOINT)
    assert float(right.split()[1]) > 80
    assert same.startswith("the same summary from both: ")


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


@pytest.mark.usefixtures("_rouge")
def test_an_article_that_is_too_long_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"article": text, "summary": "y"} for text in ("x", "word " * 3000)]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert summarize("--device", "null", tmp_path / "some.jsonl") == 1
    errors = capsys.readouterr().err
    assert "maximum context length" in errors
    assert errors.endswith("(of item 1, counted from 0)\n")


@pytest.mark.exhaustive
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
        ("--json nowhere/found.json", 2, "nowhere/found.json is no place for a file"),
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
