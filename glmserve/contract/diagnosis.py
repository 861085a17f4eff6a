"""Findings of the probe process, which `glmserve doctor` starts. They are sent as JSON."""

from __future__ import annotations

import msgspec

from glmserve.contract.step import RunnerLimits


class DeviceFinding(msgspec.Struct, frozen=True):
    """Whether a device can be used on this machine."""

    name: str
    available: bool
    reason: str
    """Reason, for people."""
    settings: dict[str, str] = {}
    """Environment variables that the device honours, with the values in effect."""


class GpuFinding(msgspec.Struct, frozen=True):
    """A GPU that torch finds."""

    name: str
    total_bytes: int
    free_bytes: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, within the limits of this process."""

    system: str
    architecture: str
    cpu: str
    cores: int
    """Physical cores: affinity and the container's quota respected."""
    logical_cpus: int
    """Logical CPUs in the affinity of this process."""
    cpu_quota: float | None
    """CPU time per time that the container may use, in CPUs; None: no limit."""
    instruction_sets: list[str]
    """Those that matter for kernels, by their names in Linux."""
    kernels: str | None
    """The instruction set of glmserve's own CPU kernels; None: they cannot be used."""
    no_kernels_reason: str
    """Empty if they can."""
    total_bytes: int
    available_bytes: int
    limit_bytes: int | None
    """Memory limit of the container; None: none."""
    versions: dict[str, str | None]
    """Versions of Python and packages by name; None: not installed."""
    devices: list[DeviceFinding]
    gpus: list[GpuFinding]


class Weights(msgspec.Struct, frozen=True):
    """The weight files of a checkpoint, by names, shapes and dtypes of their tensors."""

    files: int
    total_bytes: int
    """Size of the files."""
    problem: str
    """Why they cannot be served; empty: all tensors exist with the right shapes."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that a server would have with some options changed."""

    changes: dict[str, str | None] = {}
    """Changed fields of RunnerConfig; None: the option is left out."""
    device: str = ""
    dtype: str = ""
    num_parameters: int = 0
    weight_bytes: int = 0
    workspace_bytes: int = 0
    available_bytes: int = 0
    token_bytes: int = 0
    """Bytes of one token's K and V in all layers."""
    limits: RunnerLimits | None = None
    """None: the server would not start, because of `problem`."""
    problem: str = ""
    exit_code: int = 0
    """Exit code of `glmserve serve` because of the problem."""

    @property
    def kv_cache_bytes(self) -> int:
        return self.limits.token_capacity * self.token_bytes if self.limits else 0


class Findings(msgspec.Struct, frozen=True):
    """The answer of the probe process."""

    machine: Machine
    weights: Weights | None
    """None: there are no weight files to check."""
    attempts: list[Attempt]
    """The given options first, then changed ones. Empty: the device is no PlanningDevice, or the
    model cannot be read."""
    adapter_problem: str = ""
    """Why an adapter of the command line does not fit the model; empty: all do."""
