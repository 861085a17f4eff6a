"""The fields by which clients switch, limit and place a model's thoughts.

Every service has names of its own for the same. Models that do not reason honour all of them by
doing nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from pydantic import Field

from glmserve.api.protocol.base import StrictModel

_OFF = frozenset({"disabled", "off", "none", "false", "no", "chat"})
_UNUSED = "; no effect on models that do not reason."


class ThoughtPlace(Enum):
    """Where an answer has its thoughts."""

    OWN = "own"
    """In fields of their own: reasoning_content."""
    CONTENT = "content"
    """In the text, between tags."""
    NOWHERE = "nowhere"


class Thinking(NamedTuple):
    """What a request says about thoughts.

    Attributes:
        enabled: whether the model is to think; None: as it was trained.
        budget: the most tokens of thoughts; None: no limit.
        budget_field: the field that says so.
        place: where the answer has them.
    """

    enabled: bool | None = None
    budget: int | None = None
    budget_field: str = ""
    place: ThoughtPlace = ThoughtPlace.OWN


class ThinkingFields(StrictModel):
    """The fields of a request."""

    enable_thinking: bool | None = Field(None, description="Whether to think" + _UNUSED)
    thinking: dict[str, Any] | bool | str | None = Field(
        None, description='{"type": "disabled"}: do not think' + _UNUSED
    )
    thinking_mode: bool | str | None = Field(None, description="As thinking.")
    think: bool | str | None = Field(None, description="As thinking.")
    reasoning_effort: str | None = Field(
        None, description="none: do not think. Other values change nothing."
    )
    reasoning: dict[str, Any] | None = Field(
        None, description="With enabled, effort, exclude or max_tokens, as the fields of that kind."
    )
    thinking_budget: int | None = Field(
        None, description="The most tokens of thoughts; 0: do not think, -1: no limit" + _UNUSED
    )
    thinking_token_budget: int | None = Field(None, description="As thinking_budget.")
    thinking_budget_tokens: int | None = Field(None, description="As thinking_budget.")
    reasoning_budget: int | None = Field(None, description="As thinking_budget.")
    include_reasoning: bool | None = Field(
        None, description="false: leave thoughts out of the response" + _UNUSED
    )
    separate_reasoning: bool | None = Field(
        None, description="false: thoughts are in the content, between tags" + _UNUSED
    )
    reasoning_split: bool | None = Field(None, description="As separate_reasoning.")
    reasoning_in_content: bool | None = Field(
        None, description="true: thoughts are in the content, between tags" + _UNUSED
    )
    reasoning_format: str | None = Field(
        None, description="none or raw: in the content; hidden: nowhere" + _UNUSED
    )

    def thinking_of(self, variables: Mapping[str, Any]) -> Thinking:
        """What these fields say, or else variables of a template with the same names."""
        own = {name: getattr(self, name) for name in ThinkingFields.model_fields}
        said = {**variables, **{name: v for name, v in own.items() if v is not None}}
        switches = list(_switches(said))
        budget_field, budget = next(_budgets(said), ("", None))
        return Thinking(
            enabled=False if budget == 0 or False in switches else True if switches else None,
            budget=budget if budget and budget > 0 else None,
            budget_field=budget_field,
            place=_place(said),
        )


def _switches(said: Mapping[str, Any]) -> Iterator[bool]:
    """Whether to think, as each field says it."""
    nested = _nested(said)
    for value in (said.get("enable_thinking"), nested.get("enabled")):
        if isinstance(value, bool):
            yield value
    for name in ("thinking", "thinking_mode", "think"):
        value = said.get(name)
        kind = value.get("type") if isinstance(value, dict) else value
        if isinstance(kind, str) and kind:
            yield kind.lower() not in _OFF
        elif isinstance(kind, bool):
            yield kind
    for effort in (said.get("reasoning_effort"), nested.get("effort")):
        if effort == "none":
            yield False


def _nested(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields within `reasoning`; as a variable of a template it may be anything."""
    value = said.get("reasoning")
    return value if isinstance(value, dict) else {}


def _budgets(said: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    names = ("thinking_budget", "thinking_token_budget", "thinking_budget_tokens")
    for name in (*names, "reasoning_budget"):
        if type(said.get(name)) is int:
            yield name, said[name]
    most = _nested(said).get("max_tokens")
    if type(most) is int:
        yield "reasoning.max_tokens", most


def _place(said: Mapping[str, Any]) -> ThoughtPlace:
    written = said.get("reasoning_format")
    excluded = _nested(said).get("exclude") is True
    if excluded or said.get("include_reasoning") is False or written == "hidden":
        return ThoughtPlace.NOWHERE
    split = said.get("separate_reasoning"), said.get("reasoning_split")
    if False in split or said.get("reasoning_in_content") or written in ("none", "raw"):
        return ThoughtPlace.CONTENT
    return ThoughtPlace.OWN
