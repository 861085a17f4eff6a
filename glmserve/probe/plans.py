"""The memory that a model needs with the given options and with other number formats."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from glmserve.config import PARALLEL_SIZES, RunnerConfig
from glmserve.contract.diagnosis import Attempt
from glmserve.contract.shard import SIZES
from glmserve.devices.base import (
    ParallelDevice,
    PlanningDevice,
    refuse_adapters,
    refuse_ranks,
)
from glmserve.devices.registry import device_for
from glmserve.errors import StartupError
from glmserve.model_config import ModelConfig

Changes = dict[str, str | None]

_QUANTIZATIONS = (None, "int8", "int4")
_KV_CACHE_DTYPES = ("auto", "int8")
_LEFT_OUT = (
    "dtype",
    "max_model_len",
    "kv_cache_tokens",
    "kv_cache_memory",
    "gpu_memory_utilization",
)


def attempt_all(config: RunnerConfig, model: ModelConfig) -> list[Attempt]:
    """Attempts with the given options, then with changes; none if the device is no
    PlanningDevice."""
    first = _attempt(config, model, {})
    if first is None:
        return []
    found = (_attempt(config, model, changes) for changes in _changes(config, model))
    return [first, *(attempt for attempt in found if attempt is not None)]


def _changes(config: RunnerConfig, model: ModelConfig) -> Iterator[Changes]:
    """Changes worth trying, least loss of accuracy first."""
    device = _name_of(config)
    elsewhere: Changes = {} if device else {"device": "cpu"}
    quantizations = _QUANTIZATIONS if model.stored_bits is None else (config.quantization,)
    for quantization in dict.fromkeys((config.quantization, *quantizations)):
        for kv_cache_dtype in dict.fromkeys((config.kv_cache_dtype, *_KV_CACHE_DTYPES)):
            changes = elsewhere | _difference(config, quantization, kv_cache_dtype)
            if changes:
                yield changes
    for name in PARALLEL_SIZES:
        for size in _sizes(config, getattr(config, name)):
            yield elsewhere | {name: str(size)}
    for name in _LEFT_OUT:
        if getattr(config, name) not in (None, "auto"):
            yield elsewhere | {name: None}
    if device not in ("cpu", None):
        yield {"device": "cpu"}


def _sizes(config: RunnerConfig, asked: int) -> list[int]:
    """Other numbers of ranks than `asked`: all if ranks are asked for, else those that have places
    here."""
    try:
        device = device_for(config)
    except StartupError:
        return []
    if not isinstance(device, ParallelDevice):
        return []
    most = SIZES[-1] if config.num_ranks > 1 else device.places()
    return [size for size in SIZES if size != asked and size <= most]


def _difference(config: RunnerConfig, quantization: str | None, kv_cache_dtype: str) -> Changes:
    changes: Changes = {}
    if quantization != config.quantization:
        changes["quantization"] = quantization
    if kv_cache_dtype != config.kv_cache_dtype:
        changes["kv_cache_dtype"] = None if kv_cache_dtype == "auto" else kv_cache_dtype
    return changes


def _name_of(config: RunnerConfig) -> str | None:
    """The name of the selected device, also for "auto"; None: it cannot be used."""
    try:
        return device_for(config).name
    except StartupError:
        return None


def _attempt(config: RunnerConfig, model: ModelConfig, changes: Changes) -> Attempt | None:
    """Plan with some options changed; None: the device is no PlanningDevice."""
    changed = apply_changes(config, changes)
    attempt = Attempt(changes=changes)
    try:
        device = device_for(changed)
        refuse_ranks(device, changed)
        refuse_adapters(device, changed)
        if not isinstance(device, PlanningDevice):
            return None
        needs = device.memory_needs(changed, model)
        attempt = Attempt(
            changes=changes,
            device=device.name,
            dtype=needs.dtype,
            num_parameters=needs.num_parameters,
            weight_bytes=needs.weights,
            workspace_bytes=needs.workspace,
            available_bytes=needs.available,
            token_bytes=needs.cache.token_bytes,
        )
        return msgspec.structs.replace(attempt, limits=needs.plan(changed, model))
    except StartupError as error:
        return msgspec.structs.replace(attempt, problem=error.message, exit_code=error.exit_code)


def apply_changes(config: RunnerConfig, changes: Changes) -> RunnerConfig:
    """The options with the changes; an option that is left out has its default."""
    defaults = RunnerConfig(checkpoint=config.checkpoint)
    values: dict[str, object] = {
        name: getattr(defaults, name) if value is None else value for name, value in changes.items()
    }
    values |= {name: int(size) for name in PARALLEL_SIZES if (size := changes.get(name))}
    return msgspec.structs.replace(config, **values)
