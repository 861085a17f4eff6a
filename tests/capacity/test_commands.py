"""`glmserve bench calibrate` and `glmserve plan`, from a device to an answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from glmserve.capacity.calibration import read_calibration
from glmserve.capacity.workload import recorded
from glmserve.errors import OptionError
from support.commands import Finished, run_here
from support.server_process import ServerProcess


def run(*arguments: object) -> Finished:
    return run_here(*map(str, arguments))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small server on the CPU."""
    file = tmp_path_factory.mktemp("calibration") / "cpu.json"
    small = ("--max-batch-size", 4, "--max-step-tokens", 64, "--max-model-len", 256)
    done = run("bench", "calibrate", "--output", file, *small)
    assert done.returncode == 0, done.stderr
    return file


def test_what_was_measured(calibration: Path) -> None:
    found = read_calibration(calibration)
    assert found.costs.decode.rows == (1, 2, 4)
    assert found.costs.prefill.rows == (2, 4, 8, 16, 32, 64)
    assert 0 < found.costs.decode.at(1) <= found.costs.decode.at(4)
    assert 0 < found.costs.prefill.at(2) <= found.costs.prefill.at(64)
    assert (found.limits.max_step_tokens, found.limits.max_context) == (64, 256)
    assert found.command.startswith("glmserve bench calibrate")


def test_it_writes_no_file_twice(calibration: Path) -> None:
    done = run("bench", "calibrate", "--output", calibration)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the file exists already" in done.stderr


def test_more_servers_for_a_load_that_is_too_much_for_one(calibration: Path) -> None:
    """A wait of a quarter of the time in which one server answers all, however fast it is."""
    costs = read_calibration(calibration).costs
    one_server = 300 * (costs.prefill.at(64) + 32 * costs.decode.at(4) / 4)
    load = ("--rate", 3000 / one_server, "--requests", 300)
    sizes = ("--prompt-tokens", 64, "--output-tokens", 32)
    target = ("--slo-ttft", one_server / 4, "--servers", 1, 2, 64)
    done = run("plan", calibration, *load, *sizes, *target)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if re.match(r" +\d+ +\d+ ", line)]
    assert [line[0] for line in lines] == ["1", "2", "64"]
    assert (lines[0][-1], lines[2][-1]) == ("missed", "kept")
    assert done.stdout.splitlines()[-1].endswith("--max-batch-size 4 will do.")


def test_targets_that_nothing_keeps(calibration: Path) -> None:
    load = ("--rate", 1, "--requests", 5, "--prompt-tokens", 64, "--output-tokens", 32)
    done = run("plan", calibration, *load, "--slo-itl", 0.000001)
    assert done.returncode == 1
    assert done.stdout.endswith("None of these keeps the targets.\n")


def test_the_requests_of_a_recording(calibration: Path, tmp_path: Path) -> None:
    import httpx

    recording = tmp_path / "day.rec"
    with ServerProcess("--device", "null", "--record", str(recording)) as server:
        for length in (3, 5):
            body = {"prompt": "abc", "max_tokens": length, "ignore_eos": True}
            httpx.post(f"{server.url}/v1/completions", json=body).raise_for_status()
        assert server.stop() == 0
    loads = recorded(recording)
    assert [load.num_output_tokens for load in loads] == [3, 5]
    assert loads[0].time < loads[1].time
    done = run("plan", calibration, "--trace", recording, "--servers", 1)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +1 +4 .*%$", done.stdout, re.MULTILINE), "no target, so no verdict"
    assert "will do" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--rate", "1", "--servers", "1"], 2, "no file of `glmserve bench calibrate`"),
        ([], 2, "--trace --rate"),
        (["--rate", "1"], 2, "give --slo-ttft or --slo-itl"),
        (["--trace", "x", "--slo-itl", "1", "--requests", "3"], 2, "--requests is for --rate"),
        (["--trace", "x", "--slo-itl", "1", "--seed", "0"], 2, "--seed is for --rate"),
        (["--rate", "1", "--slo-itl", "1", "--plot", "x.foo"], 2, "end in .png or .svg"),
        (["--rate", "1", "--slo-itl", "1", "--plot", "no/x.png"], 2, "there is no folder no"),
        (["--rate", "0"], 2, "a rate is a number above 0"),
        (["--rate", "1", "--prompt-tokens", "some"], 2, "uniform:64:256"),
        (["--rate", "1", "--trace", "x"], 2, "not allowed with"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "other.json").write_text("{}")
    done = run("plan", tmp_path / "other.json", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def refused(calibration: Path, *arguments: object) -> str:
    done = run("plan", calibration, "--rate", 1, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    return done.stderr


def test_a_batch_that_was_not_measured(calibration: Path) -> None:
    said = refused(calibration, "--slo-itl", 1, "--max-batch-size", 2, 5)
    assert "--max-batch-size 5: the calibrated server runs 4 requests at once" in said


def test_more_servers_than_requests(calibration: Path) -> None:
    said = refused(calibration, "--requests", 3, "--servers", 1, 600)
    assert "--servers 600: the load has only 3 requests" in said


def test_requests_that_no_server_takes(calibration: Path) -> None:
    """They are refused at once, however long, and one server shows it."""
    load = ("--rate", 1, "--requests", 2, "--prompt-tokens", 10**9, "--slo-ttft", 1)
    done = run("plan", calibration, *load)
    assert done.returncode == 1
    assert done.stdout.count("2 requests do not fit") == 1
    assert "A request has 256 tokens of context" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "no/cpu.json"], "there is no folder"),
        (["--output", "cpu.json", "--pipeline-parallel-size", "2"], "measure without stages"),
        (
            ["--output", "cpu.json", "--device", "null", "--max-model-len", "100"],
            "64 decodes at once are measured with 105 tokens each, and the context is 100",
        ),
    ],
)
def test_what_cannot_be_measured(tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [str(tmp_path / a) if a.endswith(".json") else a for a in arguments]
    done = run("bench", "calibrate", *given)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_version(calibration: Path, tmp_path: Path) -> None:
    changed = json.loads(calibration.read_text()) | {"version": "0.0.1"}
    (tmp_path / "old.json").write_text(json.dumps(changed))
    with pytest.raises(OptionError, match=r"measured by glmserve 0\.0\.1"):
        read_calibration(tmp_path / "old.json")


@pytest.mark.parametrize("curve", [[[], []], [[1, 2], [0.1]], [[2, 1], [0.1, 0.2]], [[1], ["a"]]])
def test_a_file_that_was_damaged(calibration: Path, tmp_path: Path, curve: list[object]) -> None:
    found = json.loads(calibration.read_text())
    found["costs"]["decode"] = curve
    (tmp_path / "damaged.json").write_text(json.dumps(found))
    with pytest.raises(OptionError, match="no file of `glmserve bench calibrate`"):
        read_calibration(tmp_path / "damaged.json")
