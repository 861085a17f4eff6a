"""Parses request bodies into checked models, and explains what is wrong with a body."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from glmserve.api.protocol.accepted.fields import AcceptedFields
from glmserve.api.protocol.field_paths import field_path
from glmserve.api.protocol.invalid_json import invalid_value_path
from glmserve.api.protocol.unknown_fields import UnknownFields
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
    """Every field is honoured, accepted as in its table, or refused by name.

    A field that is null is as good as absent, which is how OpenAI's own clients mean it.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    accepted: ClassVar[AcceptedFields] = {}
    """Neutral fields and hints, from a table in `accepted/`. Those of the base classes add to them.
    They are checked and left out: the parsed model does not have them."""

    @model_validator(mode="before")
    @classmethod
    def _keep_honoured(cls, data: Any, info: ValidationInfo) -> Any:
        """Leave out nulls and accepted fields, and stop at the first field that is not accepted;
        pydantic would report all."""
        if not isinstance(data, dict):
            return data
        known = _field_names(cls)
        kept = {}
        for name, value in data.items():
            if value is None:
                continue
            if name in known:
                kept[name] = value
            else:
                _check_accepted(cls, name, value, info.context)
        return kept

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The model's schema, with the fields that are accepted."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).setdefault("properties", {})
        for name, field in accepted_fields(cls).items():
            properties.setdefault(name, field.json_schema())
        return schema


@cache
def accepted_fields(model: type[StrictModel]) -> AcceptedFields:
    """The neutral fields and hints of a model and of its base classes."""
    tables = [vars(base).get("accepted", {}) for base in reversed(model.__mro__)]
    merged = {name: field for fields in tables for name, field in fields.items()}
    return {name: field for name, field in merged.items() if name not in _field_names(model)}


def _check_accepted(
    model: type[StrictModel], name: str, value: Any, unknown: UnknownFields | None
) -> None:
    """Raise an error unless this field may be left out."""
    field = accepted_fields(model).get(name)
    if field is not None:
        refusal = field.refusal(value)
        if refusal is not None:
            raise wrong_field(name, refusal)
    elif unknown is not None:
        unknown.ignore(name)
    else:
        raise PydanticCustomError(_UNKNOWN_FIELD, "{field}", {"field": name})


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """The fields as clients write them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


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


def _path(error: ErrorDetails, model: type[BaseModel]) -> list[str | int]:
    """The path of the error's field."""
    path = field_path(model, error["loc"])
    context = error.get("ctx", {})
    if error["type"] in (_UNKNOWN_FIELD, _WRONG_FIELD):
        path.append(context["field"])
    elif error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        path.append(context["discriminator"].strip("'"))
    return path
