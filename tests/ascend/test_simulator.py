"""The simulated calls have the vendor's signatures."""

from __future__ import annotations

import inspect

import pytest
import torch

from support.ascend_simulator import kernels
from support.ascend_simulator.library import RECORD, register


@pytest.mark.parametrize("name", RECORD["schemas"])
def test_signature(name: str) -> None:
    """Same arguments in the same order, same kinds, same defaults; and what is registered is what
    the vendor's package had."""
    register()
    namespace, _, own = name.partition("::")
    recorded = torch._C.parse_schema(RECORD["schemas"][name])
    registered = getattr(getattr(torch.ops, namespace), own).default._schema
    assert str(registered) == str(recorded)
    ours = inspect.signature(getattr(kernels, own)).parameters.values()
    theirs = recorded.arguments
    assert [p.name for p in ours] == [a.name for a in theirs]
    assert [p.kind is p.KEYWORD_ONLY for p in ours] == [a.kwarg_only for a in theirs]
    defaults = [(p.default, a) for p, a in zip(ours, theirs, strict=True)]
    for default, argument in defaults:
        assert (default is inspect.Parameter.empty) == (not argument.has_default_value())
        if default is not inspect.Parameter.empty:
            assert default == argument.default_value
