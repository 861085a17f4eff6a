"""Every tokenizer against what the original tokenizer classes gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmserve.text import IncrementalDetokenizer, Tokenizer, load_tokenizer
from glmserve.text.tiktoken_tokenizer import GLM4_SPECIAL_TOKENS

SENTENCEPIECE_MODELS = ["chatglm-6b", "chatglm2-6b", "chatglm3-6b", "codegeex2-6b"]
MODELS = [*SENTENCEPIECE_MODELS, "glm-4-tiny"]


@pytest.mark.parametrize("model", SENTENCEPIECE_MODELS)
def test_texts(load_golden: Any, model: str) -> None:
    tokenizer, goldens = load_golden(model)
    for case in goldens["texts"]:
        assert tokenizer.encode_prompt(case["text"]) == case["ids"], case["name"]
        if "ids_plain" in case:
            ids = case["ids_plain"]
            assert tokenizer.encode(case["text"]) == ids, case["name"]
            assert tokenizer.decode(ids) == case["decoded_plain"], case["name"]
            assert tokenizer.decode(ids, skip_special_tokens=False) == case["decoded_plain"]


@pytest.mark.parametrize("model", SENTENCEPIECE_MODELS[:3])
def test_decodes_with_special_tokens(load_golden: Any, model: str) -> None:
    """The references ignore skip_special_tokens: v1 and v2 never show names, v3 always does."""
    tokenizer, goldens = load_golden(model)
    skips = model != "chatglm3-6b"
    for case in goldens["texts"]:
        assert case["decoded_skip_special"] == case["decoded_with_prefix_ids"]
        decoded = tokenizer.decode(case["ids"], skip_special_tokens=skips)
        assert decoded == case["decoded_skip_special"], case["name"]


def test_decode_shows_or_skips_special_tokens(load_golden: Any) -> None:
    tokenizer, _ = load_golden("chatglm3-6b")
    ids = [64790, 64792, 64795, 30910, 13, 36474, 2]
    assert tokenizer.decode(ids, skip_special_tokens=False) == "[gMASK]sop<|user|> \n 你</s>"
    assert tokenizer.decode(ids) == "\n 你"


def test_glm4_texts(load_golden: Any) -> None:
    tokenizer, goldens = load_golden("glm-4-tiny")
    prefix = [tokenizer.special_ids["[gMASK]"], tokenizer.special_ids["<sop>"]]
    for case in goldens["texts"]:
        ids = case["ids_raw_tiktoken"]
        assert tokenizer.encode(case["text"]) == ids, case["name"]
        assert tokenizer.decode(ids) == case["decoded_raw"], case["name"]
        assert tokenizer.encode_prompt(case["text"]) == prefix + ids
        if not any(name in case["text"] for name in tokenizer.special_ids):
            # Elsewhere the reference turns names within user text into special tokens.
            assert tokenizer.encode_prompt(case["text"]) == case["ids_tokenizer_encode"]


@pytest.mark.parametrize("model", ["chatglm-6b", "chatglm2-6b", "chatglm3-6b", "glm-4-tiny"])
def test_streams(load_golden: Any, model: str) -> None:
    tokenizer, goldens = load_golden(model)
    assert goldens["streams"]
    for case in goldens["streams"]:
        detokenizer = IncrementalDetokenizer(tokenizer)
        shown = ""
        for count, expected in enumerate(case["decode_of_each_prefix"], 1):
            assert tokenizer.decode(case["ids"][:count]) == expected, case["name"]
            shown += detokenizer.push([case["ids"][count - 1]])
            # Nothing that the next token could change is shown, and everything else is.
            assert shown == expected.rstrip("\ufffd"), case["name"]
        assert shown + detokenizer.flush() == case["decode_of_each_prefix"][-1]


@pytest.mark.parametrize("model", ["chatglm2-6b", "chatglm3-6b", "glm-4-tiny"])
def test_special_ids(load_golden: Any, model: str) -> None:
    tokenizer, goldens = load_golden(model)
    special = dict(goldens["special"])
    if model != "glm-4-tiny":
        assert special.pop("vocab_size") == tokenizer.vocab_size
        assert special.pop("<bos>") == tokenizer.special_ids["<s>"]
        assert special.pop("<pad>") == tokenizer.special_ids["<unk>"]
        assert special.pop("<eos>") == tokenizer.eos_id
    assert special.items() <= tokenizer.special_ids.items()


def test_special_ids_of_v1(load_golden: Any) -> None:
    tokenizer, goldens = load_golden("chatglm-6b")
    special = goldens["special"]
    assert tokenizer.vocab_size == special["vocab_size"]
    assert tokenizer.eos_id == special["eop"]
    names = {"mask": "[MASK]", "gmask": "[gMASK]", "smask": "[sMASK]", "sop": "<sop>"}
    names |= {"pad": "<pad>", "unk": "<unk>", "end": "</s>"}
    for key, name in names.items():
        assert tokenizer.special_ids[name] == special[key]
    for key, text in {"newline": "\n", "tab": "\t", "blank_2": "  ", "blank_80": " " * 80}.items():
        assert tokenizer.token_bytes(special[key]) == text.encode()


@pytest.mark.parametrize("model", ["chatglm-6b", "chatglm2-6b", "codegeex2-6b"])
def test_known_ids_of_real_models(load_golden: Any, goldens_dir: Path, model: str) -> None:
    """Ids from the tests of li-plus/chatglm.cpp, a source independent of the goldens."""
    tokenizer, _ = load_golden(model)
    path = goldens_dir / "tokenizers" / "known_ids_of_real_models.json"
    for case in json.loads(path.read_text(encoding="utf-8"))[model]:
        assert tokenizer.encode_prompt(case["text"]) == case["ids"]


def test_special_tokens_of_real_glm4(goldens_dir: Path) -> None:
    path = goldens_dir / "tokenizers" / "known_ids_of_real_models.json"
    known = json.loads(path.read_text(encoding="utf-8"))["glm-4-9b"]["special"]
    first = known["<|endoftext|>"]
    ours = {name: first + index for index, name in enumerate(GLM4_SPECIAL_TOKENS)}
    assert known.items() <= ours.items()


def test_glm4_without_added_tokens_decoder(
    load_golden: Any, goldens_dir: Path, tmp_path: Path
) -> None:
    tokenizer, _ = load_golden("glm-4-tiny")
    source = goldens_dir / "tokenizers" / "glm-4-tiny" / "tokenizer.model"
    (tmp_path / "tokenizer.model").write_bytes(source.read_bytes())
    assert load_tokenizer(tmp_path).special_ids == tokenizer.special_ids


def test_end_to_end_greedy_text(load_golden: Any, goldens_dir: Path) -> None:
    tokenizer: Tokenizer = load_golden("chatglm2-6b")[0]
    path = goldens_dir / "e2e" / "glm2" / "goldens.json"
    for case in json.loads(path.read_text(encoding="utf-8")):
        assert tokenizer.encode_prompt(case["prompt_text"]) == case["prompt_ids"]
        assert tokenizer.decode(case["greedy_ids"]) == case["greedy_text"]
        detokenizer = IncrementalDetokenizer(tokenizer)
        shown = ""
        for token_id, expected in zip(
            case["greedy_ids"], case["decode_of_each_prefix"], strict=True
        ):
            shown += detokenizer.push([token_id])
            assert shown == expected.rstrip("\ufffd")


@pytest.mark.parametrize("model", MODELS)
def test_every_id_decodes(load_golden: Any, model: str) -> None:
    tokenizer, _ = load_golden(model)
    for token_id in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(token_id)
        empty = token_id in tokenizer.never_sampled or token_id in tokenizer.special_ids.values()
        assert bool(data) != empty
