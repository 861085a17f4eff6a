"""The data of `glmserve doctor`'s report, which is also its JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from glmserve.contract.diagnosis import Machine, Weights

AdviceKind = Literal["fix", "longer_context", "more_users", "compile_kernels"]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of config.json and of the tokenizer's files."""

    path: str
    family: str
    model_type: str
    num_layers: int
    max_context: int
    stored_dtype: str | None
    stored_bits: int | None
    """Bits of quantised weights."""
    stored_group_size: int | None
    """Columns that share a scale; None: whole rows."""
    modelslim_kinds: tuple[str, ...] = ()
    """Kinds of the linear modules that ModelSlim quantised; empty: it did not."""
    prefix_length: int
    """Slots of a P-Tuning v2 prefix."""
    unknown_fields: tuple[str, ...]
    num_parameters: int | None = None
    skips_tokenizer: bool
    """Whether --skip-tokenizer-init was given."""
    vocab_size: int | None = None
    """Number of the tokenizer's ids; None: there is no tokenizer, or it cannot be read."""
    chat_format: str | None = None


class Adapter(msgspec.Struct, frozen=True):
    """An adapter of --adapter."""

    name: str
    path: str
    kind: str | None
    """lora, prefix-tuning or p-tuning-v2; None: it cannot be served, and a problem says why."""
    size: int | None = None
    """The largest rank of a LoRA, or the slots of a prefix."""


class Problem(msgspec.Struct, frozen=True):
    """A reason why the checkpoint cannot be served, and the exit code for it."""

    message: str
    exit_code: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Memory with certain number formats, and of a rank with certain numbers of ranks. Sizes are
    bytes."""

    changes: dict[str, str | None]
    """Options that differ from the given ones; None: left out."""
    device: str
    ranks: int = 1
    """Number of worker processes; sizes are those of the one that needs most."""
    stages: int = 1
    """Number of stages that the ranks are."""
    dtype: str
    weight_format: str
    """Format of the linear weights: a dtype, int8, ..."""
    kv_cache_format: str
    weight_bytes: int
    workspace_bytes: int
    available_bytes: int
    kv_cache_bytes: int = 0
    kv_cache_tokens: int = 0
    max_context: int = 0
    users: dict[int, int] = {}
    """Number of requests that run at once, by their context in tokens."""
    problem: str = ""
    """Reason why it does not fit, or empty."""


class Advice(msgspec.Struct, frozen=True):
    """A change of options."""

    kind: AdviceKind
    changes: dict[str, str | None]
    command: str
    """Command line with the change."""
    tokens: int = 0
    """Tokens of context (fix, longer_context) or of KV cache (more_users) with the change."""


class Download(msgspec.Struct, frozen=True):
    """What would have to be fetched before a checkpoint can be served."""

    name: str
    files: int
    total_bytes: int
    problem: str = ""
    """Why it cannot be fetched; empty: nothing speaks against it."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The whole report."""

    can_serve: bool
    exit_code: int
    """Exit code of `glmserve serve` with these options: 0, 1 or 2."""
    problems: list[Problem]
    machine: Machine | None
    """None if probing failed; a problem says why."""
    checkpoint: Checkpoint | None
    adapters: list[Adapter] = []
    weights: Weights | None
    download: Download | None = None
    """None: the checkpoint is on this machine."""
    plans: list[Plan]
    """The plan for the given options comes first."""
    advice: list[Advice]
    command: str
    """Command line of `glmserve serve` with these options."""
