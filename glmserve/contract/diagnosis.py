"""What `glmserve doctor` learns from a process of its own. Crosses to the command line as JSON."""

from __future__ import annotations

import msgspec

from glmserve.contract.step import RunnerLimits


class DeviceFinding(msgspec.Struct, frozen=True):
    """Whether a device can be used here."""

    name: str
    available: bool
    reason: str
    """Why, or why not."""


class GpuFinding(msgspec.Struct, frozen=True):
    """A GPU that torch sees."""

    name: str
    total_bytes: int
    free_bytes: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to compute with, as far as this process may use it."""

    system: str
    architecture: str
    cpu: str
    cores: int
    """Physical cores: affinity and the container's quota respected."""
    logical_cpus: int
    """That this process may run on."""
    cpu_quota: float | None
    """CPUs' worth of time that the container may take."""
    instruction_sets: list[str]
    """Of those that matter for kernels."""
    kernels: str | None
    """The set that glmserve's own CPU kernels would run with."""
    no_kernels_reason: str
    total_bytes: int
    available_bytes: int
    limit_bytes: int | None
    """The container's."""
    versions: dict[str, str | None]
    """Of Python and packages; None: not installed."""
    devices: list[DeviceFinding]
    gpus: list[GpuFinding]


class Weights(msgspec.Struct, frozen=True):
    """What lies in a checkpoint's weight files, read without the numbers."""

    files: int
    total_bytes: int
    """Of the files."""
    problem: str
    """Why they cannot be served; empty: every tensor is there, in its shape."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What the options, changed in some places, would come to."""

    changes: dict[str, str | None] = {}
    """Fields of RunnerConfig that are not as asked; None: the option is left out."""
    device: str = ""
    dtype: str = ""
    num_parameters: int = 0
    weight_bytes: int = 0
    workspace_bytes: int = 0
    available_bytes: int = 0
    token_bytes: int = 0
    """Of one token's K and V in all layers."""
    limits: RunnerLimits | None = None
    """What could be served; None: nothing, because of `problem`."""
    problem: str = ""
    exit_code: int = 0
    """That `glmserve serve` would end with because of it."""

    @property
    def kv_cache_bytes(self) -> int:
        return self.limits.token_capacity * self.token_bytes if self.limits else 0


class Findings(msgspec.Struct, frozen=True):
    """Everything."""

    machine: Machine
    weights: Weights | None
    """None: there is no checkpoint to look into."""
    attempts: list[Attempt]
    """The options as they were given come first. Empty: the device does not say what it takes, or
    there is no model."""
