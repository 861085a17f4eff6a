"""What a peer is asked to serve, and what it takes to start it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from step_floor import Shape

PROGRAMS = Path(__file__).parent / "programs"
"""Scripts that a peer's own Python runs; they import nothing of glmserve."""
SAMPLE_TOKENS = (100, 2000)
"""Ids of prompts: first, and one behind the last."""


@dataclass(frozen=True)
class Setup:
    """One comparison's model and sizes, the same for all."""

    shape: Shape
    precision: str
    """"bfloat16", "w8a8" or "int4"."""
    threads: int
    models: Path
    """Folder of this shape's checkpoints, one per format, kept between runs."""
    most_tokens: int
    """Of a prompt and its answer."""
    most_requests: int
    """At once."""

    @property
    def checkpoint(self) -> Path:
        """What transformers wrote, in bfloat16; the other formats are made of it."""
        return self.models / "hf"

    @property
    def cache_tokens(self) -> int:
        """Token slots that the KV cache needs: for the longest request, and for all at once."""
        return self.most_tokens + 512 * self.most_requests


@dataclass(frozen=True)
class Launch:
    """A command that serves: HTTP at `port`, or without one jobs on its standard input."""

    command: list[str]
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of this process's."""
    body: Mapping[str, object] = field(default_factory=dict)
    """Fields of every request that only this server needs."""


@dataclass(frozen=True)
class Peer:
    """How to prepare and start one."""

    name: str
    precisions: Mapping[str, str]
    """Those it has, and what it calls them."""
    program: str
    """Path in its environment that is there when it is installed."""
    prepare: Callable[[Setup, Path], None]
    """Writes the checkpoint that it reads; gets the environment's folder."""
    launch: Callable[[Setup, Path, int], Launch]
    """Gets the environment's folder and a free port."""
    cpu_flag: str | None = None
    """What it needs of the CPU, as /proc/cpuinfo names it."""


def run_once(target: Path, *command: str | Path) -> None:
    """Run a command that makes `target`, unless it is there already.

    Raises:
        SystemExit: the command failed.
    """
    if target.exists():
        return
    try:
        subprocess.run([str(part) for part in command], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{target} could not be made: {error}") from None
