"""Ways to use a machine's CPUs, and which of them was best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

_TIE = 1.03
"""Figures that differ by less than this factor count as equal, and the first choice wins."""
_RANKS = (2, 4, 8)


class CpuChoice(NamedTuple):
    """Options of servers that share a machine's CPUs."""

    option: str
    """Name of an option of `serve`, with underscores, as in its namespace."""
    value: int | str
    servers: int = 1
    """Such servers that fit side by side, each on another NUMA node."""

    def __str__(self) -> str:
        option = f"--{self.option.replace('_', '-')} {self.value}"
        return option if self.servers == 1 else f"{option} (one of {self.servers} servers)"


class Glance(NamedTuple):
    """What a server with these options does in a second."""

    choice: CpuChoice
    alone: float
    """Tokens of an answer, with one request."""
    together: float
    """Tokens of all answers, with many requests."""
    prompts: float
    """Tokens of prompts."""

    @property
    def all_together(self) -> float:
        """As `together`, of all servers that fit."""
        return self.together * self.choice.servers

    @property
    def all_prompts(self) -> float:
        """As `prompts`, of all servers that fit."""
        return self.prompts * self.choice.servers


def cpu_choices(cores: int, nodes: int, *, has_amx: bool = False) -> list[CpuChoice]:
    """What to compare: few threads first.

    Args:
        cores: physical cores that may be used.
        nodes: NUMA nodes with such cores.
        has_amx: they have AMX. Then AVX-512 may be faster, or oneDNN's use of AMX.
    """
    threads = {cores, max(1, cores - 1)}
    number = 1
    while number < cores:
        if 4 * number >= cores:
            threads.add(number)
        number *= 2
    choices = [CpuChoice("threads", number) for number in sorted(threads)]
    if nodes > 1:
        choices.append(CpuChoice("numa_node", 0, servers=nodes))
    if nodes in _RANKS:
        choices.append(CpuChoice("tensor_parallel_size", nodes))
    if has_amx:
        choices += [CpuChoice("cpu_kernels", name) for name in ("no-amx", "torch")]
    return choices


def comparison(glances: Sequence[Glance], batch: int) -> list[str]:
    """A table of all choices, and the best for each purpose.

    Args:
        batch: requests of `together`.
    """
    width = max(len(str(glance.choice)) for glance in glances)
    lines = [f"{'tokens per second':{width}}  1 request  {batch:2} at once  prompts"]
    lines += [
        f"{glance.choice!s:{width}}  {glance.alone:9.1f}  {glance.together:10.1f}"
        f"  {glance.prompts:7.0f}"
        for glance in glances
    ]
    purposes: list[tuple[str, Callable[[Glance], float]]] = [
        ("one user, short waits between tokens", lambda glance: glance.alone),
        (f"{batch} users at once, most tokens", lambda glance: glance.all_together),
        ("long prompts, short answers", lambda glance: glance.all_prompts),
    ]
    return [*lines, *(f"{what}: {_best(glances, figure).choice}" for what, figure in purposes)]


def _best(glances: Sequence[Glance], figure: Callable[[Glance], float]) -> Glance:
    most = max(map(figure, glances))
    return next(glance for glance in glances if figure(glance) * _TIE >= most)
