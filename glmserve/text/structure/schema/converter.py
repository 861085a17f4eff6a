"""Converts a schema to one that the grammar engine (llguidance) enforces as it stands.

The engine ignores unknown keywords and reads some others loosely. So each keyword is looked at
here: it is passed on, rewritten with keywords that the engine has, an annotation, or refused by
name. A rewritten schema may match less than the original, but never more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from glmserve.text.structure.schema.conversion import Conversion
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.limits import MAX_DEPTH, MAX_REWRITTEN, MAX_SCHEMAS
from glmserve.text.structure.schema.names import without_simple_patterns
from glmserve.text.structure.schema.plain_keywords import PLAIN
from glmserve.text.structure.schema.problem import SchemaError, UnsupportedKeywordError, escaped
from glmserve.text.structure.schema.references import at_pointer, target_pointer
from glmserve.text.structure.schema.rewritten_keywords import REWRITTEN
from glmserve.text.structure.schema.unique import PropertyNames, UniqueItems
from glmserve.text.structure.schema.well_formed import Malformed, well_formed

Schema = dict[str, Any] | bool

KEYWORDS = {**PLAIN, **REWRITTEN}
"""What converts each keyword. Others are annotations."""


class Converter:
    """Converts one schema whose references are local.

    Args:
        leniency: what to leave out, and to list in `dropped`.
        left_out: keywords to leave out everywhere.
        is_guarded: the guard of JSON text sees to the arrays in `unique`.
    """

    def __init__(
        self,
        root: Schema,
        leniency: Leniency,
        left_out: frozenset[str] = frozenset(),
        *,
        is_guarded: bool = False,
    ) -> None:
        self._root = root
        self._leniency = leniency
        self.left_out = left_out
        self._is_guarded = is_guarded
        self.unique: UniqueItems = {}
        """Arrays whose strings must differ."""
        self._num_schemas = 0
        self._num_rewritten: int | None = None
        """Schemas of the keyword that is being rewritten; None if none is."""
        self._rewritten_place = ""
        """JSON pointer of that keyword. What it becomes has no place in the user's schema."""
        self._names: dict[tuple[str, bool], str] = {}
        """Name of the definition by pointer, and whether it is the target's complement."""
        self._waiting: deque[str] = deque()
        """Pointers of definitions that are not converted yet."""
        self._targets: dict[int, tuple[Schema, Schema]] = {}
        """Each schema and its target, by the schema's id. The schema is kept, so its id stays."""
        self.definitions: dict[str, Schema] = {}
        self.dropped: list[str] = []
        """JSON pointers of keywords that were left out."""

    def convert(self, part: str = "") -> Schema:
        """The converted schema, without its definitions.

        Args:
            part: JSON pointer of the schema to convert.

        Raises:
            SchemaError: the schema is malformed, too large, or cannot be guaranteed.
        """
        converted = self.schema(self._at(part), part, 0)
        while self._waiting:
            pointer = self._waiting.popleft()
            name = self._names[pointer, False]
            if name not in self.definitions:
                self.definitions[name] = self.schema(self._at(pointer), pointer, 0)
        return converted

    def schema(self, raw: Any, place: str, depth: int) -> Schema:
        """Convert a schema within the whole."""
        self._check_size(place, depth)
        schema = self.checked(raw, place, partial(self.drop, place))
        if isinstance(schema, bool):
            return schema
        if "patternProperties" in schema:
            schema = without_simple_patterns(schema)
        return Conversion(self, KEYWORDS, schema, place, depth).result()

    def _check_size(self, place: str, depth: int) -> None:
        self._num_schemas += 1
        if self._num_rewritten is not None:
            self._num_rewritten += 1
            if depth > MAX_DEPTH or self._num_rewritten > MAX_REWRITTEN:
                keyword = place.rpartition("/")[2]
                raise UnsupportedKeywordError(place, keyword, "becomes too large when rewritten")
        if depth > MAX_DEPTH:
            raise SchemaError(place, f"is nested more than {MAX_DEPTH} deep")
        if self._num_schemas > MAX_SCHEMAS:
            raise SchemaError("", f"has more than {MAX_SCHEMAS} schemas")

    def _at(self, pointer: str) -> Any:
        return at_pointer(self._root, pointer)

    def reference(
        self, place: str, value: Any, depth: int, *, complement: bool = False
    ) -> dict[str, Any]:
        """A $ref to the definition of a target, or of its complement."""
        if not isinstance(value, str) or not value.startswith("#"):
            problem = "must point into this schema, such as '#/$defs/name'"
            raise UnsupportedKeywordError(place, "$ref", problem)
        pointer = target_pointer(value)
        try:
            target = self._at(pointer)
        except KeyError:
            target = None
        if not isinstance(target, dict | bool):
            raise UnsupportedKeywordError(place, "$ref", f"{value!r} leads to no schema")
        key = pointer, complement
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            if complement or self._num_rewritten is not None:
                self._define(name, target, place, depth, complement)
            else:
                self._waiting.append(pointer)
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _define(self, name: str, target: Any, place: str, depth: int, complement: bool) -> None:
        raw = {"not": target} if complement else target
        self.definitions[name] = False  # if it fails, nothing matches it
        self.definitions[name] = self.schema(raw, place, depth + 1)

    def target(self, schema: Schema) -> Schema:
        """Follow a $ref that stands alone; True if it leads nowhere."""
        known = self._targets.get(id(schema))
        if known is None:
            known = self._targets[id(schema)] = schema, self._find_target(schema)
        return known[1]

    def _find_target(self, schema: Schema) -> Schema:
        for _ in range(MAX_DEPTH):
            schema = self.checked(schema)
            if isinstance(schema, bool) or set(schema) != {"$ref"}:
                return schema
            try:
                schema = self._at(target_pointer(schema["$ref"]))
            except (KeyError, AttributeError, TypeError):
                return True
        return True

    @contextmanager
    def rewriting(self, place: str) -> Iterator[None]:
        """Leave no keyword out meanwhile, and limit the size of the result.

        Args:
            place: JSON pointer of the keyword that is rewritten.

        Raises:
            SchemaError: within it; the error names the keyword.
        """
        if self._num_rewritten is not None:  # within another keyword that is being rewritten
            yield
            return
        self._num_rewritten, self._rewritten_place = 0, place
        try:
            yield
        except UnsupportedKeywordError:
            raise
        except SchemaError as error:
            raise SchemaError(place, f"within it, a schema {error.problem}") from None
        finally:
            self._num_rewritten = None

    def property_names(self, place: str) -> set[str] | None:
        """The names of the properties whose values are at a place; None if others are, too."""
        return self._property_names.of(place)

    @cached_property
    def _property_names(self) -> PropertyNames:
        return PropertyNames(self._root)

    @property
    def may_guard(self) -> bool:
        """Whether the guard of JSON text can see to a keyword now."""
        return self._is_guarded and self._num_rewritten is None

    @property
    def may_drop(self) -> bool:
        """Whether a keyword that cannot be guaranteed is left out now."""
        return self._leniency > Leniency.NOTHING and self._num_rewritten is None

    def drop(self, place: str, *path: str) -> None:
        """Note that a keyword, or a part of its value, is left out."""
        is_rewritten = self._num_rewritten is not None
        pointer = "/".join((place, *map(escaped, path)))
        self.dropped.append(self._rewritten_place if is_rewritten else pointer)

    def checked(self, raw: Any, place: str = "", note: Malformed = lambda *path: None) -> Schema:
        """A schema in draft 2020-12; see `well_formed`.

        Args:
            note: called with what is malformed, if that may be left out.
        """
        return well_formed(raw, place, note if self._leniency is Leniency.MALFORMED else None)
