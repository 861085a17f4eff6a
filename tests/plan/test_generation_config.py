"""generation_config.json: end tokens and defaults, checked like a request's fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmserve.cli.generation_config import with_generation_config
from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.errors import CheckpointError
from glmserve.model_config import GenerationDefaults, read_generation_defaults, read_model_config


def _read(folder: Path, content: object) -> GenerationDefaults:
    (folder / "generation_config.json").write_text(json.dumps(content))
    return read_generation_defaults(folder)


def test_no_file(tmp_path: Path) -> None:
    assert read_generation_defaults(tmp_path) == GenerationDefaults()
    assert str(GenerationDefaults()) == ""


def test_the_file_of_glm_4_9b_chat(tmp_path: Path) -> None:
    defaults = _read(
        tmp_path,
        {
            "eos_token_id": [151329, 151336, 151338],
            "pad_token_id": 151329,
            "do_sample": True,
            "temperature": 0.8,
            "max_length": 128000,
            "top_p": 0.8,
            "transformers_version": "4.44.0",
        },
    )
    assert defaults.sampling == {"temperature": 0.8, "top_p": 0.8}
    assert defaults.eos_token_ids == (151329, 151336, 151338)
    assert not defaults.greedy and not defaults.ignored and defaults.max_new_tokens is None
    assert str(defaults) == "temperature 0.8, top_p 0.8"


def test_greedy_and_lengths(tmp_path: Path) -> None:
    defaults = _read(tmp_path, {"do_sample": False, "max_new_tokens": 7, "top_k": -1})
    assert defaults.greedy
    assert defaults.sampling == {"top_k": 0}
    assert str(defaults) == "top_k 0, temperature 0, max_new_tokens 7"


def test_demands_without_effect_are_named(tmp_path: Path) -> None:
    neutral = {"num_beams": 1, "length_penalty": 1.0, "suppress_tokens": None, "bad_words_ids": []}
    asking = {"num_beams": 4, "no_repeat_ngram_size": 3, "suppress_tokens": [5]}
    assert _read(tmp_path, neutral | {"_from_model_config": True}).ignored == ()
    assert _read(tmp_path, asking).ignored == tuple(sorted(asking))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"temperature": 3}, "temperature = 3 is not between 0 and 2"),
        ({"top_p": -1}, "top_p = -1 is not between"),
        ({"top_k": -2}, "top_k = -2 is not between"),
        ({"min_p": True}, "min_p = True: expected a number"),
        ({"repetition_penalty": "1"}, "repetition_penalty = '1': expected a number"),
        ({"eos_token_id": "2"}, "eos_token_id = '2'"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0: expected at least 1"),
        ([], "expected a JSON object"),
    ],
)
def test_refusals(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError) as error:
        _read(tmp_path, content)
    assert complaint in error.value.message
    assert "generation_config.json" in error.value.message


def test_the_option(tmp_path: Path) -> None:
    config = (EMBEDDED_CHECKPOINT / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    _read(tmp_path, {"eos_token_id": [2, 13], "temperature": 0.5})
    model = read_model_config(tmp_path)
    assert with_generation_config(model, "none") == (model, GenerationDefaults())
    changed, defaults = with_generation_config(model, "auto")
    assert changed.eos_token_ids == (2, 13)
    assert defaults.sampling == {"temperature": 0.5}
