"""Rewrites keywords of older drafts and of OpenAPI 3.0 as those of draft 2020-12."""

from __future__ import annotations

from typing import Any

_NULLS = frozenset({"const", "default", "example"})
"""Keywords with values that may be null. Another one that is null is as good as absent: Go's
generators write it for an empty list."""


def modern(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the same meaning in draft 2020-12, apart from the schemas within it.

    Malformed values stay as they are, for the checks that follow.
    """
    result = {key: value for key, value in schema.items() if value is not None or key in _NULLS}
    _rewrite_tuple(result)
    _split_dependencies(result)
    for bound in ("Minimum", "Maximum"):
        _rewrite_exclusive(result, f"exclusive{bound}", bound.lower())
    _rewrite_nullable(result)
    return result


def _rewrite_tuple(schema: dict[str, Any]) -> None:
    """Drafts 4 to 2019-09: a list in `items`, and `additionalItems` for the rest."""
    others = schema.pop("additionalItems", None)
    if not isinstance(schema.get("items"), list):
        return
    schema.setdefault("prefixItems", schema.pop("items"))
    schema.pop("items", None)
    if not schema["prefixItems"]:
        del schema["prefixItems"]
    if others is not None:
        schema["items"] = others


def _split_dependencies(schema: dict[str, Any]) -> None:
    """Drafts 3 to 7: `dependencies` holds lists of names, names, and schemas."""
    dependencies = schema.get("dependencies")
    if not isinstance(dependencies, dict):
        return
    del schema["dependencies"]
    for name, value in dependencies.items():
        if isinstance(value, str):
            value = [value]
        keyword = "dependentRequired" if isinstance(value, list) else "dependentSchemas"
        schema[keyword] = {**schema.get(keyword, {}), name: value}


def _rewrite_exclusive(schema: dict[str, Any], keyword: str, bound: str) -> None:
    """Draft 4: a boolean that makes the bound exclusive."""
    value = schema.get(keyword)
    if not isinstance(value, bool):
        return
    del schema[keyword]
    if value and bound in schema:
        schema[keyword] = schema.pop(bound)


def _rewrite_nullable(schema: dict[str, Any]) -> None:
    """OpenAPI 3.0: `nullable` beside a type also allows null."""
    value = schema.get("nullable")
    if not isinstance(value, bool):
        return
    del schema["nullable"]
    kind = schema.get("type")
    if value and isinstance(kind, str | list):
        names = [kind] if isinstance(kind, str) else kind
        schema["type"] = names if "null" in names else [*names, "null"]
