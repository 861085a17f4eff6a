"""Schemas within glmserve's own grammars, with what a grammar must know about each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.json_schema import WHITESPACE, converted_schema
from glmserve.text.structure.lark_source import embedded
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.unique import UniqueItems, add_unique

ANSWER_LAYOUT = {"whitespace_pattern": WHITESPACE}
"""The layout of an answer, as of one that is nothing but JSON."""

_SAFE = "/~$-._#"


def embedded_schema(
    schema: Any,
    *,
    name: str = "",
    place: str = "",
    leniency: Leniency = Leniency.NOTHING,
    layout: Mapping[str, Any] | None = None,
    is_guarded: bool = False,
) -> str:
    """A schema as a grammar of glmserve has it behind a rule's name.

    Args:
        schema: as the user sent it, or a part of that.
        name: the tool whose parameters it describes; "" for the answer itself.
        place: JSON pointer of the part.
        leniency: what may be left out.
        layout, is_guarded: see `converted_schema`.
    """
    options = {
        "name": name,
        "place": place,
        "leniency": int(leniency),
        "layout": layout,
        "is_guarded": is_guarded,
    }
    return f"%json {json.dumps({'schema': schema, **options}, ensure_ascii=False)}"


def embedded_parts(grammar: str) -> list[dict[str, Any]]:
    """What `embedded_schema` wrote into a grammar, in order."""
    found: list[dict[str, Any]] = []

    def collect(part: dict[str, Any]) -> dict[str, Any]:
        found.append(part)
        return {}

    embedded(grammar, "start", collect)
    return found


class EmbeddedSchemas:
    """Converts embedded schemas, and notes what they leave out.

    Args:
        left_out: keywords that lenient schemas leave out.
    """

    def __init__(self, left_out: frozenset[str]) -> None:
        self._left_out = left_out
        self.dropped: list[str] = []
        """Keywords that were left out; see `keyword_name`."""
        self.unique: UniqueItems = {}
        """Arrays of guarded schemas whose strings must differ."""

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """The schema for llguidance.

        Raises:
            InvalidRequestError: the schema is refused.
        """
        name, leniency = part["name"], Leniency(part["leniency"])
        try:
            converted = converted_schema(
                part["schema"],
                leniency,
                self._left_out,
                part["layout"],
                is_guarded=part["is_guarded"],
            )
        except InvalidRequestError as error:
            if not name:
                raise
            raise InvalidRequestError.about(
                "tools",
                "{param}: the parameters of {name!r}: {reason}",
                name=name,
                reason=error.message,
            ) from None
        for property_name, strings in converted.unique.items():
            add_unique(self.unique, property_name, strings)
        for pointer in converted.dropped:
            self.dropped.append(keyword_name(name, part["place"] + pointer))
        return converted.schema


def keyword_name(tool: str, pointer: str) -> str:
    """A keyword's name in headers and logs: the tool's name, if any, a hash, and a JSON pointer."""
    return quote(f"{tool}#{pointer}", safe=_SAFE)
