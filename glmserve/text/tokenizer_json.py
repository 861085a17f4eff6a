"""Converts the tokenizer.json of GLM-4's `-hf` checkpoints back to tiktoken's ranks.

Such a file was converted from GLM-4's tiktoken file. It has the same tokens, written in GPT-2's
printable alphabet for bytes, and merges in the order of the resulting ranks. Then merging the pair
with the lowest resulting rank (tiktoken) equals merging the first pair in the list (Hugging Face).
A file without these properties is refused, because it would be tokenized slightly differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object
from glmserve.text.added_token_splitter import RustSplitter
from glmserve.text.added_tokens import AddedToken, added_token, read_added_tokens
from glmserve.text.byte_alphabet import byte_alphabet
from glmserve.text.tiktoken_tokenizer import TiktokenTokenizer


def load_tokenizer_json(path: Path) -> TiktokenTokenizer:
    """Read a `tokenizer.json` that was converted from a tiktoken file.

    Raises:
        CheckpointError: the file is of another kind or damaged.
    """
    data = read_json_object(path)
    model = _dict(data.get("model"))
    if model.get("type") != "BPE":
        raise _refusal(path, f"its model is {model.get('type')!r}, not byte-level BPE")
    if data.get("normalizer") is not None:
        raise _refusal(path, "it normalises text before encoding")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise _refusal(path, f"its model sets {option}")
    try:
        listed = [added_token(token["id"], token) for token in data["added_tokens"]]
        merges = [_merge(merge) for merge in model["merges"]]
        names = _mergeable({n: int(rank) for n, rank in model["vocab"].items()}, merges, listed)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise _refusal(path, "vocab, merges or added_tokens are missing or malformed") from None
    _check_merges(path, names, merges)
    return TiktokenTokenizer(
        path,
        _ranks(path, names),
        _pattern(path, _dict(data.get("pre_tokenizer"))),
        read_added_tokens(path.parent, listed),
        RustSplitter,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a tokenizer converted from GLM-4's tiktoken file: {reason}"
    )


def _merge(merge: Any) -> tuple[str, str]:
    """A merge is written "left right" or, since tokenizers 0.20, ["left", "right"]."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return str(left), str(right)


def _mergeable(
    vocab: dict[str, int], merges: list[tuple[str, str]], added: list[AddedToken]
) -> dict[str, int]:
    """The vocabulary without added tokens that are listed in it but come from no merge."""
    merged = {left + right for left, right in merges}
    listed = {t.content for t in added if len(t.content) > 1 and t.content not in merged}
    return {name: rank for name, rank in vocab.items() if name not in listed}


def _check_merges(path: Path, names: dict[str, int], merges: list[tuple[str, str]]) -> None:
    previous = -1
    for left, right in merges:
        rank = names.get(left + right)
        if rank is None or left not in names or right not in names:
            raise _refusal(path, f"the merge {left!r} + {right!r} uses a token that does not exist")
        if rank < previous:
            raise _refusal(path, f"the merge {left!r} + {right!r} is out of rank order")
        previous = rank
    unmerged = {name for name in names if len(name) > 1} - {left + right for left, right in merges}
    if unmerged:
        raise _refusal(path, f"no merge gives the token {min(unmerged)!r}")


def _ranks(path: Path, names: dict[str, int]) -> dict[bytes, int]:
    alphabet = byte_alphabet()
    try:
        return {bytes([alphabet[char] for char in name]): rank for name, rank in names.items()}
    except KeyError as error:
        raise _refusal(path, f"{error.args[0]!r} is not in the byte-level alphabet") from None


def _pattern(path: Path, pre_tokenizer: dict[str, Any]) -> str:
    """The regex of [Split, ByteLevel], checked to keep every match and add nothing."""
    steps = pre_tokenizer.get("pretokenizers")
    if pre_tokenizer.get("type") != "Sequence" or not isinstance(steps, list) or len(steps) != 2:
        raise _refusal(path, "its pre_tokenizer is not a Split followed by ByteLevel")
    split, byte_level = (_dict(step) for step in steps)
    regex = _dict(split.get("pattern")).get("Regex")
    if split.get("type") != "Split" or not isinstance(regex, str):
        raise _refusal(path, "its pre_tokenizer does not start with a Split by regex")
    if (split.get("behavior"), split.get("invert")) not in (("Removed", True), ("Isolated", False)):
        raise _refusal(path, "its Split does not keep the regex's matches as words")
    if byte_level.get("type") != "ByteLevel" or byte_level.get("use_regex", True):
        raise _refusal(path, "its pre_tokenizer does not end with a plain ByteLevel")
    if byte_level.get("add_prefix_space", True):
        raise _refusal(path, "it puts a blank in front of every text")
    return regex
