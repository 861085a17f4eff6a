"""What a full batch costs other requests, under a virtual clock with the step times of devices."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler

LIMITS = RunnerLimits(
    num_blocks=4096,
    block_size=16,
    max_sequences=64,
    max_step_tokens=2048,
    max_context=2048,
    resolves_placeholders=True,
)
PROMPT, ANSWER, LINE = 512, 64, 128
"""Tokens of a question, of its answer, and of a line's prompt and answer each."""
QUIET = 0.05
"""As in the engine."""


@dataclass(frozen=True)
class Device:
    """Seconds of a step: `least`, and more for each decode and for each prompt token."""

    least: float
    decode: float
    prompt_token: float

    def seconds(self, step: StepInput) -> float:
        lengths = [len(sequence.token_ids) for sequence in step.sequences]
        decodes = sum(length == 1 for length in lengths)
        return self.least + decodes * self.decode + (sum(lengths) - decodes) * self.prompt_token


CPU = Device(0.011, 0.001, 0.0004)
"""Shape S in bfloat16 on two cores, see performance.md: 84 tokens/s alone, 597 for 16 at once."""
GPU = Device(0.008, 0.00002, 0.00002)
"""Reads its weights in 8 ms."""


class World:
    """One scheduler and its clock.

    Args:
        pause: mean seconds between the end of an answer and the next question; 0: none.
    """

    def __init__(self, device: Device, pause: float, *, has_batch: bool) -> None:
        self.scheduler = Scheduler(SchedulerConfig(), LIMITS, hash_key=b"key")
        self.device = device
        self.now = 0.0
        self.last_needed = -1.0
        self.random = random.Random(3)
        self.pause = pause
        self.has_batch = has_batch
        self.count = 0
        self.lines: list[Request] = []
        self.first_tokens: list[float] = []
        self.paces: list[float] = []

    def new(self, prompt: int, answer: int, *, in_background: bool) -> Request:
        self.count += 1
        ids = [self.random.randrange(10**6) for _ in range(prompt)]
        params = SamplingParams(max_tokens=answer)
        request = Request(self.count, ids, params, in_background=in_background)
        self.scheduler.add(request)
        return request

    def step(self, until: float) -> None:
        """One step, or nothing until then."""
        if self.scheduler.is_needed:
            self.last_needed = self.now
        is_quiet = self.now - self.last_needed >= QUIET
        step = self.scheduler.schedule(may_be_background=is_quiet)
        if step is None:
            end_of_quiet = self.last_needed + QUIET + 1e-9
            self.now = min(until, end_of_quiet) if self.lines and not is_quiet else until
            return
        seconds = self.device.seconds(step)
        self.now += seconds
        sampled = [7 for sequence in step.sequences if sequence.sampling is not None]
        self.scheduler.update(StepOutput(step.step_id, sampled), seconds)
        self.refill()

    def refill(self) -> None:
        """As the feeder does: as many lines as can run."""
        self.lines = [line for line in self.lines if not line.status.is_finished]
        while self.has_batch and len(self.lines) < LIMITS.max_sequences:
            self.lines.append(self.new(LINE, LINE, in_background=True))

    def run(self, questions: int) -> None:
        self.refill()
        while self.now < 10.0 and self.has_batch:  # it learns
            self.step(10.0)
        for _ in range(questions):
            arrival = self.now + (self.random.expovariate(1 / self.pause) if self.pause else 0.0)
            while self.now < arrival:
                self.step(arrival)
            request = self.new(PROMPT, ANSWER, in_background=False)
            while not request.num_output_tokens:
                self.step(arrival + 100)
            first = self.now
            while not request.status.is_finished:
                self.step(arrival + 100)
            self.first_tokens.append(first - arrival)
            self.paces.append((self.now - first) / (ANSWER - 1))


@pytest.mark.parametrize("device", [CPU, GPU], ids=["CPU", "GPU"])
@pytest.mark.parametrize("pause", [0.0, 0.3, 3.0])
def test_speed_and_first_tokens_beside_a_full_batch(device: Device, pause: float) -> None:
    worlds = [World(device, pause, has_batch=has_batch) for has_batch in (False, True)]
    for world in worlds:
        world.run(40)
    alone, beside = worlds
    assert sum(alone.paces) / sum(beside.paces) >= 0.95
    assert sum(beside.first_tokens) / sum(alone.first_tokens) <= 1.3
