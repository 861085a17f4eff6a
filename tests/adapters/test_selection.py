"""Regular expressions of an adapter: those of trainers match, endless ones are refused."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from glmserve.adapters.selection import Selection, check_expression, of_module
from glmserve.errors import AdapterError

MODULE = "transformer.encoder.layers.11.self_attention.query_key_value"
ENDLESS = [
    r"([a-z._0-9]+)+[A-Z]",
    r"(.|\w)*[A-Z]",
    r"((\w|\.)+?){2,}[A-Z]",
    r"(?=(\w+\.?)+[A-Z])dense",
    r"(a|.)*" * 8 + "[A-Z]",
    r"([a-z._0-9]+)+X",
]


@pytest.mark.parametrize(
    ("expression", "is_included"),
    [
        (r".*\.(query_key_value|dense)", True),
        (r"^(?!.*(vision|patch_embed)).*(?:query_key_value|dense).*", True),
        (r"^(model\.layers(?=\.).*\.(q_proj|k_proj|v_proj|o_proj))$", False),
        (r"transformer\.encoder\.layers\.(\d+|x)\.self_attention\.query_key_value", True),
        (r"query_key_value", False),  # an expression is of the whole name
    ],
)
def test_what_trainers_write(expression: str, is_included: bool) -> None:
    assert check_expression(expression) is None
    assert Selection(expression).includes(MODULE) == is_included


@pytest.mark.parametrize("expression", ENDLESS)
def test_endless_ones_end(expression: str) -> None:
    """Those that the package regex cannot answer at once are given up."""
    begin = time.monotonic()
    for ask in (
        lambda: Selection(expression).includes(MODULE),
        lambda: Selection(("query_key_value",), expression).includes(MODULE),
        lambda: of_module([(expression, 4)], MODULE, 8),
    ):
        with suppress(AdapterError):
            ask()
    assert time.monotonic() - begin < 20


def test_what_is_said_of_one_that_does_not_end() -> None:
    with pytest.raises(AdapterError, match="takes too long to match; use a simpler one"):
        Selection(r"(.|\w)*[A-Z]").includes(MODULE)


def test_lists_of_layers() -> None:
    one = Selection(("query_key_value",), layers=frozenset([11]), layer_lists=("layers",))
    assert one.includes(MODULE)
    assert not Selection(("query_key_value",), layers=frozenset([1])).includes(MODULE)
