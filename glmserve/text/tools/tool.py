"""A tool that the model may call, and a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmserve.errors import InvalidRequestError

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Tool:
    """A function that the client can run.

    Attributes:
        name: one line of text.
        parameters: JSON schema of the object of arguments; None or empty: no arguments.
        strict: arguments must match the schema, even if no call is required.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False

    def signature(self) -> dict[str, Any]:
        """Name, description if any, and parameters, as prompts show them to the model."""
        described = {} if self.description is None else {"description": self.description}
        parameters = dict(self.parameters or _NO_PARAMETERS)
        return {"name": self.name, **described, "parameters": parameters}

    def schema(self) -> dict[str, Any]:
        """The schema of the arguments, with the type "object".

        Unless the schema allows further arguments explicitly, only the named ones are allowed.

        Raises:
            InvalidRequestError: the parameters are not a schema of an object.
        """
        if not self.parameters:
            return {**_NO_PARAMETERS, "additionalProperties": False}
        kind = self.parameters.get("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise InvalidRequestError(
                f"the parameters of {self.name!r} must be a JSON schema of type 'object'", "tools"
            )
        schema = {**self.parameters, "type": "object"}
        if _names_all_properties(schema):
            schema["additionalProperties"] = False
        return schema


_ADDS_PROPERTIES = {
    *("additionalProperties", "patternProperties", "unevaluatedProperties", "$ref"),
    *("allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies"),
}


def _names_all_properties(schema: Mapping[str, Any]) -> bool:
    properties, required = schema.get("properties"), schema.get("required", ())
    return (
        isinstance(properties, Mapping)
        and not _ADDS_PROPERTIES.intersection(schema)
        and isinstance(required, Sequence)
        and all(isinstance(name, str) and name in properties for name in required)
    )


@dataclass(frozen=True)
class ToolCall:
    """One call in a conversation; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str
