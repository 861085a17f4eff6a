"""The structure that constrains an answer: a requested one, or calls of the request's tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.tool_choice import ToolUse
from glmserve.api.protocol import ChatCompletionRequest, GenerationRequest
from glmserve.api.protocol.chat import (
    JsonObjectFormat,
    JsonSchemaFormat,
    JsonSchemaSpec,
    ResponseFormat,
)
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.structure import (
    Choice,
    CompiledStructure,
    Grammar,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
    Structure,
    Without,
)
from glmserve.text.structure.embedded_schema import ANSWER_LAYOUT, embedded_schema
from glmserve.text.structure.schema.leniency import Leniency

DROPPED_HEADER = "X-Glmserve-Dropped-Keywords"
"""Keywords of JSON schemas that an answer need not obey, because no grammar can hold them."""

_LONGEST_HEADER = 2000
"""Characters of keywords that the header names."""


def dropped_header(structure: CompiledStructure | None) -> dict[str, str]:
    """The header that names the keywords that a structure leaves out, if there are any."""
    if structure is None or not structure.dropped:
        return {}
    named, room = list[str](), _LONGEST_HEADER
    for keyword in structure.dropped:
        room -= len(keyword)
        if room < 0:
            named.append(f"and {len(structure.dropped) - len(named)} more")
            break
        named.append(keyword)
    return {DROPPED_HEADER: ", ".join(named)}


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


async def answer_structure(
    server: ServerContext,
    chat: ChatCompletionRequest,
    chat_format: ChatFormat,
    use: ToolUse,
    stop_ids: frozenset[int],
) -> CompiledStructure | None:
    """The constraint that the request needs; None if the model is free.

    If a call is required, the answer consists of calls alone. Otherwise it may be calls, or text in
    the format that the request asks for. If it asks for none, but some tool is strict, then text
    that begins as a call must become a valid call.

    Raises:
        InvalidRequestError: it cannot be honoured.
    """
    spec = structure_spec(chat, chat.response_format)
    begins_with = "" if chat.begun_answer else chat_format.lead_in
    if not use.offered or not (use.needs_grammar or spec):
        return await compile_structure(server, spec, stop_ids, begins_with)
    if spec is not None and isinstance(spec.structure, Without):
        if use.needs_grammar:
            raise InvalidRequestError.about(
                spec.param, "{param} cannot be combined with a tool call that is required or strict"
            )
        return await compile_structure(server, spec, stop_ids, begins_with)
    answer = None if spec is None else _json_answer(spec)
    or_json = None if use.is_required else answer
    or_text = answer is None and not use.is_required
    grammar = chat_format.tool_grammar(
        use.offered, parallel=use.parallel, or_text=or_text, or_json=or_json
    )
    structure = Lark(grammar, may_be_json=or_json is not None)
    param = "tools" if or_json is None or spec is None else spec.param
    lead_in = "" if or_text else begins_with
    return await compile_structure(server, StructureSpec(structure, param), stop_ids, lead_in)


def _json_answer(spec: StructureSpec) -> str:
    """The rule of an answer that calls no tool.

    Raises:
        InvalidRequestError: the structure cannot stand beside calls, or be guaranteed.
    """
    match spec.structure:
        case JsonObject():
            return embedded_schema({"type": "object"}, layout=ANSWER_LAYOUT)
        case JsonSchema(schema, strict):
            leniency = Leniency.NOTHING if strict else Leniency.UNSUPPORTED
            return embedded_schema(schema, leniency=leniency, layout=ANSWER_LAYOUT, is_guarded=True)
    raise InvalidRequestError.about(
        spec.param,
        "{param} leaves no room for tool calls; send tool_choice 'none' with it, or no tools",
    )


def keeps_text(structure: CompiledStructure | None, chat: ChatCompletionRequest) -> bool:
    """Whether the text must stay as generated, because a rewrite could break its structure."""
    spec = structure_spec(chat, chat.response_format)
    free = structure is None or (spec is not None and isinstance(spec.structure, Without))
    return not free


def _of_response_format(response_format: ResponseFormat | None) -> Iterator[StructureSpec]:
    match response_format:
        case JsonObjectFormat(schema_=None):
            yield StructureSpec(JsonObject(), "response_format")
        case JsonObjectFormat(schema_=schema):
            of_object = JsonSchema({"type": "object", **(schema or {})}, strict=False)
            yield StructureSpec(of_object, "response_format.schema")
        case JsonSchemaFormat(schema_=dict() | bool() as schema, strict=strict):
            yield StructureSpec(JsonSchema(schema, strict=strict), "response_format.schema")
        case JsonSchemaFormat(json_schema=JsonSchemaSpec() as spec):
            structure = JsonSchema(spec.schema_, strict=spec.strict)
            yield StructureSpec(structure, "response_format.json_schema.schema")


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
    """The structure that each of four fields asks for; None asks for nothing."""
    if schema[1] is not None:
        yield StructureSpec(JsonSchema(_schema(schema[1], schema[0])), schema[0])
    if regex[1] is not None:
        yield StructureSpec(Regex(regex[1]), regex[0])
    if choice[1] is not None:
        yield StructureSpec(Choice(tuple(choice[1])), choice[0])
    if grammar[1] is not None:
        yield StructureSpec(Grammar(grammar[1]), grammar[0])


def _schema(value: dict[str, Any] | bool | str, param: str) -> dict[str, Any] | bool:
    """A JSON schema, which may be sent as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=dict[str, Any] | bool)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{param} is not a JSON schema: {error}", param) from None
