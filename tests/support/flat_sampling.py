"""Sampling parameters given as one flat set of options."""

from __future__ import annotations

from typing import Any

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import SamplingInput
from glmserve.request import SamplingParams


def sampling_input(**options: Any) -> SamplingInput:
    """A SamplingInput of fields of Sampling and fields of its own."""
    return SamplingInput(sampling=_sampling(options), **options)


def sampling_params(max_tokens: int, **options: Any) -> SamplingParams:
    """SamplingParams of fields of Sampling and fields of their own."""
    return SamplingParams(max_tokens=max_tokens, sampling=_sampling(options), **options)


def _sampling(options: dict[str, Any]) -> Sampling:
    """Take the fields of Sampling out of `options`."""
    names = options.keys() & set(Sampling.__struct_fields__)
    return Sampling(**{name: options.pop(name) for name in names})
