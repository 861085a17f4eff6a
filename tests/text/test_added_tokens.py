"""Tokens added to a vocabulary: the ids that transformers and tokenizers give, and no text lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmserve.cli.text_layer import limit_vocabulary
from glmserve.config import EMBEDDED_CHECKPOINT, RunnerConfig
from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.text import IncrementalDetokenizer, Tokenizer, load_tokenizer
from glmserve.text.structure.vocabulary import text_tokens
from tests.text.test_tokenizer_json import convert

NUM_PIECES = 405
"""Ids of the small SentencePiece tokenizer, its special tokens included."""

TOKENS = [
    {"content": "<drug>"},
    {"content": "<drug>s"},
    {"content": "fox", "single_word": True},
    {"content": "<l>", "lstrip": True},
    {"content": "<r>", "rstrip": True},
    {"content": "<b>", "lstrip": True, "rstrip": True},
    {"content": "狐狸"},
    {"content": "is", "normalized": True},
    {"content": "<|tool|>", "special": True},
]
FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")

texts = st.lists(
    st.sampled_from([str(token["content"]) for token in TOKENS if not token.get("special")])
    | st.sampled_from(
        [" ", "  ", "\n", "\u3000", "a", "the quick", "s", "你好", "_", "<", "é", "<|"]
    )
).map("".join)


def _whole(token: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(FLAGS, False) | token


def _decoder(first_id: int) -> dict[str, Any]:
    return {str(first_id + i): _whole(token) for i, token in enumerate(TOKENS)}


def _copy(source: Path, directory: Path, **config: Any) -> Path:
    shutil.copytree(source, directory, dirs_exist_ok=True)
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def sentencepiece_dir(train_sentencepiece: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy(
        train_sentencepiece(),
        tmp_path_factory.mktemp("added") / "sentencepiece",
        added_tokens_decoder=_decoder(NUM_PIECES),
    )


@pytest.fixture(scope="module")
def tiktoken_dir(
    small_tiktoken_dir: Path, small_tiktoken: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    special = {
        str(token_id): _whole({"content": name, "special": True})
        for name, token_id in small_tiktoken.special_ids.items()
    }
    return _copy(
        small_tiktoken_dir,
        tmp_path_factory.mktemp("added") / "tiktoken",
        added_tokens_decoder=special | _decoder(small_tiktoken.vocab_size),
    )


@pytest.fixture(scope="module")
def json_data(small_tiktoken_dir: Path, small_tiktoken: Tokenizer) -> dict[str, Any]:
    data = convert(small_tiktoken_dir, small_tiktoken)
    for token_id, token in _decoder(small_tiktoken.vocab_size).items():
        data["added_tokens"].append(token | {"id": int(token_id)})
    return data


@pytest.fixture(scope="module")
def json_dir(json_data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("added_json")
    (directory / "tokenizer.json").write_text(json.dumps(json_data), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def tokenizers(sentencepiece_dir: Path, tiktoken_dir: Path, json_dir: Path) -> dict[str, Tokenizer]:
    kinds = {"sentencepiece": sentencepiece_dir, "tiktoken": tiktoken_dir, "json": json_dir}
    return {kind: load_tokenizer(directory) for kind, directory in kinds.items()}


@pytest.fixture(params=["sentencepiece", "tiktoken", "json"])
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers[request.param]


def _python_oracle(tokenizer: Tokenizer, plain: Tokenizer, first_id: int) -> Callable[[str], Any]:
    """transformers' tokenizer in Python over the same pieces. It splits at the added tokens, of
    which special ones are left out: it would find their names in text."""
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")

    class Oracle(transformers.PreTrainedTokenizer):  # type: ignore[misc, name-defined]
        vocab_size = first_id

        def get_vocab(self) -> dict[str, int]:
            return dict(self._added_tokens_encoder)

        def _tokenize(self, text: str, **_: Any) -> list[str]:
            return [f"#{token_id}" for token_id in plain.encode(text)]

        def _convert_token_to_id(self, token: str) -> int:
            return int(token[1:])

    decoder = {
        int(token_id): transformers.AddedToken(**token)
        for token_id, token in _decoder(first_id).items()
        if not token["special"]
    }
    oracle = Oracle(added_tokens_decoder=decoder)
    return lambda text: oracle.encode(text, add_special_tokens=False)


@given(text=texts)
def test_sentencepiece_as_transformers(
    tokenizers: dict[str, Tokenizer], small_sentencepiece: Tokenizer, text: str
) -> None:
    ours = tokenizers["sentencepiece"]
    assert ours.encode(text) == _oracle("sentencepiece", ours, small_sentencepiece)(text)


@example(text="fox\n<l>")  # a word that is put together, and then stripped
@given(text=texts)
def test_tiktoken_as_transformers(
    tokenizers: dict[str, Tokenizer], small_tiktoken: Tokenizer, text: str
) -> None:
    ours = tokenizers["tiktoken"]
    assert ours.encode(text) == _oracle("tiktoken", ours, small_tiktoken)(text)


_oracles: dict[str, Callable[[str], Any]] = {}


def _oracle(kind: str, ours: Tokenizer, plain: Tokenizer) -> Callable[[str], Any]:
    if kind not in _oracles:
        _oracles[kind] = _python_oracle(ours, plain, plain.vocab_size)
    return _oracles[kind]


@given(text=texts | texts.map(lambda text: f"{text}<|tool|>{text}<|user|> fox"))
def test_tokenizer_json_as_tokenizers(
    tokenizers: dict[str, Tokenizer], json_data: dict[str, Any], text: str
) -> None:
    library = pytest.importorskip("tokenizers", reason="the oracle is the tokenizers package")
    if "json" not in _oracles:
        oracle = library.Tokenizer.from_str(json.dumps(json_data))
        oracle.encode_special_tokens = True  # names of special tokens in text stay text
        _oracles["json"] = lambda text: oracle.encode(text, add_special_tokens=False).ids
    assert tokenizers["json"].encode(text) == _oracles["json"](text)


def test_one_id_anywhere(tokenizer: Tokenizer) -> None:
    drug = next(i for i, text in tokenizer.added_texts.items() if text == "<drug>")
    for text in ("<drug>", "take<drug>now", "take <drug> now", "<drug><drug>"):
        assert tokenizer.encode(text).count(drug) == text.count("<drug>")
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(
    text=texts.filter(lambda text: not any(name in text for name in ("<l>", "<r>", "<b>", "fox")))
)
def test_round_trip(tokenizers: dict[str, Tokenizer], text: str) -> None:
    """Only lstrip and rstrip take text away. Where single_word declines a token, transformers
    encodes its name as a segment of its own, with a blank of its own."""
    for tokenizer in tokenizers.values():
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        detokenizer = IncrementalDetokenizer(tokenizer)
        pieces = [detokenizer.push([token_id]) for token_id in ids]
        assert "".join(pieces) + detokenizer.flush() == text


def test_a_special_one_is_hidden_and_stays_text_in_prompts(tokenizer: Tokenizer) -> None:
    tool = tokenizer.special_ids["<|tool|>"]
    assert tool not in tokenizer.encode("<|tool|>")
    assert tokenizer.decode(tokenizer.encode("a<|tool|>b")) == "a<|tool|>b"
    assert tokenizer.decode([tool]) == ""
    assert tokenizer.decode([tool], skip_special_tokens=False) == "<|tool|>"


def test_they_may_be_sampled(tokenizer: Tokenizer) -> None:
    assert not tokenizer.never_sampled.intersection(tokenizer.added_texts)
    assert tokenizer.vocab_size == max(*tokenizer.added_texts, *tokenizer.special_ids.values()) + 1


def test_structures_count_no_blank_that_decoding_drops(tokenizers: dict[str, Tokenizer]) -> None:
    spelled = text_tokens(tokenizers["tiktoken"])
    assert b"<drug>" in spelled
    assert b"<drug>" not in text_tokens(tokenizers["sentencepiece"])


def test_added_tokens_json(train_sentencepiece: Any, tmp_path: Path) -> None:
    """The older file has no flags; a name that another file calls special is special."""
    directory = _copy(
        train_sentencepiece(), tmp_path, additional_special_tokens=["<|im_start|>", "[gMASK]"]
    )
    tokens = {"<drug>": 410, "<|im_start|>": 405, "[gMASK]": 401}
    (directory / "added_tokens.json").write_text(json.dumps(tokens))
    (directory / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<end>"}})
    )
    tokenizer = load_tokenizer(directory)
    assert tokenizer.encode("<drug>") == [410]
    assert tokenizer.special_ids["<|im_start|>"] == 405
    assert tokenizer.never_sampled == {406, 407, 408, 409}
    assert tokenizer.decode([410, 407, 410]) == "<drug><drug>"
    with pytest.raises(Exception, match="token id 411 is outside"):
        tokenizer.decode([411])


def test_names_of_the_family_stay_special(train_sentencepiece: Any, tmp_path: Path) -> None:
    """Fine-tuned checkpoints list ChatGLM3's role tokens as not special."""
    names = {"401": "[gMASK]", "403": "sop", "406": "<|user|>", "407": "<|assistant|>"}
    directory = _copy(
        train_sentencepiece(),
        tmp_path,
        added_tokens_decoder={i: _whole({"content": name}) for i, name in names.items()},
    )
    tokenizer = load_tokenizer(directory, "chatglm3")
    assert not tokenizer.added_texts
    assert 406 not in tokenizer.encode("<|user|>")
    assert tokenizer.vocab_size == 409


def test_the_marks_of_chatml_are_special(train_sentencepiece: Any, tmp_path: Path) -> None:
    config = {"405": _whole({"content": "<|im_start|>"})}
    directory = _copy(train_sentencepiece(), tmp_path, added_tokens_decoder=config)
    (directory / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 406}))
    tokenizer = load_tokenizer(directory)
    assert not tokenizer.added_texts
    assert not {405, 406}.intersection(tokenizer.encode("<|im_start|><|im_end|>"))


def test_real_glm4_with_an_added_token(goldens_dir: Path, tmp_path: Path) -> None:
    source = goldens_dir / "tokenizers" / "glm-4-tiny"
    shutil.copy(source / "tokenizer.model", tmp_path)
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["added_tokens_decoder"] |= {
        "450": {"content": "<think>", "special": False},
        "451": {"content": "</think>", "special": False},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("<think>a</think>") == [450, 97, 451]
    assert tokenizer.decode([450] * 3) == "<think>" * 3


def test_a_blank_before_an_added_token_of_chatglm_6b(goldens_dir: Path, tmp_path: Path) -> None:
    source = goldens_dir / "tokenizers" / "chatglm-6b"
    shutil.copy(source / "ice_text.model", tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool>": 130344}))
    config = (source / "tokenizer_config.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    assert tokenizer.encode("a<tool>b") == [*a, 130344, *b]
    for text in ("a <tool> b", "a  <tool> b", "你好 <tool> b", "a\n<tool>", "a <tool> <tool>"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("a ") == a  # where no token follows, the model's own rule holds


@pytest.mark.parametrize(
    ("config", "plain", "complaint"),
    [
        ({"5": "<x>"}, {}, "added_tokens_decoder is not id -> token"),
        ({"-1": {"content": "<x>"}}, {}, "added_tokens_decoder is not id -> token"),
        ({"99999999": {"content": "<x>"}}, {}, "added_tokens_decoder is not id -> token"),
        ({"405": {"content": 7}}, {}, "added_tokens_decoder is not id -> token"),
        ({}, {"<x>": "many"}, "added_tokens.json: not token -> id"),
        ({"300": {"content": "<x>"}}, {}, "'<x>' has the id 300, which the tokenizer's own"),
        ({"401": {"content": "<x>"}}, {}, "which the tokenizer's own '[gMASK]' has, too"),
        ({"410": {"content": "[gMASK]"}}, {}, "in this kind of tokenizer its id is 401"),
        ({"405": {"content": "<x>"}}, {"<x>": 406}, "has the id 406 here and 405 elsewhere"),
        ({"405": {"content": "<x>"}}, {"<y>": 405}, "'<x>' and '<y>' have the same id, 405"),
    ],
)
def test_refusals(
    train_sentencepiece: Any,
    tmp_path: Path,
    config: dict[str, Any],
    plain: dict[str, Any],
    complaint: str,
) -> None:
    directory = _copy(train_sentencepiece(), tmp_path, added_tokens_decoder=config)
    (directory / "added_tokens.json").write_text(json.dumps(plain))
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(directory)
    assert complaint in error.value.message
    assert str(tmp_path) in error.value.message


@pytest.mark.parametrize("special", [True, False])
def test_an_id_that_the_model_lacks_is_refused(tmp_path: Path, special: bool) -> None:
    directory = _copy(
        EMBEDDED_CHECKPOINT,
        tmp_path,
        chat_format="chatglm2",
        added_tokens_decoder={"2688": _whole({"content": "<drug>", "special": special})},
    )
    model = read_model_config(directory)
    with pytest.raises(CheckpointError, match="'<drug>'"):
        limit_vocabulary(RunnerConfig(checkpoint=str(directory)), model, load_tokenizer(directory))
