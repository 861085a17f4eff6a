"""Which modules of a model an adapter changes, by PEFT's rules.

The rules are those of `check_target_module_exists` and `get_pattern_key` in PEFT 0.20, of
src/peft/tuners/tuners_utils.py and src/peft/utils/other.py.

The package regex matches expressions: it can stop after a time, and lets other threads go on.
With Python's own, an expression that never ends would hold up a worker's steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from glmserve.errors import AdapterError

_MATCH_SECONDS = 0.2
"""Those that trainers write take microseconds."""
_ALL_LINEAR = "all-linear"
_ANY_LAYER = r".*\.[^.]*\.(\d+)\."

Value = TypeVar("Value")
Names = str | tuple[str, ...]
"""A regular expression of whole names of modules, or names and ends of names."""


@dataclass(frozen=True)
class Selection:
    """Modules that an adapter changes. Names are those of the trained model's modules, such as
    "transformer.encoder.layers.0.self_attention.dense"."""

    targets: Names
    excluded: Names = ()
    layers: frozenset[int] | None = None
    """Only these layers; None: all."""
    layer_lists: tuple[str, ...] = ()
    """Names of the list that the layers are counted in; empty: any."""

    def includes(self, module: str) -> bool:
        """Whether the adapter changes a module."""
        if not _names(self.targets, module) or _names(self.excluded, module):
            return False
        if self.layers is None:
            return True
        patterns = [layer_expression(name) for name in self.layer_lists] or [_ANY_LAYER]
        found = next((m for m in (_begin(p, module) for p in patterns) if m), None)
        return found is not None and int(found[1]) in self.layers


def layer_expression(layer_list: str) -> str:
    """The expression that finds a layer's number behind a name of `layers_pattern`."""
    return rf".*\.{layer_list}\.(\d+)\."


def of_module(pattern: Sequence[tuple[str, Value]], module: str, default: Value) -> Value:
    """The value that a rank_pattern or alpha_pattern has for a module: the first that matches.

    Args:
        pattern: regular expressions of names or of their ends, and values.
    """
    for name, value in pattern:
        if _begin(rf"(.*\.)?({name})$", module):
            return value
    return default


def check_expression(expression: str) -> str | None:
    """What is wrong with a regular expression; None: nothing."""
    import regex

    try:
        regex.compile(expression)
    except (regex.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    return None


def _names(names: Names, module: str) -> bool:
    if isinstance(names, str):
        if names.lower() == _ALL_LINEAR:
            return not module.endswith(("lm_head", "output_layer"))
        return _begin(rf"(?:{names})\Z", module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _begin(expression: str, module: str) -> Any:
    """The match at the beginning of a name, or None.

    Raises:
        AdapterError: it takes too long.
    """
    import regex

    try:
        return regex.match(expression, module, timeout=_MATCH_SECONDS, concurrent=True)
    except TimeoutError:
        raise AdapterError(
            f"the expression {expression!r} of adapter_config.json takes too long to match; use "
            "a simpler one, or a list of names"
        ) from None
