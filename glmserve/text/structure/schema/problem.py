"""Errors about a schema."""

from __future__ import annotations

from glmserve.errors import InvalidRequestError


class SchemaError(InvalidRequestError):
    """A schema is malformed, too large, or matches no value."""

    def __init__(self, place: str, problem: str) -> None:
        """`place` is a JSON pointer; "" is the schema as a whole."""
        super().__init__(f"the schema{f' at {place}' if place else ''}: {problem}")
        self.place = place
        self.problem = problem


class UnsupportedKeywordError(SchemaError):
    """A keyword is valid, but a grammar cannot guarantee it."""

    def __init__(self, place: str, keyword: str, problem: str = "is not supported") -> None:
        super().__init__(place, f"{keyword} {problem}")
        self.keyword = keyword

    @property
    def pointer(self) -> str:
        """JSON pointer of the keyword."""
        return f"{self.place}/{escaped(self.keyword)}"


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
