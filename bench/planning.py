"""How long the scheduler takes to plan a step and to digest its output.

    python bench/planning.py --running 256 --context 1024

Every request decodes; block tables are as long as the context makes them.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from glmserve.config import SchedulerConfig
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import RunnerLimits, StepOutput
from glmserve.contract.wire import encode_frame
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--running", type=int, default=256)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--temperature", type=float, default=0.0)
    options = parser.parse_args()
    scheduler = full_scheduler(options)
    times: dict[str, list[float]] = {"schedule": [], "encode": [], "update": []}
    for _ in range(options.steps):
        start = time.perf_counter()
        step = scheduler.schedule()
        scheduled = time.perf_counter()
        assert step is not None
        assert len(step.sequences) == options.running
        encode_frame(step)
        encoded = time.perf_counter()
        scheduler.update(StepOutput(step.step_id, [7] * options.running))
        updated = time.perf_counter()
        times["schedule"].append(scheduled - start)
        times["encode"].append(encoded - scheduled)
        times["update"].append(updated - encoded)
    print(f"{options.running} running requests, context {options.context}, milliseconds:")
    for name, values in times.items():
        print(f"  {name:<10} median {1000 * median(values):.3f}  max {1000 * max(values):.3f}")


def full_scheduler(options: argparse.Namespace) -> Scheduler:
    """A scheduler whose requests have all been prefilled."""
    limits = RunnerLimits(
        num_blocks=options.running * (options.context + options.steps + 32) // 16,
        block_size=16,
        max_sequences=options.running,
        max_step_tokens=options.running * options.context,
        max_context=options.context + options.steps + 16,
    )
    config = SchedulerConfig(max_batch_size=options.running, max_step_tokens=limits.max_step_tokens)
    scheduler = Scheduler(config, limits, hash_key=b"benchmark")
    params = SamplingParams(
        max_tokens=options.steps + 8, sampling=Sampling(temperature=options.temperature)
    )
    for i in range(options.running):
        scheduler.add(Request(i, [(i * 31 + j) % 1000 for j in range(options.context)], params))
    while (step := scheduler.schedule()) and any(len(s.token_ids) > 1 for s in step.sequences):
        sampled = [7 for s in step.sequences if s.sampling]
        scheduler.update(StepOutput(step.step_id, sampled))
    assert step is not None
    scheduler.update(StepOutput(step.step_id, [7] * len(step.sequences)))
    return scheduler


if __name__ == "__main__":
    main()
