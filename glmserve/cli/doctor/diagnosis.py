"""What `glmserve doctor` has to say, before it is put into words; also its JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from glmserve.contract.diagnosis import Machine, Weights

AdviceKind = Literal["fix", "longer_context", "more_users", "compile_kernels"]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What config.json and the tokenizer's files tell."""

    path: str
    family: str
    model_type: str
    num_layers: int
    max_context: int
    stored_dtype: str | None
    stored_bits: int | None
    """Of quantised weights."""
    stored_group_size: int | None
    prefix_length: int
    """Of a P-Tuning v2 prefix."""
    unknown_fields: tuple[str, ...]
    num_parameters: int | None = None
    skips_tokenizer: bool
    """As asked for."""
    vocab_size: int | None = None
    """Ids of the tokenizer; None: there is none, or it cannot be read."""
    chat_format: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """Why it cannot be served."""

    message: str
    exit_code: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the options would come to in some number formats. Sizes are bytes."""

    changes: dict[str, str | None]
    """Options that are not as asked; None: left out."""
    device: str
    dtype: str
    weight_format: str
    """Of the linear weights: a dtype, int8, ..."""
    kv_cache_format: str
    weight_bytes: int
    workspace_bytes: int
    available_bytes: int
    kv_cache_bytes: int = 0
    kv_cache_tokens: int = 0
    max_context: int = 0
    users: dict[int, int] = {}
    """Context in tokens to the requests of that length that run at once."""
    problem: str = ""
    """Why it does not fit."""


class Advice(msgspec.Struct, frozen=True):
    """Something to change."""

    kind: AdviceKind
    changes: dict[str, str | None]
    command: str
    """To run."""
    tokens: int = 0
    """Of context, or of KV cache, that there would be."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    can_serve: bool
    exit_code: int
    """That `glmserve serve` would end with: 0, 1 or 2."""
    problems: list[Problem]
    machine: Machine | None
    """None: looking failed; a problem says why."""
    checkpoint: Checkpoint | None
    weights: Weights | None
    plans: list[Plan]
    """As asked comes first."""
    advice: list[Advice]
    command: str
    """That serves with these options."""
