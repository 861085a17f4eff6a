"""Converts the keywords that the engine does not have, or not in full."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema import alternatives as ways
from glmserve.text.structure.schema.conversion import Conversion, Keyword, Schema
from glmserve.text.structure.schema.exclusive import are_exclusive
from glmserve.text.structure.schema.names import name_rules
from glmserve.text.structure.schema.negation import negated
from glmserve.text.structure.schema.one_of import exclusive_alternatives
from glmserve.text.structure.schema.plain_keywords import pass_on
from glmserve.text.structure.schema.unevaluated import unevaluated
from glmserve.text.structure.schema.unique import add_unique, possible_strings
from glmserve.text.structure.schema.values import UNSUPPORTED

_OVERLAP = (
    "has alternatives that may both match; use anyOf, or give each object a required property with "
    "a const of its own"
)
_UNKNOWN_FOR_NAMES = frozenset("$ref oneOf if $dynamicRef $recursiveRef".split())

_BOUNDED_NAMES = frozenset(("propertyNames", "patternProperties"))

_MAX_FINITE = 16


def _finite_values(schema: Schema) -> list[Any] | None:
    """All values of a schema, if they are few."""
    if isinstance(schema, bool):
        return None
    values: list[Any] = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if not values and schema.get("type") == "boolean":
        values = [False, True]
    if not 0 < len(values) <= _MAX_FINITE:
        return None
    unique = list[Any]()
    for value in values:
        if not any(_is_equal(value, one) for one in unique):
            unique.append(value)
    return unique


def _is_equal(value: Any, other: Any) -> bool:
    """Equality in JSON Schema: 1 is 1.0, but true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _refuse(conversion: Conversion, keyword: str, value: Any) -> None:
    raise conversion.unsupported(keyword)


def _one_of(conversion: Conversion, keyword: str, value: list[Any]) -> None:
    siblings = conversion.known_of_values()
    alternatives = exclusive_alternatives(value, siblings, conversion.context.target)
    if alternatives is value:
        conversion.any_instead(value)
    elif alternatives:
        conversion.add_one_of(alternatives, keyword)
    else:
        raise conversion.unsupported(keyword, _OVERLAP)


def _not(conversion: Conversion, keyword: str, value: Any) -> None:
    schema = conversion.context.checked(value, f"{conversion.place}/{keyword}")
    constraints = schema.keys() & conversion.keywords.keys() if isinstance(schema, dict) else set()
    if isinstance(schema, dict) and constraints == {"$ref"}:
        with conversion.context.rewriting(f"{conversion.place}/{keyword}"):
            complement = conversion.context.reference(
                conversion.place, schema["$ref"], conversion.depth, complement=True
            )
        conversion.all.append(complement)
        return
    siblings, target = conversion.known_of_values(), conversion.context.target
    possible = [one for one in negated(schema) if not are_exclusive(one, siblings, target)]
    if constraints and not possible:
        raise conversion.unsupported(keyword, "has a schema whose complement is unknown")
    conversion.add_one_of(possible, keyword)


def _if(conversion: Conversion, keyword: str, value: Any) -> None:
    if "then" in conversion.schema or "else" in conversion.schema:
        conversion.add_one_of(ways.conditional(conversion.schema), keyword)


def _dependent_required(conversion: Conversion, keyword: str, value: dict[str, list[str]]) -> None:
    for name, needs in value.items():
        conversion.add_one_of(ways.dependent(name, {"required": needs}), keyword)


def _dependent_schemas(conversion: Conversion, keyword: str, value: dict[str, Any]) -> None:
    for name, consequence in value.items():
        conversion.add_one_of(ways.dependent(name, consequence), keyword)


def _contains(conversion: Conversion, keyword: str, value: Any) -> None:
    if problem := UNSUPPORTED["minContains"](conversion.schema.get("minContains", 1)):
        raise conversion.unsupported(keyword, f"has a minContains that {problem}")
    conversion.add_one_of(ways.containing(conversion.schema), keyword)


def _count_properties(conversion: Conversion, keyword: str, value: float) -> None:
    schema = conversion.schema
    # The guard of JSON text lets a name be written twice if there is no other to end it with.
    may_repeat = not conversion.context.may_guard or not _BOUNDED_NAMES.isdisjoint(schema)
    if may_repeat and ways.needs_other_names(schema):
        if keyword == "minProperties":
            raise conversion.unsupported(
                keyword, "needs names that are not listed, and one could be written twice"
            )
        schema = {name: each for name, each in schema.items() if name != "minProperties"}
    elif keyword == "maxProperties" and "minProperties" in schema:
        return  # both are looked at together
    bounds, groups = ways.counted(schema, may_repeat=may_repeat)
    for name, bound in bounds.items():
        pass_on(conversion, name, int(bound))
    for alternatives in groups:
        conversion.add_one_of(alternatives, keyword)


def _unique(conversion: Conversion, keyword: str, value: bool) -> None:
    schema = conversion.schema
    if not value or schema.get("maxItems", 2) <= 1:
        return
    items = conversion.context.target(schema.get("items", True))
    values = None if "prefixItems" in schema else _finite_values(items)
    alternatives = values and ways.distinct(schema, values)
    if alternatives:
        conversion.add_one_of(alternatives, keyword)
    elif "prefixItems" in schema or not _guard_strings(conversion, items):
        raise conversion.unsupported(keyword, "is only supported for strings and for a few values")


def _guard_strings(conversion: Conversion, items: Schema) -> bool:
    """Let the guard of JSON text see to different items; returns whether it can."""
    is_text, strings = possible_strings(items)
    if not (conversion.context.may_guard and is_text):
        return False
    names = conversion.context.property_names(conversion.place)
    if names is None:
        return False
    for name in names:
        add_unique(conversion.context.unique, name, strings)
    if strings is not None:
        conversion.all.append({"maxItems": len(strings)})
    return True


def _unevaluated(conversion: Conversion, keyword: str, value: Any) -> None:
    if value is not True:
        alternatives = unevaluated(keyword, conversion.schema, conversion.context.target)
        conversion.add_one_of(alternatives, keyword)


def _property_names(conversion: Conversion, keyword: str, value: Any) -> None:
    schema = conversion.context.target(value)
    if isinstance(schema, dict):
        for member in schema.get("allOf", ()):
            _property_names(conversion, keyword, member)
        if "not" in schema:
            complement = negated(conversion.context.target(schema["not"]))
            conversion.add_one_of([{"propertyNames": one} for one in complement], keyword)
        if "anyOf" in schema:
            conversion.add_one_of([{"propertyNames": one} for one in schema["anyOf"]], keyword)
        if schema.keys() & _UNKNOWN_FOR_NAMES:
            raise conversion.unsupported(keyword)
    rules = name_rules(schema)
    if rules is None:
        raise conversion.unsupported(keyword)
    for rule in rules:
        conversion.add_one_of([rule], keyword)


REWRITTEN: dict[str, Keyword] = {
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "contains": _contains,
    **dict.fromkeys(("minProperties", "maxProperties"), _count_properties),
    "uniqueItems": _unique,
    "propertyNames": _property_names,
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), _unevaluated),
    **dict.fromkeys(("$dynamicRef", "$recursiveRef"), _refuse),
}
