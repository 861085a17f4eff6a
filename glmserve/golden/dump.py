"""Computes a golden and writes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from glmserve.config import GoldenDump, ReportProgress, report_nothing
from glmserve.devices.host import available_memory
from glmserve.errors import DeviceError, InvalidRequestError, OptionError
from glmserve.golden.dump_folder import About, architecture_digest, write_golden
from glmserve.golden.reference import Reference
from glmserve.golden.transformers_model import transformers_version
from glmserve.golden.transformers_reference import OPTION, TransformersReference
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parameters import count_parameters
from glmserve.runner.limits import format_bytes

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_RANDOM_TOKENS = 24


class _Reference(Protocol):
    def tensors(self, token_ids: list[int]) -> dict[str, Tensor]: ...


_MakeReference = Callable[[ModelConfig, Path, torch.dtype, ReportProgress], _Reference]


def dump(options: GoldenDump) -> str:
    """Compute every tensor of the sequence and write the golden. Returns a line about it.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        OptionError: a token id is outside the vocabulary, marks are missing that this model needs,
            or the reference has no such model.
        DeviceError: the weights do not fit into the memory.
    """
    model = read_model_config(
        Path(options.checkpoint), options.rope_scaling, options.ptuning_checkpoint
    )
    token_ids = options.token_ids or random_ids(model, _RANDOM_TOKENS)
    _check_ids(model, token_ids)
    _check_memory(model, options)
    make: _MakeReference = Reference
    name = f"glmserve {options.dtype}"
    if options.reference == "transformers":
        version = transformers_version(OPTION)
        make, name = TransformersReference, f"transformers {version} {options.dtype}"
    reference = make(model, Path(options.checkpoint), _DTYPES[options.dtype], report_nothing)
    try:
        tensors = reference.tensors(token_ids)
    except InvalidRequestError as error:  # marks are missing
        raise OptionError(f"--token-ids or --prompt: {error}") from None
    about = About(
        reference=name,
        checkpoint=str(Path(options.checkpoint).resolve()),
        ptuning_checkpoint=options.ptuning_checkpoint,
        rope_scaling=options.rope_scaling,
        architecture_sha256=architecture_digest(model),
        token_ids=token_ids,
        num_layers=model.num_layers,
    )
    size = write_golden(Path(options.target), about, tensors)
    return (
        f"{options.target}: {len(tensors)} tensors of {len(token_ids)} tokens, "
        f"{format_bytes(size)}, by {name}"
    )


def random_ids(model: ModelConfig, count: int) -> list[int]:
    """The same random ids for every call; with the marks that a prompt of this model needs."""
    ids = [random.Random(i).randrange(model.vocab_size) for i in range(count)]
    marks = model.prompt_marks
    if marks is None:
        return ids[: model.max_context]
    special = {marks.gmask_id, marks.mask_id, marks.sop_id}
    ordinary = [token for token in ids if token not in special]
    return [*ordinary[: count // 2], *marks.shortest_prompt, *ordinary[count // 2 :]]


def _check_ids(model: ModelConfig, token_ids: list[int]) -> None:
    if max(token_ids) >= model.vocab_size:
        raise OptionError(
            f"token id {max(token_ids)} is outside the vocabulary of {model.vocab_size}"
        )
    if len(token_ids) > model.max_context:
        raise OptionError(
            f"{len(token_ids)} tokens are more than the model's context of {model.max_context}"
        )


def _check_memory(model: ModelConfig, options: GoldenDump) -> None:
    needed = count_parameters(model) * _DTYPES[options.dtype].itemsize
    if needed > available_memory():
        half = " --dtype float32 takes half of it" if options.dtype == "float64" else ""
        raise DeviceError(
            f"not enough memory: the weights take {format_bytes(needed)} as {options.dtype}, "
            f"{format_bytes(available_memory())} are available;{half}".rstrip(";")
        )
