"""Reads the tokenizer.json of `-hf` checkpoints and of GLM-Edge: byte-level BPE.

Most such files were converted from GLM-4's tiktoken file. They have the same tokens, written in
GPT-2's printable alphabet for bytes, and merges in the order of the resulting ranks. Then merging
the pair with the lowest resulting rank (tiktoken) equals merging the first pair in the list
(Hugging Face), and tiktoken encodes. For other lists of merges `MergeEncoder` does what Hugging
Face does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object
from glmserve.text.added_token_splitter import RustSplitter
from glmserve.text.added_tokens import AddedToken, added_token, read_added_tokens
from glmserve.text.byte_alphabet import byte_alphabet
from glmserve.text.merge_encoder import MergeEncoder
from glmserve.text.tiktoken_tokenizer import TiktokenTokenizer

_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The words of ByteLevel (tokenizers/src/pre_tokenizers/byte_level.rs)."""


def load_tokenizer_json(path: Path) -> TiktokenTokenizer:
    """Read a `tokenizer.json` of byte-level BPE.

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
    words = _words(path, _dict(data.get("pre_tokenizer")))
    ranks = _ranks(path, names)
    _check_merges(path, names, merges)
    encoder = None
    if not _follow_ranks(names, merges):
        prefers_words = model.get("ignore_merges") is True
        encoder = _merge_encoder(path, ranks, merges, words, prefers_words=prefers_words)
    added = read_added_tokens(path.parent, listed)
    return TiktokenTokenizer(path, ranks, words.pattern, added, RustSplitter, encoder)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a tokenizer of GLM-4's kind: {reason}")


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
    for left, right in merges:
        if left + right not in names or left not in names or right not in names:
            raise _refusal(path, f"the merge {left!r} + {right!r} uses a token that does not exist")


def _follow_ranks(names: dict[str, int], merges: list[tuple[str, str]]) -> bool:
    """Whether the merges are those that follow from the ranks, in their order.

    tiktoken makes a token of any two others. Conversions list all these pairs, several for many
    tokens. Trainers list one for each token, and then there must be no other.
    """
    results = [names[left + right] for left, right in merges]
    merged = {left + right for left, right in merges}
    unmerged = {name for name in names if len(name) > 1} - merged
    is_converted = len(merged) < len(merges)
    return (
        results == sorted(results)
        and not unmerged
        and (is_converted or _has_all_pairs(names, merges))
    )


def _has_all_pairs(names: dict[str, int], merges: list[tuple[str, str]]) -> bool:
    """Whether each way to make a token of two others is listed."""
    listed = set(merges)
    return all(
        (name[:cut], name[cut:]) in listed
        for name in names
        for cut in range(1, len(name))
        if name[:cut] in names and name[cut:] in names
    )


def _merge_encoder(
    path: Path,
    ranks: dict[bytes, int],
    merges: list[tuple[str, str]],
    words: _Words,
    *,
    prefers_words: bool,
) -> MergeEncoder:
    alphabet = byte_alphabet()
    pairs = [
        (bytes(alphabet[c] for c in left), bytes(alphabet[c] for c in right))
        for left, right in merges
    ]
    if missing := sum(bytes([byte]) not in ranks for byte in range(256)):
        raise CheckpointError(f"{path}: {missing} of the 256 single bytes have no token")
    try:
        return MergeEncoder(
            ranks,
            pairs,
            words.pattern,
            keeps_gaps=words.keeps_gaps,
            prefers_words=prefers_words,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be used as a tokenizer: {error}") from None


def _ranks(path: Path, names: dict[str, int]) -> dict[bytes, int]:
    alphabet = byte_alphabet()
    try:
        return {bytes([alphabet[char] for char in name]): rank for name, rank in names.items()}
    except KeyError as error:
        raise _refusal(path, f"{error.args[0]!r} is not in the byte-level alphabet") from None


class _Words(NamedTuple):
    """How text is cut into words."""

    pattern: str
    keeps_gaps: bool
    """Text that the pattern does not match is kept."""


def _words(path: Path, pre_tokenizer: dict[str, Any]) -> _Words:
    """The regex of [Split, ByteLevel], checked to keep every match and add nothing; or of ByteLevel
    alone, which has one of its own."""
    if pre_tokenizer.get("type") == "ByteLevel" and pre_tokenizer.get("use_regex", True):
        _check_no_blank(path, pre_tokenizer)
        return _Words(_GPT2_PATTERN, keeps_gaps=True)
    steps = pre_tokenizer.get("pretokenizers")
    if pre_tokenizer.get("type") != "Sequence" or not isinstance(steps, list) or len(steps) != 2:
        raise _refusal(path, "its pre_tokenizer is not a Split followed by ByteLevel")
    split, byte_level = (_dict(step) for step in steps)
    regex = _dict(split.get("pattern")).get("Regex")
    if split.get("type") != "Split" or not isinstance(regex, str):
        raise _refusal(path, "its pre_tokenizer does not start with a Split by regex")
    behavior = split.get("behavior"), split.get("invert")
    if behavior not in (("Removed", True), ("Isolated", False)):
        raise _refusal(path, "its Split does not keep the regex's matches as words")
    if byte_level.get("type") != "ByteLevel" or byte_level.get("use_regex", True):
        raise _refusal(path, "its pre_tokenizer does not end with a plain ByteLevel")
    _check_no_blank(path, byte_level)
    return _Words(regex, keeps_gaps=behavior == ("Isolated", False))


def _check_no_blank(path: Path, byte_level: dict[str, Any]) -> None:
    if byte_level.get("add_prefix_space", True):
        raise _refusal(path, "it puts a blank in front of every text")
