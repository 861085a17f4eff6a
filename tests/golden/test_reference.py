"""The references: they compute what the original models do, and agree on every tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from glmserve.config import report_nothing
from glmserve.errors import OptionError
from glmserve.golden.difference import differences
from glmserve.golden.reference import Reference
from glmserve.golden.transformers_reference import TransformersReference
from glmserve.model_config import read_model_config
from glmserve.runner import tensor_names as names
from support.golden import ATOL, FIRST_GENERATION, NAMES, PREFIXES, read_logits

DTYPES = (torch.float64, torch.float32)


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_of_the_original(golden_models: Path, name: str, dtype: torch.dtype) -> None:
    folder = golden_models / name
    reference = Reference(read_model_config(folder), folder, dtype, report_nothing)
    for ids, want in read_logits(folder):
        logits = reference.tensors(ids)[names.LOGITS].numpy()
        np.testing.assert_allclose(logits, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize(("base", "prefix"), PREFIXES)
def test_logits_behind_a_prefix(golden_models: Path, base: str, prefix: str) -> None:
    folder = golden_models / base
    config = read_model_config(folder, None, str(golden_models / prefix))
    reference = Reference(config, folder, torch.float64, report_nothing)
    for ids, want in read_logits(golden_models / prefix):
        logits = reference.tensors(ids)[names.LOGITS].numpy()
        np.testing.assert_allclose(logits, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "glm2_res_post_ln"])
def test_transformers_agrees_on_every_tensor(golden_models: Path, name: str) -> None:
    """But for the queries after their rotation, which no module of transformers returns."""
    pytest.importorskip("transformers")
    folder = golden_models / name
    config = read_model_config(folder)
    ids, _ = read_logits(folder)[-1]
    own, theirs = (
        kind(config, folder, torch.float64, report_nothing).tensors(ids)
        for kind in (Reference, TransformersReference)
    )
    assert own.keys() - theirs.keys() == {f"layers.{i}.query" for i in range(config.num_layers)}
    found = differences(theirs, own, config.num_layers)
    assert len(found) == len(theirs)
    # transformers computes its norms and angles in float32.
    assert max(difference.relative_error for difference in found) < 1e-5


@pytest.mark.parametrize(
    ("name", "reason"),
    [("glm1_base", "not ChatGLM-6B's block"), ("glm2_res_post_ln", "not to the normed tensor")],
)
def test_what_transformers_does_not_have(golden_models: Path, name: str, reason: str) -> None:
    folder = golden_models / name
    with pytest.raises(OptionError, match=reason):
        TransformersReference(read_model_config(folder), folder, torch.float64, report_nothing)
