"""bench/gpu.sh: stages that go on where they ended, figures that survive, a summary that fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gpu_run
from gpu_stages import rows, summary
from gpu_stages.compile_ahead import pack
from gpu_stages.process import run
from gpu_stages.stages import Command, commands
from gpu_stages.state import OUT_OF_TIME, Outcome, State
from support.exhaustive import exhaustive

BENCH = Path(__file__).parents[2] / "bench"
PASS, FAIL = ("-c", "print('fine')"), ("-c", "print('broken'); raise SystemExit(3)")

RunAll = Callable[..., State]


@pytest.fixture
def run_all(tmp_path: Path) -> RunAll:
    """Runs commands as a call of gpu.sh does, and returns what has become of them."""

    def call(*wanted: Command, seconds: float = 100) -> State:
        state = State(tmp_path / "state.json")
        left = gpu_run.in_order(wanted, state)
        gpu_run.run_all(left, state, tmp_path, time.monotonic() + seconds)
        return State(tmp_path / "state.json")

    return call


class TestCalls:
    def test_one_failure_stops_no_other(self, run_all: RunAll, tmp_path: Path) -> None:
        state = run_all(Command("a", 60, FAIL), Command("b", 60, PASS))
        assert [str(state.outcomes[n]) for n in "ab"] == ["exit code 3", "passed"]
        assert "broken" in (tmp_path / "log.txt").read_text()

    def test_a_later_call_runs_what_has_not_passed(self, run_all: RunAll) -> None:
        first = [Command("a", 60, FAIL), Command("b", 60, PASS)]
        run_all(*first)
        state = run_all(Command("a", 60, PASS), Command("b", 60, FAIL), Command("c", 60, PASS))
        assert {name: o.attempts for name, o in state.outcomes.items()} == {"a": 2, "b": 1, "c": 1}
        assert all(outcome.passed for outcome in state.outcomes.values())

    def test_what_was_never_tried_comes_first(self, tmp_path: Path) -> None:
        state = State(tmp_path / "state.json")
        state.record("a", 1, 1.0)
        state.record("b", 0, 1.0)
        wanted = [Command(name, 60, PASS) for name in "abc"]
        assert [command.name for command in gpu_run.in_order(wanted, state)] == ["c", "a"]

    def test_a_command_without_time_is_not_tried(self, run_all: RunAll) -> None:
        assert run_all(Command("a", 60, PASS), seconds=5).outcomes == {}

    def test_a_damaged_state_counts_as_none(self, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_text('{"a": {"exit_co')
        assert State(tmp_path / "state.json").outcomes == {}


class TestProcesses:
    def test_the_limit_ends_a_command_and_what_it_has_started(self, tmp_path: Path) -> None:
        started = tmp_path / "started"
        child = f"import time; open({str(started)!r}, 'w').write('x'); time.sleep(600)"
        program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        ended = run([sys.executable, "-c", program], 3, tmp_path / "log")
        assert ended.exit_code == OUT_OF_TIME
        assert started.exists()
        assert str(started) not in _command_lines()

    def test_a_crash_is_named(self, tmp_path: Path) -> None:
        program = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        ended = run([sys.executable, "-c", program], 60, tmp_path / "log")
        assert str(Outcome(ended.exit_code, 1.0)) == "ended by signal 11"

    def test_output_of_any_bytes_is_kept(self, tmp_path: Path) -> None:
        program = r"import sys; sys.stdout.buffer.write(b'\xff\x00 last')"
        run([sys.executable, "-c", program], 60, tmp_path / "log")
        assert (tmp_path / "log").read_bytes() == b"\xff\x00 last"


def _command_lines() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has just ended
            continue
    return "\n".join(found)


class TestFigures:
    def test_rows_survive_a_line_that_was_cut_off(self, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        rows.append(file, "step", {"ms": 1.5})
        with file.open("a") as end:
            end.write('{"kind": "st')
        assert rows.read(file) == [{"kind": "step", "ms": 1.5}]

    def test_a_summary_says_what_matters(self, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        gpu = {"gpu": "NVIDIA H200", "torch": "2.11.0", "triton": "3.6.0"}
        rows.append(file, "gpu", gpu)
        rows.append(file, "ceilings", {"copy_bytes": 4.3e12, "bf16_flops": 788e12})
        step = {"step": "16 decodes", "weights": "bfloat16", "ms": 3.2, "host_ms": 0.2}
        rows.append(file, "step", {**step, "fraction": 0.9})
        for rate in (4000.0, 5000.0, 4800.0):
            served = {"way": "glmserve_together_16", "tokens_per_second": rate}
            rows.append(file, "serving", {**served, "inter_token_ms": 3.3})
        for memory, waits in (("pageable", (False, True)), ("pinned", (False, False))):
            for size, waited in zip((1024, 65536), waits, strict=True):
                row = {"memory": memory, "bytes": size, "waited": waited}
                rows.append(file, "upload", row)
        State(tmp_path / "state.json").record("numerics", 1, 60.0)
        (tmp_path / "log.txt").write_text(
            "== numerics, at most 9 s: pytest\nFAILED tests/a.py::test_old\n"
            "== numerics, at most 9 s: pytest\nx\nFAILED tests/a.py::test_b - wrong\n"
        )
        text = summary.summary(tmp_path, ["numerics", "serving"])
        for expected in (
            "NVIDIA H200, torch 2.11.0",
            "copies 4.30 TB/s, 788 TFLOP/s",
            "exit code 1: numerics",
            "not run: serving",
            "FAILED tests/a.py::test_b",
            "bfloat16, 16 decodes: 3.20, 90%, 0.20",
            "glmserve_together_16: 4,800, 3.30 ms between tokens",
            "pageable memory wait: from 65536 bytes",
            "pinned memory wait: no",
        ):
            assert expected in text
        assert "test_old" not in text

    def test_a_summary_fits(self, tmp_path: Path) -> None:
        for number in range(300):
            row = {"step": f"{number} décodes", "weights": "bfloat16", "ms": 3.2, "host_ms": 0.2}
            rows.append(tmp_path / "rows.jsonl", "step", {**row, "fraction": 0.9})
        text = summary.summary(tmp_path, [])
        assert 4000 < len(text.encode()) <= summary.MOST_BYTES
        assert text.endswith("... and more in the report")

    def test_the_report_has_every_row(self, tmp_path: Path) -> None:
        rows.append(tmp_path / "rows.jsonl", "gpu", {"gpu": "NVIDIA A100-SXM4-80GB"})
        rows.append(tmp_path / "rows.jsonl", "step", {"ms": 1.0})
        path = summary.write_report(tmp_path, ["texts"])
        assert path.name == "nvidia-a100-sxm4-80gb.json"
        report = json.loads(path.read_text())
        assert report["stages"] == {"texts": "not run"}
        assert [row["kind"] for row in report["rows"]] == ["gpu", "step"]


def test_an_archive_of_kernels_has_code_and_descriptions_only(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "KEY").mkdir(parents=True)
    for name in ("k.cubin", "k.json", "k.ptx", "k.ttir", "__triton_launcher.so"):
        (cache / "KEY" / name).write_text(name)
    pack(cache, tmp_path / "kernels.tar.xz")
    with tarfile.open(tmp_path / "kernels.tar.xz") as archive:
        names = archive.getnames()
    assert names == ["KEY/__triton_launcher.so", "KEY/k.cubin", "KEY/k.json"]


@pytest.mark.compiled
def test_kernels_that_were_compiled_ahead_are_found_elsewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": _python_path()}
    program = [sys.executable, "-m", "gpu_stages.compile_ahead", tmp_path / "kernels.tar.xz"]
    subprocess.run([*program, "--operations", "rms_norm"], env=environment, check=True)
    cache = tmp_path / "elsewhere"
    with tarfile.open(tmp_path / "kernels.tar.xz") as archive:
        archive.extractall(cache, filter="data")
    before = set(cache.rglob("*.cubin"))
    program = [sys.executable, "-m", "compiler", "rms_norm", "--chip", "sm_90"]
    subprocess.run(program, env={**environment, "TRITON_CACHE_DIR": str(cache)}, check=True)
    assert before
    assert set(cache.rglob("*.cubin")) == before


def _python_path() -> str:
    root = BENCH.parent
    parts = (".", "kernels", "bench", "tests", "tests/kernel_ops")
    return os.pathsep.join(str(root / part) for part in parts)


class TestScript:
    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHON": sys.executable}
        return subprocess.run(
            [BENCH / "gpu.sh", *arguments], env=environment, capture_output=True, text=True
        )

    def test_it_lists_its_commands(self, tmp_path: Path) -> None:
        done = self.call("--list")
        assert done.returncode == 0, done.stderr
        names = [line.split()[0] for line in done.stdout.splitlines()]
        wanted = commands(tmp_path / "rows.jsonl", practice=False)
        assert names == [command.name for command in wanted]

    def test_an_unknown_stage_is_refused(self, tmp_path: Path) -> None:
        done = self.call(tmp_path, "numberics")
        assert done.returncode == 1
        assert "no stage numberics; there are environment, probes" in done.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "stages",
        [("environment", "probes"), exhaustive(())],
        ids=["some", "all"],
    )
    def test_practice_runs_through(self, tmp_path: Path, stages: tuple[str, ...]) -> None:
        done = self.call(tmp_path / "out", *stages, "--practice")
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr
        kinds = {row["kind"] for row in rows.read(tmp_path / "out" / "rows.jsonl")}
        assert kinds >= {"gpu", "ceilings", "upload", "graph node", "product"}
        again = self.call(tmp_path / "out", *stages, "--practice")
        assert again.returncode == 0
        assert "at most" not in again.stdout  # all have passed: nothing runs again


def test_every_kernel_is_listed_without_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "kernels.py", "--list", "--chip", "gfx942", "rms_norm"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["rms_norm", "1x4096+residual", "bfloat16"]
