"""Parses request bodies into checked models, and explains what is wrong with a body."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from glmserve.api.protocol.base import UNKNOWN_FIELD, WRONG_FIELD, StrictModel
from glmserve.api.protocol.field_paths import field_path
from glmserve.api.protocol.invalid_json import invalid_value_path
from glmserve.api.protocol.unknown_fields import UnknownFields
from glmserve.errors import InvalidRequestError

_LARGE_BODY = 64 * 1024  # bytes
_LONGEST_NAME = 100  # characters of a name that an error message repeats

_IN_JSON = {
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "none_required": "is not supported by this server; leave it out",
}
"""JSON's words for what pydantic says in Python's."""

Parsed = TypeVar("Parsed", bound=StrictModel)


def parse_request(model: type[Parsed], body: bytes, unknown: UnknownFields | None = None) -> Parsed:
    """Check a request body.

    Args:
        unknown: notes unknown fields, which are then left out. None: they are refused.

    Raises:
        InvalidRequestError: names the first field that is wrong, and how.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        param = invalid_value_path(body)
        message = f"the body is not valid JSON: {error}"
        raise InvalidRequestError(f"{param}: {message}" if param else message, param) from None
    if not isinstance(data, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return parse_data(model, data, unknown)


async def parse_large_request(
    model: type[Parsed], body: bytes, unknown: UnknownFields | None = None
) -> Parsed:
    """As `parse_request`, on a thread if the body is large, so that the event loop goes on."""
    if len(body) < _LARGE_BODY:
        return parse_request(model, body, unknown)
    return await asyncio.to_thread(parse_request, model, body, unknown)


def parse_data(
    model: type[Parsed], data: dict[str, Any], unknown: UnknownFields | None = None
) -> Parsed:
    """As `parse_request`, for a body that is decoded already."""
    try:
        return model.model_validate(data, context=unknown)
    except ValidationError as error:
        raise _first_error(error, model) from None


def _first_error(error: ValidationError, model: type[BaseModel]) -> InvalidRequestError:
    """The first error in plain words, with the field's path as OpenAI writes it.

    Every member of a union reports errors of its own. The member that got deepest into the value
    was meant, or one that does not report a wrong type.
    """
    errors = error.errors(include_url=False, include_input=False)
    field = errors[0]["loc"][:1]
    paths = [(_path(e, model), e) for e in errors if e["loc"][:1] == field]
    path, first = max(paths, key=lambda item: (len(item[0]), not item[1]["type"].endswith("_type")))
    param = ".".join(str(part)[:_LONGEST_NAME] for part in path)
    kind, context = first["type"], first.get("ctx", {})
    if kind == UNKNOWN_FIELD:
        return InvalidRequestError.about(
            param, "{param!r} is not supported by this server; leave it out"
        )
    if kind in ("missing", "union_tag_not_found"):
        return InvalidRequestError.about(param, "{param} is required")
    if kind == "union_tag_invalid":
        reason = f"must be one of {context['expected_tags']}"
    else:
        reason = _IN_JSON.get(kind) or first["msg"].removeprefix("Value error, ")
    return InvalidRequestError.about(param, "{param}: {reason}", reason=reason)


def _path(error: ErrorDetails, model: type[BaseModel]) -> list[str | int]:
    """The path of the error's field."""
    path = field_path(model, error["loc"])
    context = error.get("ctx", {})
    if error["type"] in (UNKNOWN_FIELD, WRONG_FIELD):
        path.append(context["field"])
    elif error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        path.append(context["discriminator"].strip("'"))
    return path
