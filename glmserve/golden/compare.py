"""Runs a device on the sequence of a golden and compares."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from glmserve.config import GoldenComparison, RunnerConfig, report_nothing
from glmserve.contract.step import Runner
from glmserve.devices.affinity import run_on
from glmserve.devices.registry import device_for
from glmserve.errors import CheckpointError
from glmserve.golden.device_tensors import inspected_tensors, log_probabilities
from glmserve.golden.difference import differences
from glmserve.golden.dump_folder import About, Golden, architecture_digest, read_golden
from glmserve.golden.picture import write_picture
from glmserve.golden.report import Comparison, default_tolerance
from glmserve.model_config import read_model_config
from glmserve.runner import tensor_names as names
from glmserve.runner.inspection import InspectableRunner


def compare(options: GoldenComparison) -> Comparison:
    """Load the device's runner, compute the golden's sequence, and compare.

    Raises:
        CheckpointError: the folder is no golden, or is of another checkpoint.
        StartupError: the device cannot load the model.
        OptionError: the sequence does not fit into the device's limits.
    """
    golden = read_golden(Path(options.golden))
    config = _runner_config(options.runner, golden.about)
    if config.cpus is not None:
        run_on(config.cpus, config.numa_node)
    runner = device_for(config).create_runner(config, report_nothing)
    print(f"device: {runner.info.device}, {runner.info.dtype}", flush=True)
    print(f"golden: {golden.about.reference}, {len(golden.about.token_ids)} tokens", flush=True)
    try:
        comparison = _compare(runner, golden, options)
    finally:
        runner.close()
    if options.picture is not None:
        title = f"{runner.info.device}, {runner.info.dtype}"
        write_picture(
            Path(options.picture),
            comparison.differences,
            golden.about.num_layers,
            comparison.tolerance,
            title,
        )
    return comparison


def _compare(runner: Runner, golden: Golden, options: GoldenComparison) -> Comparison:
    about = golden.about
    found = []
    if isinstance(runner, InspectableRunner):
        tensors = inspected_tensors(runner, about.token_ids)
        found = differences(tensors, golden.tensors, about.num_layers)
    after = torch.tensor(about.token_ids[1:])[:, None]
    right = golden.tensors[names.LOGITS][:-1].log_softmax(-1).gather(1, after)[:, 0]
    errors = (log_probabilities(runner, about.token_ids) - right).abs()
    worst = float(errors.nan_to_num(nan=float("inf")).max()) if len(errors) else 0.0
    tolerance = options.tolerance or default_tolerance(runner.info.dtype, options.runner)
    return Comparison(found, worst, tolerance)


def _runner_config(config: RunnerConfig, about: About) -> RunnerConfig:
    """The config for the golden's checkpoint, or for another one of the same architecture.

    Raises:
        CheckpointError: the architecture is another.
    """
    config = msgspec.structs.replace(
        config,
        checkpoint=config.checkpoint or about.checkpoint,
        ptuning_checkpoint=about.ptuning_checkpoint,
        rope_scaling=config.rope_scaling or about.rope_scaling,
    )
    model = read_model_config(
        Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
    )
    if architecture_digest(model) != about.architecture_sha256:
        raise CheckpointError(
            f"{model.path}: another architecture than that of the golden's checkpoint "
            f"{about.checkpoint}; dump a golden of this one"
        )
    return config
