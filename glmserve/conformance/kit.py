"""What the checks use: runners of the device, and the numbers that they should report."""

from __future__ import annotations

import random
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glmserve.config import DTypeName, RunnerConfig, report_nothing
from glmserve.conformance.adapters import adapted_reference
from glmserve.conformance.checkpoints import NAN_TOKEN, VARIANTS, write_checkpoint
from glmserve.conformance.driver import Driver, Piece, Text
from glmserve.contract.prompt_layout import PromptMarks
from glmserve.contract.step import Logprobs, Runner, SamplingInput
from glmserve.devices.registry import load_device
from glmserve.errors import OptionError, StartupError
from glmserve.golden.reference import Reference
from glmserve.model_config import read_model_config
from glmserve.runner.tensor_names import LOGITS

_TOLERANCES = {"float32": 2e-3, "float16": 0.1, "bfloat16": 0.6}
"""Nats, by the dtype of activations. Logits of these checkpoints reach 10."""


Rows = NDArray[np.float32]
"""[T, V]: log-probabilities of the token after each token."""


class Kit:
    """One device under test.

    Args:
        folder: for checkpoints.
        dtype: of all runners.
        tolerance: nats; None: by the dtype.
        prepare: makes what the device serves of a checkpoint, see `--glmserve-prepare`.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        *,
        dtype: DTypeName = "float32",
        tolerance: float | None = None,
        prepare: str | None = None,
    ) -> None:
        self.device = device
        self._folder = folder
        self._dtype = dtype
        self._tolerance = tolerance
        self._prepare = prepare
        self._sizes: dict[str, int] = {"kv_cache_tokens": 2048, "max_batch_size": 8}
        """Empty if they were fixed when the checkpoint was compiled."""
        self._runners: dict[str, Runner] = {}
        self._references: dict[tuple[str, Path | None], Reference] = {}

    def config(self, variant: str = "base", **options: Any) -> RunnerConfig:
        """The config of a runner."""
        return RunnerConfig(
            **{
                "checkpoint": str(self.served(variant)),
                "device": self.device,
                "dtype": self._dtype,
                "threads": 1,
                **self._sizes,
                **options,
            }
        )

    def open(self, variant: str = "base", **options: Any) -> Runner:
        """A new runner; to be closed. The first one shows whether the sizes can be chosen.

        Raises:
            StartupError: the device refuses the checkpoint or an option.
        """
        device = load_device(self.device)
        try:
            return device.create_runner(self.config(variant, **options), report_nothing)
        except OptionError:
            if options or not self._sizes:
                raise
            self._sizes = {}
            return device.create_runner(self.config(variant), report_nothing)

    def runner(self, variant: str = "base") -> Runner:
        """A runner that all checks share. The check is skipped if the device refuses the variant,
        unless it is the base."""
        if variant not in self._runners:
            try:
                self._runners[variant] = self.open(variant)
            except StartupError as error:
                if variant == "base":
                    raise
                pytest.skip(f"{self.device} refuses {variant}: {error.message}")
        return self._runners[variant]

    def close(self) -> None:
        """Close the shared runners."""
        for runner in self._runners.values():
            runner.close()

    def checkpoint(self, variant: str) -> Path:
        """The checkpoint of a variant; `nan` is the base with a token that is NaN."""
        path = self._folder / variant.replace(" ", "-")
        if not path.exists():
            write_checkpoint(
                path, VARIANTS.get(variant, VARIANTS["base"]), nan_token=variant == "nan"
            )
        return path

    def served(self, variant: str) -> Path:
        """What the device loads: the checkpoint, or what the command made of it."""
        checkpoint = self.checkpoint(variant)
        if self._prepare is None:
            return checkpoint
        target = checkpoint.with_name(f"{checkpoint.name}.prepared")
        if not target.exists():
            words = shlex.split(self._prepare)
            command = [word.format(checkpoint=checkpoint, target=target) for word in words]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise StartupError(f"--glmserve-prepare failed: {result.stderr.strip()}")
        return target

    def tolerance(self, runner: Runner) -> float:
        """Nats that a log-probability may be off."""
        return self._tolerance or _TOLERANCES.get(runner.info.dtype, _TOLERANCES["bfloat16"])

    def rows(self, variant: str, token_ids: Sequence[int], adapter: Path | None = None) -> Rows:
        """What the reference says, in float64.

        Args:
            adapter: a LoRA adapter for the variant.
        """
        key = variant, adapter
        if key not in self._references:
            self._references[key] = self._reference(variant, adapter)
        logits = self._references[key].tensors(list(token_ids))[LOGITS]
        rows: Rows = logits.log_softmax(-1).float().numpy()
        return rows

    def _reference(self, variant: str, adapter: Path | None) -> Reference:
        folder = self.checkpoint(variant)
        if adapter is not None:
            return adapted_reference(folder, adapter)
        return Reference(read_model_config(folder), folder, torch.float64, report_nothing)

    def check_row(self, runner: Runner, found: Logprobs | None, row: Rows, token_id: int) -> None:
        """Assert that reported log-probabilities are those of a row of the reference."""
        assert found is not None, "no log-probabilities were reported"
        tolerance = self.tolerance(runner)
        assert found.logprob == pytest.approx(row[token_id], abs=tolerance)
        assert found.top_logprobs == pytest.approx(row[found.top_ids], abs=tolerance)
        best = np.sort(row)[::-1][: len(found.top_ids)]
        assert found.top_logprobs == pytest.approx(best, abs=tolerance), "these are not the best"

    def check_text(self, driver: Driver, variant: str, text: Text, sizes: Sequence[int]) -> None:
        """Compute a text in pieces of these sizes, and assert that what is reported after each
        piece is what the reference says there."""
        rows = self.rows(variant, text.tokens)
        for size in sizes:
            (result,) = driver.compute([Piece(text, size, REPORTING)])
            self.check_choice(
                driver.runner, result.token_id, result.logprobs, rows[text.computed - 1]
            )

    def check_choice(
        self, runner: Runner, token_id: int | None, found: Logprobs | None, row: Rows
    ) -> None:
        """Assert that a greedy choice and its log-probabilities are those of this row."""
        assert token_id is not None
        assert 0 <= token_id < len(row), f"{token_id} is no token"
        assert row[token_id] >= row.max() - 2 * self.tolerance(runner), "not the most likely token"
        self.check_row(runner, found, row, token_id)


REPORTING = SamplingInput(top_logprobs=4)
"""Greedy, with log-probabilities."""


def random_tokens(runner: Runner, variant: str, length: int, seed: int) -> list[int]:
    """Random ids of a variant's vocabulary, with the marks that its prompts need in the middle."""
    config = VARIANTS.get(variant, VARIANTS["base"])
    size: int = config.get("padded_vocab_size") or config["vocab_size"]
    rng = random.Random(seed)
    marks: PromptMarks | None = runner.info.limits.prompt_marks
    special = set() if marks is None else {marks.gmask_id, marks.mask_id, marks.sop_id}
    usable = [t for t in range(size) if t not in special and t != NAN_TOKEN]
    tokens = [rng.choice(usable) for _ in range(length)]
    if marks is not None:
        middle = max(0, length // 2 - 1)
        tokens[middle : middle + 2] = marks.shortest_prompt
    return tokens
