"""The structure that a request asks of its text, from the many fields that can ask for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from glmserve.api.answering.context import ServerContext
from glmserve.api.protocol import GenerationRequest
from glmserve.api.protocol.chat import JsonObjectFormat, JsonSchemaFormat, ResponseFormat
from glmserve.errors import InvalidRequestError
from glmserve.text.structure import (
    Choice,
    CompiledStructure,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    Structure,
    Without,
)


class StructureSpec(NamedTuple):
    """A structure, and the request field that asks for it."""

    structure: Structure
    param: str


def structure_spec(
    request: GenerationRequest, response_format: ResponseFormat | None = None
) -> StructureSpec | None:
    """The one structure that a request asks for.

    Raises:
        InvalidRequestError: it asks for several, or for a schema that is no JSON.
    """
    found = [*_of_fields(request), *_of_response_format(response_format)]
    if request.bad_words:
        found.append(StructureSpec(Without(tuple(request.bad_words)), "bad_words"))
    if len(found) > 1:
        raise InvalidRequestError.about(
            found[1].param,
            "{first} and {param} cannot be combined; send one of them",
            first=found[0].param,
        )
    return found[0] if found else None


async def compile_structure(
    server: ServerContext, spec: StructureSpec | None, stop_ids: frozenset[int], lead_in: str
) -> CompiledStructure | None:
    """Compile the structure; None if the request asks for none.

    Raises:
        InvalidRequestError: it cannot be honoured.
    """
    if spec is None:
        return None
    if server.structures is None:
        raise InvalidRequestError(
            "this server has no tokenizer, so it cannot hold text to a structure", spec.param
        )
    return await server.structures.compile(
        spec.structure, stop_ids=stop_ids, lead_in=lead_in, param=spec.param
    )


def _of_response_format(response_format: ResponseFormat | None) -> Iterator[StructureSpec]:
    match response_format:
        case JsonObjectFormat():
            yield StructureSpec(JsonObject(), "response_format")
        case JsonSchemaFormat(json_schema=spec):
            yield StructureSpec(JsonSchema(spec.schema_), "response_format.json_schema.schema")


def _of_fields(request: GenerationRequest) -> Iterator[StructureSpec]:
    outputs = request.structured_outputs
    prefix = "structured_outputs"
    if outputs is not None:
        if outputs.json_object:
            yield StructureSpec(JsonObject(), f"{prefix}.json_object")
        yield from _of_values(
            (f"{prefix}.json", outputs.json_schema),
            (f"{prefix}.regex", outputs.regex),
            (f"{prefix}.choice", outputs.choice),
            (f"{prefix}.grammar", outputs.grammar),
        )
    yield from _of_values(
        ("guided_json", request.guided_json),
        ("guided_regex", request.guided_regex),
        ("guided_choice", request.guided_choice),
        ("guided_grammar", request.guided_grammar),
    )


def _of_values(
    schema: tuple[str, dict[str, Any] | bool | str | None],
    regex: tuple[str, str | None],
    choice: tuple[str, list[str] | None],
    grammar: tuple[str, str | None],
) -> Iterator[StructureSpec]:
    """What each of four fields asks for; None asks for nothing."""
    if schema[1] is not None:
        yield StructureSpec(JsonSchema(_schema(schema[1], schema[0])), schema[0])
    if regex[1] is not None:
        yield StructureSpec(Regex(regex[1]), regex[0])
    if choice[1] is not None:
        yield StructureSpec(Choice(tuple(choice[1])), choice[0])
    if grammar[1] is not None:
        yield StructureSpec(Grammar(grammar[1]), grammar[0])


def _schema(value: dict[str, Any] | bool | str, param: str) -> dict[str, Any] | bool:
    """A JSON schema that may come as its text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=dict[str, Any] | bool)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{param} is not a JSON schema: {error}", param) from None
