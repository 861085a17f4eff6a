"""The bodies of requests that the Python API makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from glmserve.embedded.params import SamplingParams
from glmserve.embedded.results import Message
from glmserve.errors import InvalidRequestError

Prompt = str | Sequence[int]
"""A text, or token ids."""
Conversation = str | Sequence[Mapping[str, Any] | Message]
"""Messages as the API takes them or gives them, or the text of a single one of the user."""
Params = SamplingParams | Sequence[SamplingParams] | None
"""For all items, or one for each of several; None: defaults."""

_NOTHING = object()
_WHOLE = {"stream": False, "stream_options": _NOTHING}
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}

# The fields that methods decide, and their values.
GENERATE: Mapping[str, Any] = {"prompt": _NOTHING, **_WHOLE}
CHAT: Mapping[str, Any] = {"messages": _NOTHING, **_WHOLE}
STREAM: Mapping[str, Any] = {"prompt": _NOTHING, **_STREAM}
STREAM_CHAT: Mapping[str, Any] = {"messages": _NOTHING, **_STREAM}
EMBED: Mapping[str, Any] = {"input": _NOTHING, "encoding_format": "float", **_WHOLE}
SCORE: Mapping[str, Any] = {
    **GENERATE,
    "max_tokens": 0,
    "n_predict": 0,
    "echo": True,
    "logprobs": 1,
    "n": 1,
    "best_of": 1,
}

_PROMPT = "prompt (a text or a list of token ids)"
_CONVERSATION = "conversation (a text or a list of messages)"


def single_prompt(prompts: Any) -> Any | None:
    """The prompt if it is one; None: an iterable of several.

    Raises:
        InvalidRequestError: it is neither.
    """
    if isinstance(prompts, str):
        return prompts
    if isinstance(prompts, (list, tuple)) and prompts and isinstance(prompts[0], int):
        return list(prompts)
    _check_several(prompts, _PROMPT)
    return None


def single_conversation(messages: Any) -> Any | None:
    """The conversation if it is one; None: an iterable of several.

    Raises:
        InvalidRequestError: it is neither.
    """
    if isinstance(messages, str):
        return messages
    if isinstance(messages, (list, tuple)) and messages:
        if not isinstance(messages[0], (str, list, tuple)):
            return list(messages)
    else:
        _check_several(messages, _CONVERSATION)
    return None


def completion_body(prompt: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of /v1/completions. Token ids are always reported.

    Raises:
        InvalidRequestError: this is not one prompt.
    """
    one = single_prompt(prompt)
    if one is None:
        raise InvalidRequestError(f"one {_PROMPT}, not several of them")
    return {"prompt": one, "return_token_ids": True, **given}


def chat_body(messages: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of /v1/chat/completions.

    Raises:
        InvalidRequestError: this is not one conversation.
    """
    one = single_conversation(messages)
    if one is None:
        raise InvalidRequestError(f"one {_CONVERSATION}, not several of them")
    if isinstance(one, str):
        one = [{"role": "user", "content": one}]
    return {"messages": one, **given}


def embedding_body(text: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of /v1/embeddings.

    Raises:
        InvalidRequestError: this is not one text.
    """
    one = single_prompt(text)
    if one is None:
        raise InvalidRequestError(f"one {_PROMPT}, not several of them")
    return {"input": one, **given}


def given_fields(
    params: Params,
    adapter: str | None,
    further: Mapping[str, Any],
    decided: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields that a call sets.

    Args:
        decided: fields that the call itself decides, with their values: `GENERATE` and so on.

    Raises:
        InvalidRequestError: one is set in two ways, or to another value than the call's.
    """
    if params is not None and not isinstance(params, SamplingParams):
        raise InvalidRequestError(
            f"params: must be SamplingParams, not {type(params).__name__}", "params"
        )
    given = params.as_fields(is_chat="messages" in decided) if params is not None else {}
    if adapter is not None:
        given["model"] = adapter
    for name, value in further.items():
        if value is None:
            continue
        if name in given:
            raise InvalidRequestError(f"{name}: is set twice", name)
        if name not in decided:
            given[name] = value
        elif value != decided[name]:
            raise InvalidRequestError(f"{name}: is no field of this method", name)
    return given


def given_fields_of_each(
    items: Iterable[Any],
    params: Any,
    adapter: str | None,
    further: Mapping[str, Any],
    decided: Mapping[str, Any],
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each item with the fields of its request.

    Args:
        params: for all items, or a list with one for each.

    Raises:
        InvalidRequestError: there are not as many params as items, or as of `given_fields`.
    """
    if not isinstance(params, (list, tuple)):
        given = given_fields(params, adapter, further, decided)
        for item in items:
            yield item, given
        return
    remaining = iter(params)
    number = 0
    for number, item in enumerate(items, 1):
        if number > len(params):
            break
        yield item, given_fields(next(remaining), adapter, further, decided)
    if number != len(params):
        raise InvalidRequestError(f"there are not {len(params)} items, as of params", "params")


def num_choices(params: Any, further: Mapping[str, Any]) -> int:
    """The most choices that a request of a call has; 1 if that is wrong, which is said later."""
    each = params if isinstance(params, (list, tuple)) else [params]
    counts = [further.get("n"), *(getattr(one, "n", None) for one in each)]
    return max([1, *(count for count in counts if isinstance(count, int))])


def pairs(prompts: Any, texts: Any) -> Iterator[tuple[Any, Any]]:
    """Each text with its prompt; a single one goes with each of the others.

    Raises:
        InvalidRequestError: there are not as many of both.
    """
    many_prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    many_texts = [texts] if isinstance(texts, str) else list(texts)
    if isinstance(prompts, str):
        many_prompts *= len(many_texts)
    elif isinstance(texts, str):
        many_texts *= len(many_prompts)
    if len(many_prompts) != len(many_texts):
        raise InvalidRequestError(
            f"there are {len(many_prompts)} prompts and {len(many_texts)} texts", "texts"
        )
    return zip(many_prompts, many_texts, strict=True)


def _check_several(value: Any, what: str) -> None:
    is_iterable = isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping))
    if not is_iterable:
        raise InvalidRequestError(f"{what} is needed, not {type(value).__name__}")
