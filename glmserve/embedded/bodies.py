"""The bodies of requests that the Python API makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from glmserve.embedded.params import SamplingParams
from glmserve.errors import InvalidRequestError

Prompt = str | list[int]
"""A text, or token ids."""
Conversation = str | list[Mapping[str, Any]]
"""Messages as the API takes them, or the text of a single one of the user."""

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
    params: SamplingParams | None,
    adapter: str | None,
    further: Mapping[str, Any],
    *,
    is_chat: bool = False,
) -> dict[str, Any]:
    """The fields that a call sets.

    Raises:
        InvalidRequestError: one is set in two ways, or the call itself decides it.
    """
    if params is not None and not isinstance(params, SamplingParams):
        raise InvalidRequestError(
            f"params: must be SamplingParams, not {type(params).__name__}", "params"
        )
    given = params.as_fields(is_chat=is_chat) if params is not None else {}
    if adapter is not None:
        given["model"] = adapter
    for name, value in further.items():
        if value is None:
            continue
        if name in given:
            raise InvalidRequestError(f"{name}: is set twice", name)
        if name in ("stream", "stream_options"):
            raise InvalidRequestError(f"{name}: use stream or stream_chat", name)
        given[name] = value
    return given


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
