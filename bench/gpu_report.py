"""Puts what bench/gpu.sh measured into one JSON file and one Markdown table.

    python bench/gpu_report.py FOLDER

Reads kernels.json, ceilings.json, serving.json and stages.tsv of the folder, as far as they exist,
and writes <gpu>.json and <gpu>.md beside them.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    figures = merge(folder)
    name = file_name(str(figures.get("gpu", "gpu")))
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / f"{name}.md").write_text(markdown(figures))
    print(markdown(figures))


def merge(folder: Path) -> Figures:
    """Everything that the stages left behind."""
    figures: Figures = {"date": date.today().isoformat()}
    for part in ("ceilings", "kernels"):
        figures |= _read(folder / f"{part}.json")
    if serving := _read(folder / "serving.json"):
        figures["serving"] = serving
    figures["stages"] = stages(folder / "stages.tsv")
    return figures


def _read(path: Path) -> Figures:
    """{} if a stage was stopped before it wrote, or while it did."""
    try:
        found: Figures = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def stages(path: Path) -> list[Figures]:
    """Name, exit code and seconds of each stage."""
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [{"name": name, "exit": int(code), "seconds": int(s)} for name, code, s in rows]


def file_name(gpu: str) -> str:
    """ "NVIDIA H200" as nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def markdown(figures: Figures) -> str:
    """The tables for a README."""
    parts = [_head(figures), _serving(figures.get("serving", {})), _kernels(figures)]
    failed = [
        f"{stage['name']} ({'time limit' if stage['exit'] == 124 else stage['exit']})"
        for stage in figures.get("stages", [])
        if stage["exit"]
    ]
    if failed:
        parts.append("Failed: " + ", ".join(failed))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(figures: Figures) -> str:
    ceilings = figures.get("ceilings")
    if ceilings is None:
        return f"No ceilings were measured, {figures['date']}."
    return (
        f"{figures['gpu']}, {figures['date']}, torch {figures['torch']}, triton "
        f"{figures['triton']}: copies {ceilings['copy_bytes'] / 1e12:.2f} TB/s, "
        f"{ceilings['bf16_flops'] / 1e12:.0f} TFLOP/s in bfloat16."
    )


def _serving(serving: Figures) -> str:
    """Tokens per second by concurrency, transformers beside glmserve."""
    if not serving:
        return ""
    settings = serving["settings"]
    lines = [
        f"{settings['shape']}, {settings['dtype']}, {settings['prompt_tokens']} prompt and "
        f"{settings['output_tokens']} output tokens, output tokens per second:",
        "",
        "| requests at once | transformers | glmserve | step | floor of a step | of the floor |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for name, latency in serving["latency"].items():
        alone = name == "glmserve_one_by_one"
        count = "1" if alone else name.rsplit("_", 1)[1]
        other = "transformers_one_by_one" if alone else f"transformers_batched_{count}"
        theirs = f"{serving[other]:,.0f}" if other in serving else "failed"
        floor = [
            f"{latency['step_floor_ms']:.2f} ms",
            f"{latency['step_of_floor']:.0%}",
        ]
        step = f"{latency['inter_token_ms']:.2f} ms"
        cells = [count, theirs, f"{serving[name]:,.0f}", step, *floor]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _kernels(figures: Figures) -> str:
    rows = figures.get("kernels")
    if not rows:
        return ""
    lines = [
        "| operation | case | µs | GB/s | TFLOP/s | of the floor | bound by | over torch |",
        "|---|---|--:|--:|--:|--:|---|--:|",
    ]
    for row in rows:
        ratio = f"{row['torch_ratio']:.2f}x" if "torch_ratio" in row else ""
        cells = [
            row["operation"],
            row["case"] + ("*" if row["in_l2"] else ""),
            f"{row['us']:.1f}",
            f"{row['gigabytes_per_second']:,.0f}",
            f"{row['teraflops']:.1f}",
            f"{row['fraction']:.0%}",
            row["bound"],
            ratio,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["in_l2"] for row in rows):
        lines += ["", "\\* so little data that the L2 cache holds it all"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
