"""tokenizer.json of the -hf checkpoints: the same ids as the tiktoken file it was made from."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.errors import CheckpointError
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.byte_alphabet import byte_alphabet
from glmserve.text.tiktoken_tokenizer import GLM4_PATTERN


def convert(directory: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json of a tiktoken file, as transformers' TikTokenConverter writes it."""
    lines = (directory / "tokenizer.model").read_bytes().splitlines()
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in map(bytes.split, lines)}
    chars = {byte: char for char, byte in byte_alphabet().items()}

    def written(piece: bytes) -> str:
        return "".join(chars[byte] for byte in piece)

    merges = []
    for piece in sorted(ranks, key=ranks.__getitem__):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [half for half in halves if half[0] in ranks and half[1] in ranks]
        known.sort(key=lambda half: (ranks[half[0]], ranks[half[1]]))
        merges += [[written(left), written(right)] for left, right in known]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, token_id in tokenizer.special_ids.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": GLM4_PATTERN},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {written(piece): rank for piece, rank in ranks.items()},
            "merges": merges,
        },
    }


def _write(directory: Path, data: dict[str, Any]) -> Path:
    (directory / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def converted(small_tiktoken_dir: Path, small_tiktoken: Tokenizer) -> dict[str, Any]:
    return convert(small_tiktoken_dir, small_tiktoken)


@pytest.fixture(scope="module")
def from_json(converted: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(_write(tmp_path_factory.mktemp("hf"), converted))


@pytest.fixture(scope="module")
def oracle(converted: dict[str, Any]) -> Any:
    """The tokenizers package, told of no special tokens: it would find their names in text."""
    tokenizers = pytest.importorskip("tokenizers", reason="the oracle is the tokenizers package")
    return tokenizers.Tokenizer.from_str(json.dumps(converted | {"added_tokens": []}))


def test_same_vocabulary(from_json: Tokenizer, small_tiktoken: Tokenizer) -> None:
    assert from_json.special_ids == small_tiktoken.special_ids
    assert from_json.vocab_size == small_tiktoken.vocab_size
    assert from_json.eos_id == small_tiktoken.eos_id


@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text("the lo 12你好\n"))
def test_same_ids(from_json: Tokenizer, small_tiktoken: Tokenizer, oracle: Any, text: str) -> None:
    ids = from_json.encode(text)
    assert ids == small_tiktoken.encode(text)
    assert ids == oracle.encode(text, add_special_tokens=False).ids
    assert from_json.decode(ids) == oracle.decode(ids) == text


def test_goldens(load_golden: Any, goldens_dir: Path, tmp_path: Path) -> None:
    tokenizer, goldens = load_golden("glm-4-tiny")
    data = convert(goldens_dir / "tokenizers" / "glm-4-tiny", tokenizer)
    loaded = load_tokenizer(_write(tmp_path, data))
    for case in goldens["texts"]:
        assert loaded.encode(case["text"]) == case["ids_raw_tiktoken"], case["name"]


def test_older_ways_to_write_it(converted: dict[str, Any], tmp_path: Path) -> None:
    """Merges as strings, special tokens in the vocabulary too, Split by removing the rest."""
    data = json.loads(json.dumps(converted))
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    data["model"]["vocab"] |= {token["content"]: token["id"] for token in data["added_tokens"]}
    data["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    tokenizer = load_tokenizer(_write(tmp_path, data))
    assert tokenizer.decode(tokenizer.encode("the 你好")) == "the 你好"
    assert len(tokenizer.encode(" the")) == 1


def _step(index: int, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["pre_tokenizer"]["pretokenizers"][index].update(changes)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data["model"].update(type="Unigram"), "its model is 'Unigram'"),
        (lambda data: data.pop("model"), "its model is None"),
        (lambda data: data.update(normalizer={"type": "NFC"}), "it normalises text"),
        (lambda data: data["model"].update(dropout=0.1), "its model sets dropout"),
        (lambda data: data["model"].update(end_of_word_suffix="</w>"), "sets end_of_word_suffix"),
        (lambda data: data["model"].pop("vocab"), "missing or malformed"),
        (lambda data: data.update(added_tokens=[1]), "missing or malformed"),
        (lambda data: data["model"].update(merges=["a b c"]), "missing or malformed"),
        (lambda data: data["model"]["merges"].append(["Ġ", "Ã"]), "uses a token that does not"),
        (lambda data: data["model"]["vocab"].update({"中": 999}), "is not in the byte-level"),
        (lambda data: data.update(pre_tokenizer=None), "not a Split followed by ByteLevel"),
        (_step(0, type="Punctuation"), "does not start with a Split by regex"),
        (_step(0, pattern={"String": " "}), "does not start with a Split by regex"),
        (_step(0, behavior="MergedWithNext"), "does not keep the regex's matches"),
        (_step(0, pattern={"Regex": "("}), "cannot be used as a tokenizer"),
        (_step(1, use_regex=True), "does not end with a plain ByteLevel"),
        (_step(1, add_prefix_space=True), "it puts a blank in front"),
        (lambda data: data["added_tokens"].clear(), "no special token <|endoftext|>"),
        (lambda data: data["model"]["vocab"].pop("a"), "single bytes have no token"),
        (lambda data: data["model"]["vocab"].update(a="x"), "missing or malformed"),
        (lambda data: data["model"]["vocab"].update(a=[]), "missing or malformed"),
        (lambda data: data["model"]["vocab"].update(a=float("inf")), "missing or malformed"),
        (lambda data: data["model"]["vocab"].update(a=-1), "have the same id"),
        (lambda data: data["model"]["vocab"].update(a=2**40), "too large for a vocabulary"),
        (lambda data: data["model"].update(merges=[[["a"], ["b"]]]), "does not exist"),
        (lambda data: data["model"].update(merges=5), "missing or malformed"),
        (
            lambda data: data["added_tokens"].append({"id": -5, "content": "xx"}),
            "missing or malformed",
        ),
    ],
)
def test_refusals(
    converted: dict[str, Any],
    tmp_path: Path,
    damage: Callable[[dict[str, Any]], Any],
    reason: str,
) -> None:
    data = json.loads(json.dumps(converted))
    damage(data)
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(_write(tmp_path, data))
    assert reason in error.value.message
    assert str(tmp_path / "tokenizer.json") in error.value.message


TRAINING = [
    "the theme of them",
    "hello 你好 hello",
    "1234 5678 the end.\n\nthe end",
    "你好吗 你们好",
]


@pytest.fixture(scope="module")
def trained(converted: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json as trainers write it: ids and merges in the order of their frequency."""
    library = pytest.importorskip("tokenizers", reason="the tokenizers package trains it")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TRAINING * 3, trainer)
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    first = len(data["model"]["vocab"])
    data["added_tokens"] = [
        {**token, "id": first + i} for i, token in enumerate(converted["added_tokens"])
    ]
    return data


@pytest.fixture(
    scope="module", params=["trained", "trained, words first", "other order", "no merges"]
)
def other(
    request: Any, trained: dict[str, Any], converted: dict[str, Any], tmp_path_factory: Any
) -> tuple[Tokenizer, Any]:
    """Tokenizers whose merges do not follow from their ids, and the library's own."""
    data = json.loads(json.dumps(trained if "trained" in request.param else converted))
    match request.param:
        case "trained, words first":
            data["model"]["ignore_merges"] = True
        case "other order":
            data["model"] |= {"ignore_merges": False}
            data["model"]["merges"].reverse()
        case "no merges":
            data["model"]["merges"].clear()
    library = pytest.importorskip("tokenizers", reason="the oracle is the tokenizers package")
    oracle = library.Tokenizer.from_str(json.dumps(data | {"added_tokens": []}))
    return load_tokenizer(_write(tmp_path_factory.mktemp("other"), data)), oracle


@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text("the lo 12你好\n'sm"))
def test_other_merges(other: tuple[Tokenizer, Any], text: str) -> None:
    tokenizer, oracle = other
    ids = tokenizer.encode(text)
    assert ids == oracle.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text


def test_long_words_take_no_square_time(other: tuple[Tokenizer, Any]) -> None:
    tokenizer, oracle = other
    text = "the" * 20_000
    assert tokenizer.encode(text) == oracle.encode(text, add_special_tokens=False).ids
