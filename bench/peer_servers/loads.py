"""What every peer is sent, the figures that come of it, and the least time it can take."""

from __future__ import annotations

import random
from typing import NamedTuple

from cpu_ceilings import CpuCeilings
from gpu_ceilings import Ceilings
from peer_servers.setup import SAMPLE_TOKENS
from served import Served
from step_floor import Shape, decode_seconds, prefill_seconds, request_seconds

_WEIGHT_BYTES = {"bfloat16": 2.0, "w8a8": 1.0, "int4": 0.5}
"""Of each; scales are not counted."""


class Load(NamedTuple):
    """Requests sent at once, all alike."""

    requests: int
    prompt_tokens: int
    output_tokens: int

    def prompts(self, rng: random.Random) -> list[list[int]]:
        return [rng.choices(range(*SAMPLE_TOKENS), k=self.prompt_tokens) for _ in range(self[0])]


class Figure(NamedTuple):
    """One number of a load's result."""

    title: str
    load: Load
    field: str
    """Of Served, or "decode": tokens per second while only one request decodes."""

    @property
    def less_is_better(self) -> bool:
        return self.field.endswith("_ms")

    def value(self, served: Served) -> float:
        if self.field == "decode":
            return 1e3 / served.inter_token_ms
        value: float = getattr(served, self.field)
        return value

    def best(self, shape: Shape, precision: str, ceilings: CpuCeilings) -> float:
        """What no engine can beat: the roofline's figure."""
        size, limits = _WEIGHT_BYTES[precision], _limits(precision, ceilings)
        requests, prompt, output = self.load
        if self.field == "decode":
            return 1 / decode_seconds(shape, 1, prompt + output // 2, limits, size)
        if self.field == "first_token_ms":
            return 1e3 * prefill_seconds(shape, requests, prompt, limits, size)
        return requests * output / request_seconds(shape, requests, prompt, output, limits, size)

    def advantage(self, ours: float, theirs: float) -> float:
        """How many times as good ours is."""
        return theirs / ours if self.less_is_better else ours / theirs


def figures(concurrency: list[int], tokens: int, long_prompts: list[int]) -> list[Figure]:
    """Of answers to `concurrency` prompts, both of `tokens`, and first tokens of long prompts."""
    answers = [Load(count, tokens, tokens) for count in concurrency]
    found = [Figure("decode tok/s", load, "decode") for load in answers if load.requests == 1]
    for load in answers:
        found.append(Figure(f"tok/s x{load.requests}", load, "tokens_per_second"))
    for length in long_prompts:
        found.append(Figure(f"TTFT {length} ms", Load(1, length, 1), "first_token_ms"))
    return found


def _limits(precision: str, ceilings: CpuCeilings) -> Ceilings:
    """Codes can be multiplied as they are, so small weights may run at the rate of int8."""
    operations = ceilings.bf16_flops
    if precision != "bfloat16":
        operations = max(operations, ceilings.int8_operations)
    return Ceilings(ceilings.read_bytes, operations)
