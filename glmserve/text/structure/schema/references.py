"""Rewrites the references of a schema: afterwards each is a JSON pointer into the schema.

A reference may name its target by a URI ($id, or id in old drafts), by an anchor, or by a pointer
relative to the nearest $id. Nothing is ever fetched.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin

from glmserve.text.structure.schema.limits import MAX_KNOWN
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.subschemas import subschemas

Schema = dict[str, Any] | bool

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_POINTER_SAFE = "/~!$&'()*+,;=:@ "


def make_references_local(root: Schema) -> None:
    """Change a schema so that every $ref is "#" and a pointer, if its target exists.

    A $dynamicRef or $recursiveRef becomes a $ref if it has only one possible target. References
    without a target stay as they are.

    Raises:
        SchemaError: there are too many schemas within it.
    """
    if isinstance(root, dict):
        _Index(root).resolve_references()


def target_pointer(reference: str) -> str:
    """The JSON pointer in a local $ref: "#/$defs/a%20b" is "/$defs/a b"."""
    return unquote(reference[1:])


def at_pointer(root: Any, pointer: str) -> Any:
    """The value at an unescaped JSON pointer.

    Raises:
        KeyError: there is none.
    """
    value = root
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict):
            value = value[name]
        else:
            raise KeyError(pointer)
    return value


class _Index:
    """Schemas by their URIs and anchors."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self._known: dict[str, tuple[dict[str, Any], str]] = {}
        """Each known schema and its base URI, by its pointer."""
        self._resources: dict[str, str] = {"": ""}
        """Pointer by URI of each schema with an identifier."""
        self._anchors: dict[str, str] = {}
        """Pointer by URI with a fragment that is a name."""
        self._dynamic: dict[str, list[str]] = {}
        """Pointers of the schemas with a $dynamicAnchor, by its name."""
        self._recursive: list[str] = []
        """Pointers of the schemas with a $recursiveAnchor."""
        self._add(root, "", "")

    def resolve_references(self) -> None:
        """Replace the references of all schemas, also of those that only a reference finds."""
        pending = list(self._known.values())
        while pending:
            schema, base = pending.pop()
            for keyword in _REFERENCES:
                if keyword not in schema or not isinstance(schema[keyword], str):
                    continue
                target = self._target(keyword, schema[keyword], base)
                if target is None:
                    continue
                del schema[keyword]
                _add_reference(schema, f"#{quote(target, safe=_POINTER_SAFE)}")
                if target not in self._known:
                    found = at_pointer(self.root, target)
                    pending += self._add(found, target, self._base_above(target))

    def _add(self, schema: Any, place: str, base: str) -> list[tuple[dict[str, Any], str]]:
        """Add a schema and all schemas within it; returns the new ones."""
        added = []
        pending = [(schema, place, base)]
        while pending:
            schema, place, base = pending.pop()
            if not isinstance(schema, dict) or place in self._known:
                continue
            if len(self._known) >= MAX_KNOWN:
                raise SchemaError("", f"has more than {MAX_KNOWN} schemas")
            base = self._identify(schema, place, base)
            self._known[place] = schema, base
            added.append(self._known[place])
            pending += [(member, where, base) for where, member in subschemas(schema, place)]
        return added

    def _identify(self, schema: dict[str, Any], place: str, base: str) -> str:
        """Note a schema's identifiers; returns the base URI within it."""
        for keyword in ("$id", "id"):
            identifier = schema.get(keyword)
            if not isinstance(identifier, str):
                continue
            if identifier.startswith("#"):
                self._anchors.setdefault(base + identifier, place)
                continue
            try:
                uri = urldefrag(urljoin(base, identifier))[0]
            except ValueError:  # no URI: an annotation
                continue
            self._resources.setdefault(uri, place)
            if keyword == "$id" or "draft-04" in str(self.root.get("$schema", "")):
                base = uri
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := schema.get(keyword), str):
                self._anchors.setdefault(f"{base}#{name}", place)
        if isinstance(name := schema.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(name, []).append(place)
        if schema.get("$recursiveAnchor") is True:
            self._recursive.append(place)
        return base

    def _target(self, keyword: str, reference: str, base: str) -> str | None:
        """The pointer of the only possible target, or None."""
        target = self._static_target(reference, base)
        if target is None or keyword == "$ref":
            return target
        if keyword == "$recursiveRef":
            return target if set(self._recursive) <= {target} else None
        name = urldefrag(reference)[1]
        is_dynamic = target in self._dynamic.get(name, ())
        return target if not is_dynamic or len(self._dynamic[name]) == 1 else None

    def _static_target(self, reference: str, base: str) -> str | None:
        is_local = reference.startswith("#")
        try:
            full = base + reference if is_local else urljoin(base, reference)
            uri, fragment = urldefrag(full)
        except ValueError:
            return None
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(f"{uri}#{fragment}")
        if uri not in self._resources:
            return None
        candidates = [self._resources[uri] + fragment]
        if is_local:  # some generators count from the top in spite of an $id
            candidates.append(fragment)
        return next((place for place in candidates if self._is_schema(place)), None)

    def _is_schema(self, place: str) -> bool:
        try:
            return isinstance(at_pointer(self.root, place), dict | bool)
        except KeyError:
            return False

    def _base_above(self, place: str) -> str:
        while place and place not in self._known:
            place = place.rpartition("/")[0]
        return self._known[place][1]


def _add_reference(schema: dict[str, Any], reference: str) -> None:
    """Add a $ref to a schema that may have one already."""
    if "$ref" not in schema:
        schema["$ref"] = reference
        return
    others = schema.setdefault("allOf", [])
    if isinstance(others, list):
        others.append({"$ref": reference})
