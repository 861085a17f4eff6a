"""The requests of a load: when they come, and how many tokens they have."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glmserve.capacity.lengths import Length
from glmserve.errors import OptionError
from glmserve.trace import Arrival, End, read_recording

_VOCABULARY = 2**20
"""Of drawn prompts: so many ids that no two prompts begin alike by chance."""


class Load(NamedTuple):
    """One request."""

    time: float
    """Seconds after the beginning."""
    prompt_ids: list[int]
    num_output_tokens: int
    tenant: str = ""
    priority: int = 0


def drawn(
    rate: float,
    count: int,
    prompt_tokens: Length,
    output_tokens: Length,
    seed: int,
    *,
    longest_prompt: int | None = None,
) -> list[Load]:
    """Independent requests (a Poisson process).

    Args:
        rate: requests a second.
        count: number of requests.
        longest_prompt: longer prompts are cut; None: none is. With one more token than a server's
            context, each is refused all the same.
    """
    rng, time = random.Random(seed), 0.0
    loads = []
    for _ in range(count):
        time += rng.expovariate(rate)
        length = min(prompt_tokens(rng), longest_prompt or sys.maxsize)
        prompt = [rng.randrange(_VOCABULARY) for _ in range(length)]
        loads.append(Load(time, prompt, output_tokens(rng)))
    return loads


def recorded(path: Path) -> list[Load]:
    """The requests of a recording (`serve --record`), with the lengths that their answers had.

    Raises:
        OptionError: the file is no recording, or has no request that has ended.
    """
    _, events = read_recording(path)
    arrivals: dict[int, Arrival] = {}
    loads = []
    for event in events:
        if isinstance(event, Arrival):
            arrivals[event.id] = event
        elif isinstance(event, End) and event.num_output_tokens and event.id in arrivals:
            request = arrivals.pop(event.id)
            loads.append(
                Load(
                    request.time,
                    request.prompt_ids,
                    event.num_output_tokens,
                    request.tenant,
                    request.priority,
                )
            )
    if not loads:
        raise OptionError(f"{path}: no request has ended in this recording")
    return sorted(loads, key=lambda load: load.time)


def dealt(loads: list[Load], replicas: int) -> Iterator[list[Load]]:
    """The loads of each replica, if they are dealt out in turn."""
    return (loads[number::replicas] for number in range(replicas))
