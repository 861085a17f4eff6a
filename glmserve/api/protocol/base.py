"""The base of all requests: its fields are honoured, accepted without effect, or refused."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from glmserve.api.protocol.accepted.fields import AcceptedFields
from glmserve.api.protocol.unknown_fields import UnknownFields

FAIL_FAST = Field(fail_fast=True)
"""One error per list is enough: a report on a million bad elements would stall every stream."""

INT32_MAX = 2**31 - 1

MAX_PARTS = 2048
"""The most parts of a message, messages of a conversation, or items of an input."""
MAX_TOOLS = 512
"""OpenAI allows 128, Anthropic more; agents with MCP servers send hundreds."""

UNKNOWN_FIELD = "unknown_field"
WRONG_FIELD = "wrong_field"
"""Types of errors about a field that the error names itself."""


def at_most(count: int, what: str) -> BeforeValidator:
    """Refuses a larger dict at once; pydantic would report every member of it."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"at most {count} {what}")
        return value

    return BeforeValidator(check)


def wrong_field(field: str, reason: str) -> PydanticCustomError:
    """The error that a validator of a whole model raises about one of its fields."""
    return PydanticCustomError(WRONG_FIELD, "{reason}", {"field": field, "reason": reason})


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
        raise PydanticCustomError(UNKNOWN_FIELD, "{field}", {"field": name})


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """The fields as clients write them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())
