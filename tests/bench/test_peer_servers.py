"""Peers as processes: an engine that takes jobs, one that fails, and whole rounds."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import peers_rounds
from cpu_ceilings import CpuCeilings
from peer_servers.running import PeerError, start
from peer_servers.setup import PROGRAMS, Launch, Peer, Setup
from peers_rounds import Comparison
from step_floor import SHAPES

ENGINE = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from job_loop import run_jobs, take_standard_output
    answers = take_standard_output()
    print("an engine that is talkative")
    def generate(prompts, output_tokens, on_token):
        if len(prompts) > int(sys.argv[2]):
            raise SystemExit("too many prompts")
        for _ in range(output_tokens - (len(prompts[0]) == 13)):
            time.sleep(0.001)
            for index in range(len(prompts)):
                on_token(index)
    run_jobs(generate, answers)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(textwrap.dedent(ENGINE))
    return path


def launch(engine: Path, most_prompts: int = 100) -> Launch:
    return Launch([sys.executable, str(engine), str(PROGRAMS), str(most_prompts)])


def test_an_engine_answers_jobs(engine: Path, tmp_path: Path) -> None:
    running = start(launch(engine), tmp_path / "log")
    try:
        served = running.complete([[1, 2], [3, 4]], 20)
        assert 0 < served.tokens_per_second <= 2 * 1000
        assert served.inter_token_ms >= 1
        assert running.complete([[1, 2]], 1).inter_token_ms == 0
        assert running.memory() > 2**20
        with pytest.raises(PeerError, match=r"answers of \{19\} tokens"):
            running.complete([[1] * 13], 20)
    finally:
        running.close()
    assert "talkative" in (tmp_path / "log").read_text()


def test_what_an_engine_said_last(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"ended with 1:\n(.*\n)*too many prompts"):
        start(launch(engine, most_prompts=0), tmp_path / "log")


def test_a_server_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with pytest.raises(PeerError, match="no such option"):
        start(Launch(command, port=1), tmp_path / "log")


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="nowhere"):
        start(Launch(["/nowhere"]), tmp_path / "log")


@pytest.fixture
def comparison(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    def peer(name: str, most_prompts: int) -> Peer:
        return Peer(
            name,
            {"bfloat16": "bf16"},
            "",
            lambda setup, folder: None,
            lambda setup, folder, port: launch(engine, most_prompts),
        )

    ours = peer("glmserve", 100)
    monkeypatch.setattr(peers_rounds, "OURS", ours)
    monkeypatch.setattr(
        Comparison,
        "_measure_ceilings",
        lambda self: self._ceilings.append(CpuCeilings(1e9, 1e9, 1e9)),
    )
    options = argparse.Namespace(
        shape="S",
        precision="bfloat16",
        threads=1,
        rounds=2,
        tokens=8,
        concurrency=[1, 3],
        long_prompts=[16],
        together=None,
        peers_folder=tmp_path,
        json=tmp_path / "report.json",
    )
    setup = Setup(SHAPES["S"], "bfloat16", 1, tmp_path, 32, 3)
    others = [peer("steady", 100), peer("fragile", 2)]
    return Comparison(options, setup, [ours, *others], {"absent": "not installed"})


@pytest.mark.parametrize("together", [True, False])
def test_rounds(comparison: Comparison, together: bool, tmp_path: Path) -> None:
    """Every peer has every figure in every round; one that fails is named and left out."""
    comparison._options.together = together
    comparison.run()
    report = json.loads((tmp_path / "report.json").read_text())
    titles = ["decode tok/s", "tok/s x1", "tok/s x3", "TTFT 16 ms"]
    for one in report["rounds"]:
        assert {name: sorted(found) for name, found in one.items()} == {
            name: sorted(titles) for name in ("glmserve", "steady")
        }
    assert report["missing"]["absent"] == "not installed"
    assert "too many prompts" in report["missing"]["fragile"]
    assert report["precisions"] == {"glmserve": "bf16", "steady": "bf16"}
    assert set(report["memory"]["loaded"]) == {"glmserve", "steady"}
    assert "steady" in comparison.table()
