"""The rotary embedding in the config.json of transformers' in-tree Glm and Glm4."""

from __future__ import annotations

import math
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.config import ROPE_BASE, RopeConfig, Yarn
from glmserve.model_config.reader import ConfigReader

_SERVED = ("default", "linear", "yarn")
_OF_KIND = {
    "default": set[str](),
    "linear": {"factor"},
    "yarn": {
        *("factor", "original_max_position_embeddings", "attention_factor", "beta_fast"),
        *("beta_slow", "mscale", "mscale_all_dim", "truncate", "finetuned"),
    },
}
"""The fields that each kind of scaling has."""
_COMMON = {"type", "rope_type", "rope_theta", "partial_rotary_factor"}


def glm_rope(reader: ConfigReader, head_dim: int, context: int) -> RopeConfig:
    """The rotary embedding: rope_parameters (transformers 5), or rope_scaling and flat fields.

    Args:
        reader: of the config.json.
        head_dim: numbers of a head.
        context: max_position_embeddings, the original context of YaRN unless that says another.

    Raises:
        CheckpointError: a value is out of range, or the kind of scaling is not supported.
    """
    flat = {
        "partial_rotary_factor": reader.number("partial_rotary_factor", 0.5),
        "rope_theta": reader.number("rope_theta", ROPE_BASE),
    }
    fields = _Fields(reader)
    fraction = fields.number("partial_rotary_factor", flat["partial_rotary_factor"])
    if fraction > 1:
        raise CheckpointError(f"{reader.path}: partial_rotary_factor {fraction} is above 1")
    return RopeConfig(
        dim=int(head_dim * fraction),
        base=fields.number("rope_theta", flat["rope_theta"]),
        position_divisor=fields.number("factor") if fields.kind == "linear" else 1.0,
        yarn=_yarn(fields, context) if fields.kind == "yarn" else None,
    )


def stretched_context(rope: RopeConfig, max_position_embeddings: int) -> int:
    """Tokens of the longest context. Publishers tell users to add YaRN to a config.json and to
    leave max_position_embeddings as it is."""
    if rope.yarn is None:
        return max_position_embeddings
    return max(max_position_embeddings, int(rope.yarn.original_context * rope.yarn.factor))


class _Fields:
    """The object that describes the rotation; it is empty in most checkpoints.

    Raises:
        CheckpointError: its kind is not served, or it has a field that this kind does not have.
    """

    def __init__(self, reader: ConfigReader) -> None:
        older, newer = reader.mapping("rope_scaling"), reader.mapping("rope_parameters")
        self._reader = reader
        self._key = "rope_scaling" if older else "rope_parameters"
        self._found: dict[str, Any] = older or newer
        kind = self._found.get("rope_type") or self._found.get("type") or "default"
        if kind not in _SERVED:
            raise reader.refuse(
                self._key, f"rope_type {kind!r} is not served; known: {', '.join(_SERVED)}"
            )
        self.kind: str = kind
        known = _COMMON | _OF_KIND[kind]
        unknown = sorted(name for name in self._found.keys() - known if self._found[name])
        if unknown:
            raise reader.refuse(self._key, f"{unknown[0]} is not known for {kind} scaling")

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number; without a default it must be there."""
        value = self._found.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise self._reader.refuse(self._key, f"{name} must be a positive, finite number")
        return float(value)

    def optional(self, name: str) -> float | None:
        """A positive number, or None if the field is missing."""
        return None if self._found.get(name) is None else self.number(name)

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._found.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._reader.refuse(self._key, f"{name} must be true or false")
        return value


def _yarn(fields: _Fields, context: int) -> Yarn:
    """The values and defaults of transformers' `_compute_yarn_parameters`."""
    factor = fields.number("factor")
    scales = fields.optional("mscale"), fields.optional("mscale_all_dim")
    attention = fields.optional("attention_factor")
    if attention is None:
        numerator, denominator = scales
        if numerator is not None and denominator is not None:
            attention = _magnitude(factor, numerator) / _magnitude(factor, denominator)
        else:
            attention = _magnitude(factor, 1.0)
    return Yarn(
        factor=factor,
        original_context=int(fields.number("original_max_position_embeddings", context)),
        attention_factor=attention,
        beta_fast=fields.number("beta_fast", 32.0),
        beta_slow=fields.number("beta_slow", 1.0),
        truncate=fields.flag("truncate", True),
    )


def _magnitude(factor: float, scale: float) -> float:
    """The paper's temperature of attention, as a factor of cosines and sines."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0
