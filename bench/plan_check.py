"""What `glmserve plan` says, beside what a real server does with the same requests.

    python bench/plan_check.py --checkpoint S_FOLDER --rates 0.5 1 2 -- --load-format dummy

Calibrates the device, then starts a server with the options behind `--` and sends it drawn loads
over HTTP, each in real time. For each load it prints p50 and p95 of the times to the first token
and between tokens, planned and measured, and how far the plan is off. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from glmserve.capacity.calibration import Calibration, read_calibration
from glmserve.capacity.lengths import parse_length
from glmserve.capacity.report import percentile
from glmserve.capacity.simulation import Simulation
from glmserve.capacity.workload import Load, drawn
from glmserve.config import SchedulerConfig
from glmserve.load_test.client import send
from glmserve.load_test.result import Result
from local_server import LocalServer

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600)
_FIRST_ID = 10
"""Ids below it may be special tokens."""


class Figures(NamedTuple):
    """Seconds, in the order of the table."""

    first_p50: float
    first_p95: float
    gap_p50: float
    gap_p95: float

    @classmethod
    def of(cls, first: Sequence[float], gaps: Sequence[float]) -> Figures:
        first, gaps = sorted(first), sorted(gaps)
        return cls(*(percentile(v, share) for v in (first, gaps) for share in (0.5, 0.95)))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="default: glm-tiny")
    parser.add_argument("--rates", type=float, nargs="+", default=[5, 10, 20, 40, 60, 80])
    parser.add_argument("--requests", type=int, default=100, help="of each load")
    parser.add_argument("--prompt-tokens", type=parse_length, default="uniform:50:300")
    parser.add_argument("--output-tokens", type=parse_length, default="uniform:30:90")
    parser.add_argument("--vocabulary", type=int, default=2600, help="ids of prompts are below it")
    parser.add_argument("--calibration", type=Path, help="use this file instead of measuring")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("options", nargs="*", help="of serve and bench calibrate")
    return parser.parse_args()


def calibrate(options: argparse.Namespace, model: Sequence[str]) -> Calibration:
    if options.calibration is not None:
        return read_calibration(options.calibration)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calibration.json"
        command = [sys.executable, "-m", "glmserve", "bench", "calibrate", "--output", str(file)]
        subprocess.run([*command, *model, *options.options], check=True)
        return read_calibration(file)


async def measure(url: str, loads: Sequence[Load], vocabulary: int) -> Figures:
    """Send the requests when they are due."""
    async with aiohttp.ClientSession(
        timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        async with session.get(f"{url}/v1/models") as response:
            name = (await response.json())["data"][0]["id"]

        async def one(load: Load) -> Result:
            await asyncio.sleep(load.time)
            ids = [_FIRST_ID + token % (vocabulary - _FIRST_ID) for token in load.prompt_ids]
            body = {
                "model": name,
                "prompt": ids,
                "max_tokens": load.num_output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
                "return_token_ids": True,
            }
            return await send(session, f"{url}/v1/completions", body)

        results = await asyncio.gather(*map(one, loads))
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(f"{len(errors)} requests failed, the first one: {errors[0]}")
    first = [result.ttft for result in results if result.ttft is not None]
    return Figures.of(first, [gap for result in results for gap in result.gaps])


def main() -> None:
    options = parse_options()
    model = ["--checkpoint", options.checkpoint] if options.checkpoint else []
    calibration = calibrate(options, model)
    print(f"{calibration.device}, {calibration.dtype}")
    print(f"{'rate':>6}" + "".join(f"{name:>32}" for name in Figures._fields))
    rows = []
    with LocalServer(*model, *options.options) as server:
        warm = drawn(20, 10, options.prompt_tokens, options.output_tokens, seed=99)
        asyncio.run(measure(server.url, warm, options.vocabulary))
        for seed, rate in enumerate(options.rates):
            lengths = options.prompt_tokens, options.output_tokens
            loads = drawn(rate, options.requests, *lengths, seed=seed)
            outcome = Simulation(calibration, SchedulerConfig(), loads).run()
            planned = Figures.of(outcome.first_tokens, outcome.gaps)
            found = asyncio.run(measure(server.url, loads, options.vocabulary))
            rows.append({"rate": rate, "planned": planned._asdict(), "measured": found._asdict()})
            cells = (
                f"{1000 * p:9.2f} {1000 * f:9.2f} ms {p / f - 1:+7.1%}"
                for p, f in zip(planned, found, strict=True)
            )
            print(f"{rate:6g}" + "".join(f"{cell:>32}" for cell in cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
