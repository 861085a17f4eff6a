"""The comparison of a device with a golden, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.golden.difference import Difference, first_beyond

_TOLERANCES = {"float32": 1e-4, "float16": 0.06, "bfloat16": 0.4}
"""Largest relative error of a row, by the dtype of activations. The cpu device has 1e-5, 0.02 and
0.14 at worst, on the small checkpoints in tests/goldens, whose random weights are the worst case.
An error of a kernel, such as a wrong rotation, is about 1."""
_ROUNDED_TOLERANCE = 0.6
"""The same with 8 bits for weights, activations or the KV cache, where the cpu device has 0.2."""
_FOUR_BITS = ("int4", "w4a8")


class Comparison(NamedTuple):
    """What a device computed, beside a golden."""

    differences: list[Difference]
    """Empty if the device cannot be inspected."""
    log_probability_error: float
    """Largest difference of a log-probability of the sequence's tokens, in nats."""
    tolerance: float
    """Of relative errors, and in nats of log-probabilities."""

    @property
    def is_alike(self) -> bool:
        """Whether everything is within the tolerance."""
        alike = self.log_probability_error <= self.tolerance * _NATS
        return alike and first_beyond(self.differences, self.tolerance) is None


_NATS = 10.0
"""Nats of log-probabilities allowed for a relative error of 1: logits of these models reach 13."""


def default_tolerance(dtype: str, config: RunnerConfig) -> float:
    """The tolerance for a dtype of activations.

    Raises:
        OptionError: the options round weights to 4 bits, which changes a model too much.
    """
    if config.quantization in _FOUR_BITS:
        raise OptionError(
            f"--quantization {config.quantization} changes the model more than most faults do: "
            "convert the checkpoint with glmserve convert, and dump a golden of the result; or "
            "give a --tolerance"
        )
    if config.quantization is not None or config.kv_cache_dtype != "auto":
        return _ROUNDED_TOLERANCE
    return _TOLERANCES.get(dtype, _TOLERANCES["bfloat16"])


def lines(comparison: Comparison, *, every_tensor: bool) -> Iterator[str]:
    """A table, and what follows from it.

    Args:
        every_tensor: a line for each tensor instead of one for each layer's worst.
    """
    if comparison.differences:
        yield f"{'tensor':26}{'relative error':>16}{'cosine':>12}{'token':>8}"
        rows = comparison.differences if every_tensor else _worst(comparison.differences)
        for row in rows:
            mark = "" if row.relative_error <= comparison.tolerance else "  beyond the tolerance"
            yield (
                f"{row.name:26}{row.relative_error:16.2e}{row.cosine:12.6f}{row.worst_row:8}{mark}"
            )
    else:
        yield "this device does not report its tensors (see InspectableRunner)"
    yield (
        f"log-probabilities of the tokens: at most {comparison.log_probability_error:.2e} nats off"
    )
    yield _conclusion(comparison)


def _worst(found: list[Difference]) -> Iterator[Difference]:
    """The worst tensor of each layer, and all others that belong to no layer."""
    worst: dict[str, Difference] = {}
    for difference in found:
        owner = difference.name.rpartition(".")[0] or difference.name
        if owner not in worst or difference.relative_error > worst[owner].relative_error:
            worst[owner] = difference
    yield from worst.values()


def _conclusion(comparison: Comparison) -> str:
    tolerance = comparison.tolerance
    if comparison.is_alike:
        return f"alike: nothing is beyond the tolerance of {tolerance:g}"
    first = first_beyond(comparison.differences, tolerance)
    if first is None:
        return (
            f"different: the log-probabilities are more than {tolerance * _NATS:g} nats off, and "
            "no reported tensor shows why"
        )
    order = [difference.name for difference in comparison.differences]
    index = order.index(first.name)
    before = f", after {order[index - 1]}, which is right" if index else ""
    return (
        f"different: {first.name} is the first tensor beyond the tolerance of {tolerance:g}, at "
        f"token {first.worst_row}{before}"
    )
