"""Converts the keywords of one schema."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from glmserve.text.structure.schema.limits import MAX_ALTERNATIVES
from glmserve.text.structure.schema.problem import UnsupportedKeywordError, escaped
from glmserve.text.structure.schema.unique import UniqueItems
from glmserve.text.structure.schema.well_formed import DEPENDENT

Schema = dict[str, Any] | bool


class Context(Protocol):
    """What the conversion of one schema needs of the whole."""

    left_out: frozenset[str]
    unique: UniqueItems

    @property
    def may_guard(self) -> bool: ...

    @property
    def may_drop(self) -> bool: ...
    def drop(self, place: str, *path: str) -> None: ...
    def property_names(self, place: str) -> set[str] | None: ...
    def checked(self, raw: Any, place: str = "") -> Schema: ...
    def rewriting(self, place: str) -> AbstractContextManager[None]: ...
    def schema(self, raw: Any, place: str, depth: int) -> Schema: ...
    def target(self, schema: Schema) -> Schema: ...
    def reference(
        self, place: str, value: Any, depth: int, *, complement: bool = False
    ) -> dict[str, Any]: ...


class Keyword(Protocol):
    """Converts a keyword and its value.

    Raises:
        UnsupportedKeywordError: it cannot be guaranteed.
    """

    def __call__(self, conversion: Conversion, keyword: str, value: Any, /) -> None: ...


class Conversion:
    """Converts one schema, keyword by keyword.

    Attributes:
        keywords: what converts each keyword.
        direct: keywords of the result.
        all: converted schemas that must match, too.
    """

    def __init__(
        self,
        context: Context,
        keywords: Mapping[str, Keyword],
        schema: dict[str, Any],
        place: str,
        depth: int,
    ) -> None:
        self.context = context
        self.schema = schema
        self.place = place
        self.depth = depth
        self.direct: dict[str, Any] = {}
        self.all: list[Schema] = []
        self.keywords = keywords
        self._ignored: set[str] = set()
        """Keywords that depend on one that was left out."""

    def result(self) -> Schema:
        """The converted schema.

        Raises:
            SchemaError: the schema is malformed, or has a keyword that cannot be guaranteed.
        """
        for keyword, value in self.schema.items():
            convert = self.keywords.get(keyword)
            if keyword in self._ignored:
                self.context.drop(self.place, keyword)
                continue
            if convert is None:  # an annotation, or unknown, which the standard treats alike
                continue
            try:
                if keyword in self.context.left_out:
                    raise self.unsupported(keyword)
                convert(self, keyword, value)
            except UnsupportedKeywordError:
                if not self.context.may_drop:
                    raise
                self.context.drop(self.place, keyword)
                self._after_drop(keyword, value)
        if any(part is False for part in self.all):
            return False
        parts = [part for part in self.all if part is not True]
        if not parts:
            return self.direct
        return {**self.direct, "allOf": [*self.direct.get("allOf", []), *parts]}

    def _after_drop(self, keyword: str, value: Any) -> None:
        """Put something weaker in the place of a keyword, and leave out what depends on it."""
        if keyword == "oneOf":
            self.any_instead(value)
        if (dependent := DEPENDENT.get(keyword)) is not None:
            self._ignored.add(dependent)
            if self.direct.pop(dependent, None) is not None:
                self.context.drop(self.place, dependent)

    def unsupported(self, keyword: str, problem: str = "is not supported") -> Exception:
        """The error that refuses a keyword."""
        return UnsupportedKeywordError(self.place, keyword, problem)

    def inner(self, raw: Any, *path: str) -> Schema:
        """Convert a schema at a path within this one."""
        where = "".join(f"/{escaped(part)}" for part in path)
        return self.context.schema(raw, self.place + where, self.depth + 1)

    def add_one_of(self, alternatives: list[Any], keyword: str) -> None:
        """Require one of these alternatives. Those that cannot be guaranteed are left out."""
        possible, error = list[Schema](), None
        for alternative in alternatives[:MAX_ALTERNATIVES]:
            try:
                with self.context.rewriting(f"{self.place}/{keyword}"):
                    possible.append(self.inner(alternative, keyword))
            except UnsupportedKeywordError as failure:
                error = failure
        if not possible and error is not None:
            raise self.unsupported(keyword) from error
        possible = [schema for schema in possible if schema is not False]
        if any(schema is True or schema == {} for schema in possible):
            return
        self.all.append({"anyOf": possible} if len(possible) > 1 else (possible or [False])[0])

    def any_instead(self, value: list[Any]) -> None:
        """Require one or several alternatives of a oneOf."""
        if "anyOf" not in self.context.left_out:
            options = [self.inner(one, "oneOf", str(i)) for i, one in enumerate(value)]
            self.all.append({"anyOf": options})

    def known_of_values(self) -> dict[str, Any]:
        """The keywords that say most about the schema's values."""
        keywords = ("type", "const", "enum")
        return {key: self.schema[key] for key in keywords if key in self.schema}
