"""The process that lets transformers answer prompts, for `glmserve bench summarize --against`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from glmserve.config import TransformersAnswers, TransformersTask, report_nothing
from glmserve.contract.wire import decode_json, encode_json
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.process.failure import exit_with, repair_streams
from glmserve.process.interrupts import exit_immediately_on

OPTION = "--against transformers"
_WARM_UP_TOKENS = 8


def main(*, debug: bool) -> NoReturn:
    """Read a TransformersTask as JSON from stdin, write TransformersAnswers to stdout, and exit."""
    repair_streams()
    exit_with(_run, debug=debug)


def _run() -> None:
    task = decode_json(sys.stdin.buffer.read(), TransformersTask)
    with exit_immediately_on(signal.SIGINT, signal.SIGTERM):
        from glmserve.golden.transformers_model import transformers_version

        version = transformers_version(OPTION)
        answers = _answers(task, version)
    sys.stdout.buffer.write(encode_json(answers) + b"\n")


def _answers(task: TransformersTask, version: str) -> TransformersAnswers:
    """Load the model, and answer batch by batch.

    Raises:
        OptionError: transformers has no class for this model, or torch has no such device.
        CheckpointError: the weights cannot be read.
    """
    import torch

    from glmserve.golden.transformers_model import load_transformers_model

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    device = _device(task.device)
    name = task.dtype
    config = read_model_config(Path(task.checkpoint), task.rope_scaling, task.ptuning_checkpoint)
    model = load_transformers_model(
        config,
        Path(task.checkpoint),
        getattr(torch, name),
        report_nothing,
        option=OPTION,
        attention="sdpa",
    ).to(device)
    generate = partial(_generate, model, stop_ids=task.stop_ids)
    generate([[token ^ 1 for token in task.prompts[0]]], _WARM_UP_TOKENS)
    begin = time.perf_counter()
    found: list[list[int]] = []
    for start in range(0, len(task.prompts), task.batch_size):
        found += generate(task.prompts[start : start + task.batch_size], task.max_tokens)
    seconds = time.perf_counter() - begin
    return TransformersAnswers(
        token_ids=found, seconds=seconds, about=f"{version}, {device}, {name}"
    )


def _device(name: str) -> str:
    """torch's name of the device; auto: a GPU if there is one.

    Raises:
        OptionError: it is none of torch.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_gpu else "cpu"
    if name in ("cuda", "rocm") and has_gpu:
        return "cuda"
    if name == "cpu":
        return name
    raise OptionError(f"{OPTION}: transformers runs on cpu or cuda, and not on {name} here")


def _generate(
    model: Any, prompts: Sequence[Sequence[int]], max_tokens: int, *, stop_ids: Sequence[int]
) -> list[list[int]]:
    """The most likely tokens after each prompt, without the token that ends them.

    Shorter prompts get padding before them, which attention leaves out.
    """
    import torch
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    rows = [[*(0,) * pad, *prompt] for pad, prompt in zip(padding, prompts, strict=True)]
    mask = [[*(0,) * pad, *(1,) * (longest - pad)] for pad in padding]
    make: Any = GenerationConfig
    settings = make(
        max_new_tokens=max_tokens, do_sample=False, eos_token_id=list(stop_ids), pad_token_id=0
    )
    with torch.inference_mode():
        output = model.generate(
            torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=settings,
        )
    ends = set(stop_ids)
    found = []
    for row in output[:, longest:].tolist():
        end = next((i for i, token in enumerate(row) if token in ends), len(row))
        found.append(row[:end])
    return found
