"""What a request wants its text to be, from the many fields that can say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from glmserve.api.context import ServerContext
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


class Wanted(NamedTuple):
    """A structure, and the field that asks for it."""

    structure: Structure
    param: str


def wanted_structure(
    request: GenerationRequest, response_format: ResponseFormat | None = None
) -> Wanted | None:
    """The one structure that a request asks for.

    Raises:
        InvalidRequestError: it asks for several, or for a schema that is no JSON.
    """
    found = [*_of_fields(request), *_of_response_format(response_format)]
    if request.bad_words:
        found.append(Wanted(Without(tuple(request.bad_words)), "bad_words"))
    if len(found) > 1:
        raise InvalidRequestError(
            f"{found[0].param} and {found[1].param} cannot be combined; send one of them",
            found[1].param,
        )
    return found[0] if found else None


async def compile_structure(
    context: ServerContext, wanted: Wanted | None, stop_ids: frozenset[int], lead_in: str
) -> CompiledStructure | None:
    """What holds a text to the structure; None where none is wanted.

    Raises:
        InvalidRequestError: it cannot be honoured.
    """
    if wanted is None:
        return None
    if context.structures is None:
        raise InvalidRequestError(
            "this server has no tokenizer, so it cannot hold text to a structure", wanted.param
        )
    return await context.structures.compile(
        wanted.structure, stop_ids=stop_ids, lead_in=lead_in, param=wanted.param
    )


def _of_response_format(response_format: ResponseFormat | None) -> Iterator[Wanted]:
    match response_format:
        case JsonObjectFormat():
            yield Wanted(JsonObject(), "response_format")
        case JsonSchemaFormat(json_schema=spec):
            yield Wanted(JsonSchema(spec.schema_), "response_format.json_schema.schema")


def _of_fields(request: GenerationRequest) -> Iterator[Wanted]:
    outputs = request.structured_outputs
    prefix = "structured_outputs"
    if outputs is not None:
        if outputs.json_object:
            yield Wanted(JsonObject(), f"{prefix}.json_object")
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
) -> Iterator[Wanted]:
    """What each of four fields asks for; None asks for nothing."""
    if schema[1] is not None:
        yield Wanted(JsonSchema(_schema(schema[1], schema[0])), schema[0])
    if regex[1] is not None:
        yield Wanted(Regex(regex[1]), regex[0])
    if choice[1] is not None:
        yield Wanted(Choice(tuple(choice[1])), choice[0])
    if grammar[1] is not None:
        yield Wanted(Grammar(grammar[1]), grammar[0])


def _schema(value: dict[str, Any] | bool | str, param: str) -> dict[str, Any] | bool:
    """A JSON schema that may come as its text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=dict[str, Any] | bool)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{param} is not a JSON schema: {error}", param) from None
