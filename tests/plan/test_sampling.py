"""The sampling parameters of the contract: defaults, properties, and size on the wire."""

from __future__ import annotations

import msgspec
import pytest

from glmserve.contract.sampling import GREEDY_BELOW, Sampling
from glmserve.contract.step import SamplingInput

CHANGES: dict[str, object] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {3: 1.0},
}


def test_every_parameter_is_looked_at() -> None:
    assert CHANGES.keys() == set(Sampling.__struct_fields__)


def test_the_defaults_choose_the_largest_logit() -> None:
    assert Sampling().is_plain_greedy
    assert not Sampling().adjusts_logits


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_parameter_makes_of_the_defaults(name: str) -> None:
    sampling = Sampling(**{name: CHANGES[name]})  # type: ignore[arg-type]
    assert sampling.is_greedy == (name != "temperature")
    assert sampling.penalises == name.endswith("_penalty")
    assert sampling.penalises_output == (name in ("presence_penalty", "frequency_penalty"))
    assert sampling.adjusts_logits == (name.endswith("_penalty") or name == "logit_bias")
    assert sampling.is_plain_greedy == (name in ("top_p", "top_k", "min_p"))


def test_temperatures_near_zero_are_greedy() -> None:
    assert Sampling(temperature=GREEDY_BELOW / 2).is_plain_greedy
    assert not Sampling(temperature=GREEDY_BELOW).is_greedy


def test_defaults_take_no_bytes() -> None:
    encode = msgspec.msgpack.encode
    assert len(encode(SamplingInput())) <= 10
    assert len(encode(SamplingInput(sampling=Sampling(temperature=1.0)))) < 35
    assert msgspec.msgpack.decode(encode(SamplingInput()), type=SamplingInput) == SamplingInput()
