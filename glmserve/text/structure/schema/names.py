"""Rewrites rules about the names of properties, `propertyNames` and `patternProperties`."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema.formats import full_pattern
from glmserve.text.structure.schema.lookahead import conjunction
from glmserve.text.structure.schema.pattern import UnsupportedPatternError, finite_names

Schema = dict[str, Any]

_MATCHES_ALL = frozenset(("", ".*", "^.*", ".*$", "^.*$", "^", "$", "[^]*", "^[^]*$"))


def name_rules(schema: Any) -> list[Schema] | None:
    """Schemas of objects of which all must match, so that each name matches a schema.

    Args:
        schema: the value of `propertyNames`, without references.

    Returns:
        None if the schema has a keyword that cannot be rewritten.
    """
    if schema is True:
        return []
    if schema is False:
        return [{"maxProperties": 0}]
    rules: list[Schema] = []
    kind = schema.get("type", "string")
    if "string" not in ([kind] if isinstance(kind, str) else kind):
        rules.append({"maxProperties": 0})
    for keyword in ("enum", "const"):
        if keyword in schema:
            values = schema[keyword] if keyword == "enum" else [schema[keyword]]
            rules.append(_only({name: True for name in values if isinstance(name, str)}))
    patterns = [schema["pattern"]] if "pattern" in schema else []
    if (of_format := full_pattern(schema.get("format", ""))) is not None:
        patterns.append(of_format)
    if "minLength" in schema or "maxLength" in schema:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if most is not None and most < least:
            rules.append({"maxProperties": 0})
        else:
            patterns.append(f"^[^]{{{least},{'' if most is None else int(most)}}}$")
    try:
        parts = {part for pattern in patterns for part in conjunction(pattern)}
    except UnsupportedPatternError:
        return None
    if len(parts) > 1:  # the engine wants patterns of names that no name matches both of
        return None
    return [*rules, *map(_matching, parts)]


def _only(names: dict[str, bool]) -> Schema:
    return {"properties": names, "additionalProperties": False}


def _matching(pattern: str) -> Schema:
    return {"patternProperties": {pattern: True}, "additionalProperties": False}


def without_simple_patterns(schema: Schema) -> Schema:
    """The schema with those `patternProperties` left that match many names, but not all names.

    A pattern such as ^(a|b)$ is a list of properties. A pattern such as .* applies to all.
    """
    patterns = dict(schema["patternProperties"])
    properties = dict(schema.get("properties", {}))
    result = {key: value for key, value in schema.items() if key != "patternProperties"}
    for pattern, member in schema["patternProperties"].items():
        names = finite_names(pattern)
        if names is not None:
            del patterns[pattern]
            properties |= {name: _both(properties.get(name, True), member) for name in names}
    for pattern in [pattern for pattern in patterns if pattern in _MATCHES_ALL]:
        member = patterns.pop(pattern)
        for others in (properties, patterns):
            others.update({name: _both(other, member) for name, other in others.items()})
        result["additionalProperties"] = member
    if properties:
        result["properties"] = properties
    return {**result, "patternProperties": patterns} if patterns else result


def _both(one: Any, other: Any) -> Any:
    if one is True or other is True:
        return other if one is True else one
    return {"allOf": [one, other]}
