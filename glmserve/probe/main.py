"""Entry point of the probe process: reads a RunnerConfig and writes Findings, both as JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from glmserve.config import RunnerConfig
from glmserve.contract.diagnosis import Findings
from glmserve.contract.wire import decode_json, encode_json
from glmserve.devices.affinity import run_on
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.process.failure import exit_with


def main() -> NoReturn:
    """Read the configuration from stdin, write the findings to stdout, and exit."""
    exit_with(_answer)


def _answer() -> None:
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # output of libraries must not mix with the answer
        config = decode_json(sys.stdin.buffer.read(), RunnerConfig)
        if config.cpus is not None:
            run_on(config.cpus, config.numa_node)
        answer.write(encode_json(diagnose(config)))


def diagnose(config: RunnerConfig) -> Findings:
    """Check the machine, the checkpoint's weights and the memory needs."""
    # Imported here, where an interrupt is handled: torch takes seconds.
    from glmserve.probe.machine import look_at_machine
    from glmserve.probe.plans import attempt_all
    from glmserve.probe.weights import look_at_weights

    machine = look_at_machine(config)
    model = _read_model(config)
    if model is None:
        return Findings(machine, None, [])
    weights = None
    if config.load_format == "auto":
        weights = look_at_weights(model, Path(config.checkpoint))
    return Findings(machine, weights, attempt_all(config, model), _misfit(config, model))


def _misfit(config: RunnerConfig, model: ModelConfig) -> str:
    """Why an adapter does not fit; empty: all do. Their settings are checked elsewhere."""
    from glmserve.models.adapter_check import check_adapters

    try:
        check_adapters(config.adapters, model)
    except CheckpointError as error:
        return error.message
    return ""


def _read_model(config: RunnerConfig) -> ModelConfig | None:
    """None: it cannot be read, which the command line reports itself."""
    try:
        return read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
    except (CheckpointError, OSError):
        return None
