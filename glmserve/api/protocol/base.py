"""Parses request bodies into checked models, and explains what is wrong with a body."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from glmserve.api.protocol.invalid_json import invalid_value_path
from glmserve.errors import InvalidRequestError

FAIL_FAST = Field(fail_fast=True)
"""One error per list is enough: a report on a million bad elements would stall every stream."""

INT32_MAX = 2**31 - 1

MAX_PARTS = 2048
"""The most parts of a message, messages of a conversation, or items of an input."""
MAX_TOOLS = 128  # OpenAI's

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

_UNKNOWN_FIELD = "unknown_field"
_WRONG_FIELD = "wrong_field"


def at_most(count: int, what: str) -> BeforeValidator:
    """Refuses a larger dict at once; pydantic would report every member of it."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"at most {count} {what}")
        return value

    return BeforeValidator(check)


def wrong_field(field: str, reason: str) -> PydanticCustomError:
    """The error that a validator of a whole model raises about one of its fields."""
    return PydanticCustomError(_WRONG_FIELD, "{reason}", {"field": field, "reason": reason})


def only_type(known: str) -> BeforeValidator:
    """Refuses other types of a part by name, before their fields are checked."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get("type", known) != known:
            raise wrong_field("type", f"must be {known!r}; this server knows no other")
        return value

    return BeforeValidator(check)


class StrictModel(BaseModel):
    """Every field is honoured; an unknown field is refused by name.

    A field that is null is as good as absent, which is how OpenAI's own clients mean it.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        """Drop null fields and stop at the first unknown field; pydantic would report all."""
        if not isinstance(data, dict):
            return data
        known = _field_names(cls)
        for name, value in data.items():
            if value is not None and name not in known:
                raise PydanticCustomError(_UNKNOWN_FIELD, "{field}", {"field": name})
        return {name: value for name, value in data.items() if value is not None}


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """The fields as clients write them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


Parsed = TypeVar("Parsed", bound=StrictModel)


def parse_request(model: type[Parsed], body: bytes) -> Parsed:
    """Check a request body.

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
    return parse_data(model, data)


async def parse_large_request(model: type[Parsed], body: bytes) -> Parsed:
    """As `parse_request`, on a thread if the body is large, so that the event loop goes on."""
    if len(body) < _LARGE_BODY:
        return parse_request(model, body)
    return await asyncio.to_thread(parse_request, model, body)


def parse_data(model: type[Parsed], data: dict[str, Any]) -> Parsed:
    """As `parse_request`, for a body that is decoded already."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, data) from None


def _first_error(error: ValidationError, data: object) -> InvalidRequestError:
    """The first error in plain words, with the field's path as OpenAI writes it.

    Every member of a union reports errors of its own. The member that got deepest into the value
    was meant, or one that does not report a wrong type.
    """
    errors = error.errors(include_url=False, include_input=False)
    field = errors[0]["loc"][:1]
    paths = [(_path(e, data), e) for e in errors if e["loc"][:1] == field]
    path, first = max(paths, key=lambda item: (len(item[0]), not item[1]["type"].endswith("_type")))
    param = ".".join(str(part)[:_LONGEST_NAME] for part in path)
    kind, context = first["type"], first.get("ctx", {})
    if kind == _UNKNOWN_FIELD:
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


def _path(error: ErrorDetails, data: Any) -> list[str | int]:
    """The path of the error, without the names that pydantic gives to the members of a union.

    A name that leads to a value in the data is a field's.
    """
    path: list[str | int] = []
    is_missing = error["type"] == "missing"  # or null, and then its name would be found
    for part in error["loc"][: -1 if is_missing else None]:
        if _has(data, part):
            path.append(part)
            data = data[part]
    if is_missing:
        path.append(error["loc"][-1])
    context = error.get("ctx", {})
    if error["type"] in (_UNKNOWN_FIELD, _WRONG_FIELD):
        path.append(context["field"])
    elif error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        path.append(context["discriminator"].strip("'"))
    return path


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)
