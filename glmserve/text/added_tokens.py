"""Reads the tokens that were added to a checkpoint's vocabulary, from all files that list them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object

_MARKS = frozenset({"<|im_start|>", "<|im_end|>"})
"""ChatML's marks around a message. They are special, whatever a file says."""

_REMEDY = "remove it from the file that lists it, unless the model was trained with it"

LARGEST_ID = 2**24
"""Far above every vocabulary; tables are allocated up to the largest id."""


@dataclass(frozen=True)
class AddedToken:
    """A token that is looked up in a text before the text is tokenised.

    Attributes:
        special: it belongs to the prompt's format: users cannot write it, and answers hide it.
        lstrip: it takes the whitespace before it.
        rstrip: it takes the whitespace after it.
        single_word: it is not found within a word.
        normalized: it is looked for after tokens that are not.
    """

    id: int
    content: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


def read_added_tokens(
    directory: Path, tokenizer_json: Iterable[AddedToken] = ()
) -> list[AddedToken]:
    """The added tokens of a checkpoint in the order of their ids.

    They are listed in tokenizer.json, in `added_tokens_decoder` of tokenizer_config.json, and in
    the older added_tokens.json. A token that several files list is described by the second of
    these, then by the first.

    Args:
        tokenizer_json: the tokens of tokenizer.json, if the checkpoint has one.

    Raises:
        CheckpointError: a file is malformed, or the files contradict each other.
    """
    config_path = directory / "tokenizer_config.json"
    config = _read_if_there(config_path)
    special_map = _read_if_there(directory / "special_tokens_map.json")
    names = _special_names(config) | _special_names(special_map) | _MARKS
    tokens: dict[str, AddedToken] = {}
    sources = (
        (config_path, _decoder_tokens(config_path, config.get("added_tokens_decoder"))),
        (directory / "tokenizer.json", list(tokenizer_json)),
        (directory / "added_tokens.json", _plain_tokens(directory / "added_tokens.json", names)),
    )
    for path, listed in sources:
        for token in listed:
            known = tokens.setdefault(token.content, token)
            if known.id != token.id:
                raise CheckpointError(
                    f"{path}: the added token {token.content!r} has the id {token.id} here and "
                    f"{known.id} elsewhere"
                )
    by_id: dict[int, AddedToken] = {}
    for token in tokens.values():
        other = by_id.setdefault(token.id, token)
        if other is not token:
            raise CheckpointError(
                f"{directory}: the added tokens {other.content!r} and {token.content!r} have the "
                f"same id, {token.id}"
            )
    return [by_id[token_id] for token_id in sorted(by_id)]


def added_token(token_id: object, fields: Mapping[str, Any]) -> AddedToken:
    """A token from its JSON object.

    Raises:
        ValueError, TypeError, KeyError: the object is malformed.
    """
    content = fields["content"]
    if not isinstance(content, str):
        raise TypeError("content is not a string")
    flags = ("special", "lstrip", "rstrip", "single_word", "normalized")
    values = {name: bool(fields.get(name, False)) for name in flags}
    values["special"] |= content in _MARKS
    return AddedToken(_checked_id(token_id), content, **values)


def _checked_id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("an id is a whole number")
    token_id = int(value)
    if not 0 <= token_id < LARGEST_ID:
        raise ValueError(f"the id {token_id} is outside every vocabulary")
    return token_id


def _decoder_tokens(path: Path, decoder: Any) -> list[AddedToken]:
    try:
        return [added_token(key, fields) for key, fields in (decoder or {}).items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{path}: added_tokens_decoder is not id -> token") from None


def _plain_tokens(path: Path, special_names: frozenset[str]) -> list[AddedToken]:
    """The tokens of added_tokens.json, which says only their ids."""
    try:
        return [
            AddedToken(
                _checked_id(token_id),
                content,
                special=content in special_names,
                normalized=content not in special_names,
            )
            for content, token_id in _read_if_there(path).items()
        ]
    except (ValueError, TypeError):
        raise CheckpointError(f"{path}: not token -> id") from None


def _special_names(data: Mapping[str, Any]) -> frozenset[str]:
    """Names of special tokens in tokenizer_config.json or special_tokens_map.json."""
    values = [value for key, value in data.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = data.get(key)
        if isinstance(listed, dict):
            values += listed.values()
        elif isinstance(listed, list):
            values += listed
    names = (value.get("content") if isinstance(value, dict) else value for value in values)
    return frozenset(name for name in names if isinstance(name, str))


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def check_additions(
    directory: Path,
    tokens: Iterable[AddedToken],
    special_ids: Mapping[str, int],
    piece: Callable[[int], bytes | None],
) -> list[AddedToken]:
    """The tokens that the family's tokenizer does not have as special tokens already.

    Names that it has stay special, whatever a file says, so that users cannot write them.

    Args:
        directory: of the checkpoint, for errors.
        special_ids: the family's special tokens.
        piece: the bytes of an id in the vocabulary; None for an id past its end.

    Raises:
        CheckpointError: a token and the vocabulary claim the same id or name.
    """
    names = {token_id: name for name, token_id in special_ids.items()}
    kept = []
    for token in tokens:
        own_id = special_ids.get(token.content)
        if own_id == token.id:
            continue
        where = f"{directory}: the added token {token.content!r} has the id {token.id}"
        if own_id is not None:
            raise CheckpointError(
                f"{where}, and in this kind of tokenizer its id is {own_id}; {_REMEDY}"
            )
        name: str | bytes | None = names.get(token.id, piece(token.id))
        if name is not None and name not in (token.content, token.content.encode()):
            shown = name.decode(errors="replace") if isinstance(name, bytes) else name
            raise CheckpointError(
                f"{where}, which the tokenizer's own {shown!r} has, too; {_REMEDY}"
            )
        kept.append(token)
    return kept
