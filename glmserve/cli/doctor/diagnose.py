"""Makes a diagnosis from the checkpoint's files, the tokenizer and the probing process."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from glmserve.adapters import LoraConfig
from glmserve.cli.adapter_checks import read_checked
from glmserve.cli.doctor.advice import advise, serve_command
from glmserve.cli.doctor.diagnosis import (
    Adapter,
    Checkpoint,
    Diagnosis,
    Download,
    Plan,
    Problem,
)
from glmserve.cli.doctor.probing import probe
from glmserve.cli.generation_config import with_generation_config
from glmserve.cli.options import adapter_config
from glmserve.cli.text_layer import chat_options, limit_vocabulary, load_text_layer
from glmserve.config import PARALLEL_SIZES, RunnerConfig
from glmserve.contract.diagnosis import Attempt, Findings
from glmserve.contract.step import RunnerLimits
from glmserve.errors import AdapterError, StartupError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.text import named_chat_format, read_name_hints

_CONTEXTS = (2048, 8192, 32768, 131072)
"""Context lengths, tokens, for which the report counts users."""
_FORMATS = {"quantization", "kv_cache_dtype"}
_FAMILIES = {
    "chatglm": "ChatGLM-6B",
    "chatglm2": "ChatGLM2",
    "chatglm3": "ChatGLM3",
    "glm4": "GLM-4",
    "codegeex2": "CodeGeeX2",
    "codegeex4": "CodeGeeX4",
    "glm4-0414": "GLM-4-0414",
    "glm-z1": "GLM-Z1",
    "glm-edge": "GLM-Edge",
}
_BY_TYPE = {"chatglm": "ChatGLM2, ChatGLM3, GLM-4", "glm": "GLM-4", "glm4": "GLM-4-0414, GLM-Z1"}
"""If no name tells."""


def diagnose(
    config: RunnerConfig,
    options: argparse.Namespace,
    arguments: Sequence[str],
    download: Download | None = None,
) -> Diagnosis:
    """Check machine and checkpoint. Failures become problems of the diagnosis.

    Args:
        config: the worker's config.
        options: the parsed options.
        arguments: the equivalent arguments of `glmserve serve`.
        download: what would be fetched; the checkpoint then has a config.json alone.
    """
    problems: list[Problem] = []
    model, checkpoint = _look_at_checkpoint(config, options, problems)
    adapters = list(_adapters(options, problems))
    findings = _probe(config, problems)
    attempts = findings.attempts if findings else []
    weights = findings.weights if findings else None
    if attempts and attempts[0].problem:
        problems.append(Problem(attempts[0].problem, attempts[0].exit_code))
    if weights and weights.problem:
        problems.append(Problem(weights.problem, StartupError.exit_code))
    if findings and findings.adapter_problem and all(a.kind for a in adapters):
        problems.append(Problem(findings.adapter_problem, StartupError.exit_code))
    if download and download.problem:
        problems.append(Problem(download.problem, StartupError.exit_code))
    if checkpoint and download:
        checkpoint = msgspec.structs.replace(checkpoint, path=download.name, skips_tokenizer=False)
    if checkpoint and attempts:
        count = next((a.num_parameters for a in attempts if a.num_parameters), None)
        checkpoint = msgspec.structs.replace(checkpoint, num_parameters=count)
    wanted = config.max_model_len or (model.max_context if model else 0)
    machine = findings.machine if findings else None
    wants_kernels = config.cpu_kernels != "torch"
    return Diagnosis(
        can_serve=not problems,
        exit_code=problems[0].exit_code if problems else 0,
        problems=problems,
        machine=machine,
        checkpoint=checkpoint,
        adapters=adapters,
        weights=weights,
        download=download,
        plans=list(_plans(config, model, attempts)) if model else [],
        advice=advise(attempts, arguments, machine if wants_kernels else None, wanted),
        command=serve_command(arguments, {}),
    )


def _adapters(options: argparse.Namespace, problems: list[Problem]) -> Iterator[Adapter]:
    try:
        config = adapter_config(options)
    except StartupError as error:
        problems.append(Problem(error.message, error.exit_code))
        return
    for name, folder in config.named:
        try:
            settings = read_checked(folder, config)
        except AdapterError as error:
            problem = f"--adapter {name}: {error.message}"
            problems.append(Problem(problem, StartupError.exit_code))
            yield Adapter(name, str(folder), None)
            continue
        size = settings.largest_rank if isinstance(settings, LoraConfig) else settings.length
        yield Adapter(name, str(folder), settings.kind, size)


def _probe(config: RunnerConfig, problems: list[Problem]) -> Findings | None:
    try:
        return probe(config)
    except StartupError as error:
        problems.append(Problem(error.message, error.exit_code))
        return None


def _look_at_checkpoint(
    config: RunnerConfig, options: argparse.Namespace, problems: list[Problem]
) -> tuple[ModelConfig | None, Checkpoint | None]:
    try:
        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        with_generation_config(model, options.generation_config)
        checkpoint = _describe(model, skips_tokenizer=options.skip_tokenizer_init)
    except StartupError as error:
        problems.append(Problem(error.message, error.exit_code))
        return None, None
    except OSError as error:
        problems.append(Problem(f"{error.filename}: {error.strerror}", StartupError.exit_code))
        return None, None
    if options.skip_tokenizer_init:
        return model, checkpoint
    try:
        tokenizer, selected = load_text_layer(model, chat_options(options))
        chat_format = selected.reason or (selected.chat.name if selected.chat else None)
        checkpoint = msgspec.structs.replace(
            checkpoint, vocab_size=tokenizer.vocab_size, chat_format=chat_format
        )
        limit_vocabulary(config, model, tokenizer)
    except StartupError as error:
        problems.append(Problem(error.message, error.exit_code))
    return model, checkpoint


def _describe(model: ModelConfig, *, skips_tokenizer: bool) -> Checkpoint:
    hint = named_chat_format(read_name_hints(model.path.parent))
    family = "ChatGLM-6B" if model.model_type == "chatglm-6b" else _FAMILIES.get(hint or "")
    return Checkpoint(
        path=str(model.path.parent),
        family=family or _BY_TYPE[model.model_type],
        model_type=model.model_type,
        num_layers=model.num_layers,
        max_context=model.max_context,
        stored_dtype=model.stored_dtype,
        stored_bits=model.stored_bits,
        stored_group_size=model.stored_group_size,
        modelslim_kinds=tuple(sorted(set(model.modelslim.kinds.values())))
        if model.modelslim
        else (),
        prefix_length=model.prefix_length,
        unknown_fields=model.unknown_fields,
        skips_tokenizer=skips_tokenizer,
    )


def _plans(config: RunnerConfig, model: ModelConfig, attempts: Sequence[Attempt]) -> Iterator[Plan]:
    """Yield the plan for the given options, then those for other number formats."""
    contexts = _contexts(config.max_model_len or model.max_context)
    for attempt in attempts:
        changed = attempt.changes.keys()
        if attempt.weight_bytes and changed <= {"device", *PARALLEL_SIZES, *_FORMATS}:
            yield _plan(config, model, attempt, contexts)


def _contexts(longest: int) -> list[int]:
    return [*(context for context in _CONTEXTS if context < longest), longest]


def _plan(
    config: RunnerConfig, model: ModelConfig, attempt: Attempt, contexts: Sequence[int]
) -> Plan:
    stored = f"int{model.stored_bits}" if model.stored_bits else attempt.dtype
    quantization = attempt.changes.get("quantization", config.quantization)
    sizes = [int(attempt.changes.get(name) or getattr(config, name)) for name in PARALLEL_SIZES]
    cache = attempt.changes.get("kv_cache_dtype", config.kv_cache_dtype) or "auto"
    plan = Plan(
        changes=attempt.changes,
        device=attempt.device,
        ranks=math.prod(sizes),
        stages=sizes[1],
        dtype=attempt.dtype,
        weight_format=quantization or stored,
        kv_cache_format=attempt.dtype if cache == "auto" else cache,
        weight_bytes=attempt.weight_bytes,
        workspace_bytes=attempt.workspace_bytes,
        available_bytes=attempt.available_bytes,
        problem=attempt.problem,
    )
    limits = attempt.limits
    if limits is None:
        return plan
    return msgspec.structs.replace(
        plan,
        kv_cache_bytes=attempt.kv_cache_bytes,
        kv_cache_tokens=limits.token_capacity,
        max_context=limits.max_context,
        users={context: users(limits, context) for context in contexts},
    )


def users(limits: RunnerLimits, context: int) -> int:
    """Number of requests with `context` tokens, prompt and answer together, that fit at once."""
    if context > limits.max_context:
        return 0
    blocks = -(-context // limits.block_size)
    return min(limits.num_blocks // blocks, limits.max_sequences)
