"""Converts the keywords of one schema."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from glmserve.text.structure.schema import alternatives as ways
from glmserve.text.structure.schema.bounds import inward
from glmserve.text.structure.schema.exclusive import are_exclusive
from glmserve.text.structure.schema.formats import constraint
from glmserve.text.structure.schema.limits import MAX_ALTERNATIVES, MAX_COUNT
from glmserve.text.structure.schema.lookahead import conjunction
from glmserve.text.structure.schema.names import name_rules
from glmserve.text.structure.schema.negation import negated
from glmserve.text.structure.schema.one_of import exclusive_alternatives
from glmserve.text.structure.schema.pattern import UnsupportedPatternError, translated
from glmserve.text.structure.schema.problem import UnsupportedKeywordError, escaped
from glmserve.text.structure.schema.unevaluated import unevaluated
from glmserve.text.structure.schema.values import UNSUPPORTED, unwritable
from glmserve.text.structure.schema.well_formed import well_formed

Schema = dict[str, Any] | bool


class Context(Protocol):
    """What the conversion of one schema needs of the whole."""

    left_out: frozenset[str]

    @property
    def may_drop(self) -> bool: ...
    def drop(self, place: str, keyword: str) -> None: ...
    def rewriting(self) -> AbstractContextManager[None]: ...
    def schema(self, raw: Any, place: str, depth: int) -> Schema: ...
    def target(self, schema: Schema) -> Schema: ...
    def reference(
        self, place: str, value: Any, depth: int, *, complement: bool = False
    ) -> dict[str, Any]: ...


class Conversion:
    """Converts one schema; each keyword has a method."""

    def __init__(self, context: Context, schema: dict[str, Any], place: str, depth: int) -> None:
        self._context = context
        self._schema = schema
        self._place = place
        self._depth = depth
        self._direct: dict[str, Any] = {}
        """Keywords of the result."""
        self._all: list[Schema] = []
        """Converted schemas that must match, too."""

    def result(self) -> Schema:
        """The converted schema.

        Raises:
            SchemaError: the schema is malformed, or has a keyword that cannot be guaranteed.
        """
        for keyword, value in self._schema.items():
            convert = _KEYWORDS.get(keyword)
            if convert is None:  # an annotation, or unknown, which the standard treats alike
                continue
            try:
                if keyword in self._context.left_out:
                    raise self._unsupported(keyword)
                convert(self, keyword, value)
            except UnsupportedKeywordError:
                if not self._context.may_drop:
                    raise
                self._context.drop(self._place, keyword)
                if keyword == "oneOf":
                    self._any_instead(value)
        if any(part is False for part in self._all):
            return False
        parts = [part for part in self._all if part is not True]
        if not parts:
            return self._direct
        return {**self._direct, "allOf": [*self._direct.get("allOf", []), *parts]}

    def _unsupported(self, keyword: str, problem: str = "is not supported") -> Exception:
        return UnsupportedKeywordError(self._place, keyword, problem)

    def _inner(self, raw: Any, *path: str) -> Schema:
        where = "".join(f"/{escaped(part)}" for part in path)
        return self._context.schema(raw, self._place + where, self._depth + 1)

    def _add_one_of(self, alternatives: list[Any], keyword: str) -> None:
        """Require one of these alternatives. Those that cannot be guaranteed are left out."""
        possible, error = list[Schema](), None
        for alternative in alternatives[:MAX_ALTERNATIVES]:
            try:
                with self._context.rewriting():
                    possible.append(self._inner(alternative, keyword))
            except UnsupportedKeywordError as failure:
                error = failure
        if not possible and error is not None:
            raise self._unsupported(keyword) from error
        possible = [schema for schema in possible if schema is not False]
        if any(schema is True or schema == {} for schema in possible):
            return
        self._all.append({"anyOf": possible} if len(possible) > 1 else (possible or [False])[0])

    # Values, numbers and strings

    def _pass_on(self, keyword: str, value: Any) -> None:
        check = UNSUPPORTED.get(keyword)
        if problem := check(value) if check else None:
            raise self._unsupported(keyword, problem)
        self._direct[keyword] = value

    def _enum(self, keyword: str, value: list[Any]) -> None:
        writable = [member for member in value if unwritable(member) is None]
        if not writable:
            raise self._unsupported(keyword, str(unwritable(value)))
        self._direct[keyword] = writable

    def _bound(self, keyword: str, value: float) -> None:
        is_integer = self._schema.get("type") == "integer"
        name, bound, problem = inward(keyword, value, is_integer=is_integer)
        if problem:
            raise self._unsupported(keyword, problem)
        if name in self._direct:  # moved inward, to the place of another bound
            self._all.append({name: bound})
        else:
            self._pass_on(name, bound)

    def _large_count(self, keyword: str, value: float) -> None:
        self._direct[keyword] = min(int(value), MAX_COUNT)

    def _small_count(self, keyword: str, value: float) -> None:
        self._pass_on(keyword, int(value))

    def _pattern(self, keyword: str, value: str) -> None:
        try:
            first, *others = map(translated, conjunction(value))
        except UnsupportedPatternError as error:
            raise self._unsupported(keyword, str(error)) from None
        self._direct[keyword] = first
        self._all += [{"pattern": other} for other in others]

    def _format(self, keyword: str, value: str) -> None:
        if enforced := constraint(value):
            self._all.append(self._inner(enforced, keyword) if "pattern" in enforced else enforced)

    # Schemas within the schema

    def _one(self, keyword: str, value: Any) -> None:
        self._direct[keyword] = self._inner(value, keyword)

    def _list(self, keyword: str, value: list[Any]) -> None:
        self._direct[keyword] = [self._inner(s, keyword, str(i)) for i, s in enumerate(value)]

    def _named(self, keyword: str, value: dict[str, Any]) -> None:
        self._direct[keyword] = {
            name: self._inner(member, keyword, name) for name, member in value.items()
        }

    def _pattern_properties(self, keyword: str, value: dict[str, Any]) -> None:
        members: dict[str, Schema] = {}
        for pattern, member in value.items():
            try:
                name = translated(pattern)
            except UnsupportedPatternError as error:
                raise self._unsupported(keyword, f"{pattern!r} {error}") from None
            converted = self._inner(member, keyword, pattern)
            known = members.get(name, True)
            members[name] = converted if known is True else {"allOf": [known, converted]}
        self._direct[keyword] = members

    def _reference(self, keyword: str, value: Any) -> None:
        self._direct |= self._context.reference(self._place, value, self._depth)

    # Keywords that the engine does not have

    def _refuse(self, keyword: str, value: Any) -> None:
        raise self._unsupported(keyword)

    def _one_of(self, keyword: str, value: list[Any]) -> None:
        siblings = self._known_of_values()
        alternatives = exclusive_alternatives(value, siblings, self._context.target)
        if alternatives is value:
            self._any_instead(value)
        elif alternatives:
            self._add_one_of(alternatives, keyword)
        else:
            raise self._unsupported(keyword, _OVERLAP)

    def _any_instead(self, value: list[Any]) -> None:
        """Require one or several alternatives of a oneOf."""
        if "anyOf" not in self._context.left_out:
            options = [self._inner(one, "oneOf", str(i)) for i, one in enumerate(value)]
            self._all.append({"anyOf": options})

    def _known_of_values(self) -> dict[str, Any]:
        """The keywords that say most about the schema's values."""
        keywords = ("type", "const", "enum")
        return {key: self._schema[key] for key in keywords if key in self._schema}

    def _not(self, keyword: str, value: Any) -> None:
        schema = well_formed(value, f"{self._place}/{keyword}")
        constraints = schema.keys() & _KEYWORDS.keys() if isinstance(schema, dict) else set()
        if isinstance(schema, dict) and constraints == {"$ref"}:
            with self._context.rewriting():
                complement = self._context.reference(
                    self._place, schema["$ref"], self._depth, complement=True
                )
            self._all.append(complement)
            return
        siblings, target = self._known_of_values(), self._context.target
        possible = [one for one in negated(schema) if not are_exclusive(one, siblings, target)]
        if constraints and not possible:
            raise self._unsupported(keyword, "has a schema whose complement is unknown")
        self._add_one_of(possible, keyword)

    def _if(self, keyword: str, value: Any) -> None:
        if "then" in self._schema or "else" in self._schema:
            self._add_one_of(ways.conditional(self._schema), keyword)

    def _dependent_required(self, keyword: str, value: dict[str, list[str]]) -> None:
        for name, needs in value.items():
            self._add_one_of(ways.dependent(name, {"required": needs}), keyword)

    def _dependent_schemas(self, keyword: str, value: dict[str, Any]) -> None:
        for name, consequence in value.items():
            self._add_one_of(ways.dependent(name, consequence), keyword)

    def _contains(self, keyword: str, value: Any) -> None:
        self._add_one_of(ways.containing(self._schema), keyword)

    def _count_properties(self, keyword: str, value: float) -> None:
        if keyword == "maxProperties" and "minProperties" in self._schema:
            return  # both are looked at together
        bounds, groups = ways.counted(self._schema)
        for name, bound in bounds.items():
            self._pass_on(name, int(bound))
        for alternatives in groups:
            self._add_one_of(alternatives, keyword)

    def _unique(self, keyword: str, value: bool) -> None:
        if not value or self._schema.get("maxItems", 2) <= 1:
            return
        alternatives = None
        if "prefixItems" not in self._schema:
            items = self._context.target(self._schema.get("items", True))
            values = _finite_values(items)
            alternatives = values and ways.distinct(self._schema, values)
        if alternatives is None:
            raise self._unsupported(keyword, "is only supported for items of a few values")
        self._add_one_of(alternatives, keyword)

    def _unevaluated(self, keyword: str, value: Any) -> None:
        if value is not True:
            alternatives = unevaluated(keyword, self._schema, self._context.target)
            self._add_one_of(alternatives, keyword)

    def _property_names(self, keyword: str, value: Any) -> None:
        schema = self._context.target(value)
        if isinstance(schema, dict):
            for member in schema.get("allOf", ()):
                self._property_names(keyword, member)
            if "not" in schema:
                complement = negated(self._context.target(schema["not"]))
                self._add_one_of([{"propertyNames": one} for one in complement], keyword)
            if "anyOf" in schema:
                self._add_one_of([{"propertyNames": one} for one in schema["anyOf"]], keyword)
            if schema.keys() & _UNKNOWN_FOR_NAMES:
                raise self._unsupported(keyword)
        rules = name_rules(schema)
        if rules is None:
            raise self._unsupported(keyword)
        for rule in rules:
            self._add_one_of([rule], keyword)


_OVERLAP = (
    "has alternatives that may both match; use anyOf, or give each object a required property with "
    "a const of its own"
)
_UNKNOWN_FOR_NAMES = frozenset("$ref oneOf if $dynamicRef $recursiveRef".split())

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
        if not any(type(value) is type(one) and value == one for one in unique):
            unique.append(value)
    return unique


_KEYWORDS: dict[str, Callable[[Conversion, str, Any], None]] = {
    **dict.fromkeys(("type", "const", "multipleOf", "required"), Conversion._pass_on),
    "enum": Conversion._enum,
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), Conversion._bound
    ),
    **dict.fromkeys(("minLength", "minItems"), Conversion._small_count),
    **dict.fromkeys(("maxLength", "maxItems"), Conversion._large_count),
    "pattern": Conversion._pattern,
    "format": Conversion._format,
    **dict.fromkeys(("items", "additionalProperties"), Conversion._one),
    **dict.fromkeys(("allOf", "anyOf", "prefixItems"), Conversion._list),
    "properties": Conversion._named,
    "patternProperties": Conversion._pattern_properties,
    "$ref": Conversion._reference,
    "oneOf": Conversion._one_of,
    "not": Conversion._not,
    "if": Conversion._if,
    "dependentRequired": Conversion._dependent_required,
    "dependentSchemas": Conversion._dependent_schemas,
    "contains": Conversion._contains,
    **dict.fromkeys(("minProperties", "maxProperties"), Conversion._count_properties),
    "uniqueItems": Conversion._unique,
    "propertyNames": Conversion._property_names,
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), Conversion._unevaluated),
    **dict.fromkeys(("$dynamicRef", "$recursiveRef"), Conversion._refuse),
}
