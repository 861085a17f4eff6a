"""What bench/gpu.sh has found: a summary of a few lines, and all figures in one file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from gpu_stages import rows
from gpu_stages.rows import Row
from gpu_stages.state import State

MOST_BYTES = 4096
"""Of a summary."""
_WORST_KERNELS = 10
_FAILURES = 12
_HEADING = re.compile(rb"^== (\S+), at most ", re.MULTILINE)
"""As gpu_run.py begins the output of a command."""
_FAILURE = re.compile(rb"^(?:FAILED|ERROR|CUDA error in) .*|^error: .*", re.MULTILINE)


def write_report(out: Path, names: Sequence[str]) -> Path:
    """Put all figures and outcomes into <gpu>.json.

    Args:
        out: the folder of bench/gpu.sh.
        names: of the commands that were wanted.
    """
    found = rows.read(out / "rows.jsonl")
    gpu = next((row for row in found if row["kind"] == "gpu"), {})
    outcomes = State(out / "state.json").outcomes
    report = {
        "date": date.today().isoformat(),
        "gpu": gpu,
        "stages": {n: str(outcomes[n]) if n in outcomes else "not run" for n in names},
        "rows": found,
    }
    path = out / f"{file_name(str(gpu.get('gpu', 'gpu')))}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def file_name(gpu: str) -> str:
    """ "NVIDIA H200" as nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def summary(out: Path, names: Sequence[str]) -> str:
    """The figures that matter, and what failed; at most MOST_BYTES."""
    found = rows.read(out / "rows.jsonl")
    lines = [
        *_head(found),
        *_outcomes(State(out / "state.json"), names),
        *_failures(out / "log.txt"),
        *_steps(found),
        *_serving(found),
        *_products(found),
        *_uploads(found),
        *_graph_nodes(found),
        *_kernels(found),
    ]
    return _cut("\n".join(lines))


def _cut(text: str) -> str:
    """Whole lines, as many as fit."""
    if len(text.encode()) <= MOST_BYTES:
        return text
    end = "\n... and more in the report"
    kept = text.encode()[: MOST_BYTES - len(end)].decode(errors="ignore")
    return kept.rpartition("\n")[0] + end


def _head(found: list[Row]) -> Iterator[str]:
    for row in found:
        if row["kind"] == "gpu":
            yield f"{row['gpu']}, torch {row['torch']}, triton {row.get('triton')}"
        if row["kind"] == "ceilings":
            yield (
                f"copies {row['copy_bytes'] / 1e12:.2f} TB/s, "
                f"{row['bf16_flops'] / 1e12:.0f} TFLOP/s in bfloat16"
            )


def _outcomes(state: State, names: Sequence[str]) -> Iterator[str]:
    by_outcome: dict[str, list[str]] = {}
    for name in names:
        outcome = state.outcomes.get(name)
        by_outcome.setdefault(str(outcome) if outcome else "not run", []).append(name)
    for outcome_name, those in by_outcome.items():
        yield f"{outcome_name}: {', '.join(those)}"


def _failures(log: Path) -> list[str]:
    """The tests and programs that failed in the last attempt at each command, in their words."""
    if not log.exists():
        return []
    pieces = _HEADING.split(log.read_bytes())
    last = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    lines = [line for output in last.values() for line in _FAILURE.findall(output)]
    return [line.decode(errors="replace")[:160] for line in dict.fromkeys(lines)][-_FAILURES:]


def _steps(found: list[Row]) -> Iterator[str]:
    """The last figures of each step."""
    last = {(row["weights"], row["step"]): row for row in found if row["kind"] == "step"}
    if last:
        yield "steps: ms, share of the floor, ms of the host"
    for (weights, step), row in last.items():
        yield f"  {weights}, {step}: {row['ms']:.2f}, {row['fraction']:.0%}, {row['host_ms']:.2f}"


def _serving(found: list[Row]) -> Iterator[str]:
    """Medians over the rounds."""
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        if row["kind"] == "serving":
            ways.setdefault(row["way"], []).append(row)
    if ways:
        yield "through HTTP: output tokens per second"
    for way, rounds in ways.items():
        rate = median(row["tokens_per_second"] for row in rounds)
        between = [row["inter_token_ms"] for row in rounds if "inter_token_ms" in row]
        step = f", {median(between):.2f} ms between tokens" if between else ""
        yield f"  {way}: {rate:,.0f}{step}"


def _products(found: list[Row]) -> Iterator[str]:
    """The share of the floor that the library's products reach, by rows."""
    by_rows: dict[int, dict[str, float]] = {}
    for row in found:
        if row["kind"] == "product":
            by_rows.setdefault(row["rows"], {})[row["matrix"]] = row["fraction"]
    if by_rows:
        yield "products by rows: share of the floor of " + ", ".join(next(iter(by_rows.values())))
    for count, shares in by_rows.items():
        yield f"  {count}: " + ", ".join(f"{share:.0%}" for share in shares.values())


def _uploads(found: list[Row]) -> Iterator[str]:
    """From how many bytes on a copy waits for the kernel that runs."""
    waited: dict[str, list[int]] = {}
    for row in found:
        if row["kind"] == "upload":
            waited.setdefault(row["memory"], []).extend([row["bytes"]] * row["waited"])
    for memory, sizes in waited.items():
        yield f"uploads from {memory} memory wait: " + (
            f"from {min(sizes)} bytes" if sizes else "no"
        )


def _graph_nodes(found: list[Row]) -> Iterator[str]:
    last = {row["variant"]: row for row in found if row["kind"] == "graph node"}
    for variant, row in last.items():
        wrong = "" if row["right"] else ", WRONG NUMBERS"
        yield f"a kernel of a graph, {variant}: {row['us_per_node']:.2f} us{wrong}"


def _kernels(found: list[Row]) -> Iterator[str]:
    """Those furthest from their floor, without those that the L2 cache helps."""
    last = {(row["operation"], row["case"]): row for row in found if row["kind"] == "kernel"}
    worst = sorted((r for r in last.values() if not r["in_l2"]), key=lambda r: float(r["fraction"]))
    if worst:
        yield f"kernels: {len(last)} measured; furthest from their floor:"
    for row in worst[:_WORST_KERNELS]:
        torch_ratio = f", {row['torch_ratio']:.2f}x torch" if "torch_ratio" in row else ""
        times = f"{row['us']:.1f} us, {row['fraction']:.0%}{torch_ratio}"
        yield f"  {row['operation']} {row['case']}: {times}"
