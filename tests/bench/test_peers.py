"""The arithmetic of the benchmark against peers: figures, their roofline, and the report."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from cpu_ceilings import CpuCeilings, measure
from gpu_ceilings import Ceilings
from peer_servers.loads import Figure, Load, figures
from peer_servers.registry import OURS, PEERS, why_not
from peer_servers.setup import Peer, Setup
from peers_report import Memory, summarise, table
from process_memory import tree_memory
from served import Served
from step_floor import SHAPES, prefill_seconds, request_seconds

CEILINGS = CpuCeilings(read_bytes=20e9, bf16_flops=200e9, int8_operations=400e9)
ANSWERS = Load(4, 128, 128)
RATE = Figure("tok/s x4", ANSWERS, "tokens_per_second")
WAIT = Figure("TTFT 512 ms", Load(1, 512, 1), "first_token_ms")


def test_figures_of_a_run() -> None:
    found = figures([1, 4], 128, [512])
    titles = [figure.title for figure in found]
    assert titles == ["decode tok/s", "tok/s x1", "tok/s x4", "TTFT 512 ms"]
    served = Served(tokens_per_second=50.0, first_token_ms=70.0, inter_token_ms=12.5)
    assert [figure.value(served) for figure in found] == [80.0, 50.0, 50.0, 70.0]


def test_prompts_are_fresh() -> None:
    rng = random.Random(0)
    prompts = [*ANSWERS.prompts(rng), *ANSWERS.prompts(rng)]
    assert [len(prompt) for prompt in prompts] == [128] * 8
    assert len({tuple(prompt) for prompt in prompts}) == 8


def test_advantage_is_above_one_where_ours_is_better() -> None:
    assert RATE.advantage(ours=100.0, theirs=50.0) == 2.0
    assert WAIT.advantage(ours=50.0, theirs=100.0) == 2.0


def test_roofline_by_hand() -> None:
    """A token reads all weights and its context's K and V; a prompt is bound by arithmetic."""
    shape = SHAPES["S"]
    weights = 2 * (shape.layer_parameters + shape.head_parameters)
    cache = 2 * 192 * shape.token_numbers
    decode = Figure("decode", Load(1, 128, 128), "decode")
    assert decode.best(shape, "bfloat16", CEILINGS) == pytest.approx(20e9 / (weights + cache))
    products = 2 * 512 * shape.layer_parameters / 200e9
    assert 1 < WAIT.best(shape, "bfloat16", CEILINGS) / (1e3 * products) < 1.2


@pytest.mark.parametrize("figure", figures([1, 4, 16], 128, [512, 2048]), ids=lambda f: f.title)
def test_smaller_weights_allow_more(figure: Figure) -> None:
    best = [figure.best(SHAPES["S"], name, CEILINGS) for name in ("bfloat16", "w8a8", "int4")]
    assert figure.advantage(best[1], best[0]) > 1.3
    assert figure.advantage(best[2], best[1]) >= 1


def test_weights_of_half_the_bytes() -> None:
    """Where reading them bounds everything, they take half the time."""
    shape, memory_bound = SHAPES["chatglm2-6b"], Ceilings(1e9, 1e30)
    prompt = [prefill_seconds(shape, 1, 1, memory_bound, size) for size in (1, 2)]
    whole = [request_seconds(shape, 1, 1, 9, memory_bound, size) for size in (1, 2)]
    assert prompt[1] / prompt[0] == pytest.approx(2, rel=1e-3)
    assert whole[1] / whole[0] == pytest.approx(2, rel=1e-3)


def test_ceilings_are_measured() -> None:
    assert min(measure(read_bytes=2**20, side=64, repeats=1)) > 0


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"glmserve": {"tok/s x4": 100.0, "TTFT 512 ms": 10.0}, "vllm": {"tok/s x4": 50.0}},
        {"glmserve": {"tok/s x4": 60.0}, "vllm": {"tok/s x4": 20.0, "TTFT 512 ms": 40.0}},
    ]
    best = {"tok/s x4": 160.0, "TTFT 512 ms": 5.0}
    found = summarise([RATE, WAIT], rounds, "glmserve", best)
    assert found["glmserve"]["tok/s x4"] == {
        "median": 80.0,
        "lowest": 60.0,
        "highest": 100.0,
        "of_roofline": 0.5,
    }
    assert found["glmserve"]["TTFT 512 ms"]["of_roofline"] == 0.5
    ratio = found["vllm"]["tok/s x4"]["glmserve_over_it"]
    assert ratio == {"median": 2.5, "lowest": 2.0, "highest": 3.0}
    assert "glmserve_over_it" not in found["vllm"]["TTFT 512 ms"]  # never in one round
    memory = Memory()
    memory.is_ready("vllm", 2 * 10**9)
    memory.has_worked("vllm", 3 * 10**9)
    memory.has_worked("vllm", 1 * 10**9)
    text = table([RATE, WAIT], found, best, memory)
    assert "| vllm | 35.0 | 40.0 | 2.00 | 3.00 |" in text
    assert "| vllm | 2.50 (2.00-3.00) | - |" in text
    assert "| (roofline) | 160.0 | 5.0 |  |  |" in text


def test_memory_of_a_tree(tmp_path: Path) -> None:
    """Of a process and those below it, whatever their names, and of no others."""
    for pid, parent, size in ((10, 1, 100), (11, 10, 20), (12, 11, 3), (13, 1, 5000)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1 0")
        (folder / "smaps_rollup").write_text(f"head\nRss: 99 kB\nPss:    {size} kB\nPss_Anon: 1 kB")
    (tmp_path / "meminfo").touch()
    assert tree_memory(10, tmp_path) == (1024 * 123, 1024 * 3)


def test_who_takes_part(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx512_bf16\n")
    peers = {peer.name: peer for peer in PEERS}
    assert why_not(OURS, "int4", tmp_path, cpuinfo) is None
    assert why_not(peers["transformers"], "int4", tmp_path, cpuinfo) == "has no int4"
    assert why_not(peers["xft"], "bfloat16", tmp_path, cpuinfo) == "needs a CPU with amx_bf16"
    reason = why_not(peers["vllm"], "bfloat16", tmp_path, cpuinfo)
    assert reason == f"not installed: bench/peers_install.sh vllm {tmp_path / 'vllm'}"
    program = tmp_path / "vllm" / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    program.touch()
    assert why_not(peers["vllm"], "bfloat16", tmp_path, cpuinfo) is None


@pytest.mark.parametrize("peer", [OURS, *PEERS], ids=lambda peer: peer.name)
def test_everybody_gets_the_same(peer: Peer, tmp_path: Path) -> None:
    """The same threads; and something else for each precision."""
    launches = {}
    for precision in peer.precisions:
        setup = Setup(SHAPES["S"], precision, 3, tmp_path, 2064, 16)
        launch = peer.launch(setup, tmp_path / "environment", 8123)
        words = [*launch.command, *launch.environment.values()]
        assert "3" in words
        assert launch.port is None or str(launch.port) in words
        launches[precision] = launch.command
    assert len({tuple(command) for command in launches.values()}) == len(launches)
