"""Reads a checkpoint's generation_config.json: end tokens, and defaults of sampling fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import ConfigReader

FILE_NAME = "generation_config.json"

_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 10.0),
}
"""The bounds of the request fields of the same names."""

_NEUTRAL: dict[str, object] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "diversity_penalty": 0.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "early_stopping": False,
    "renormalize_logits": False,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict_in_generate": False,
    "remove_invalid_values": False,
    "guidance_scale": 1.0,
}
"""Values by which fields ask for nothing."""

_WITHOUT_EFFECT = frozenset(
    # max_length counts the prompt, too, and the context limits both. There always is a cache.
    "max_length pad_token_id bos_token_id decoder_start_token_id transformers_version use_cache "
    "cache_implementation trust_remote_code chat_format max_window_size user_token_id "
    "assistant_token_id".split()
)


@dataclass(frozen=True)
class GenerationDefaults:
    """What a checkpoint says about generating; empty without a generation_config.json.

    Attributes:
        sampling: default by name of a request field: temperature, top_p, top_k, min_p,
            repetition_penalty.
        greedy: the checkpoint says `do_sample: false`, so the temperature's default is 0.
        max_new_tokens: default of the longest answer, in tokens.
        eos_token_ids: tokens that end an answer.
        ignored: names of fields that ask for something that glmserve does not have.
    """

    sampling: Mapping[str, float] = field(default_factory=dict)
    greedy: bool = False
    max_new_tokens: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The defaults as a line of start-up shows them."""
        values = dict(self.sampling)
        if self.greedy:
            values["temperature"] = 0
        if self.max_new_tokens is not None:
            values["max_new_tokens"] = self.max_new_tokens
        return ", ".join(f"{name} {value:g}" for name, value in values.items())


def read_generation_defaults(folder: Path) -> GenerationDefaults:
    """Read the generation_config.json in a checkpoint's folder, if there is one.

    Raises:
        CheckpointError: the file is damaged, or a value is out of range.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return GenerationDefaults()
    reader = ConfigReader(path)
    sampling = {name: _number(reader, name, *_BOUNDS[name]) for name in _BOUNDS if name in reader}
    if "top_k" in reader:
        sampling["top_k"] = max(0, round(_number(reader, "top_k", -1, 2**31 - 1)))
    return GenerationDefaults(
        sampling,
        greedy=not reader.boolean("do_sample", True),
        max_new_tokens=reader.integer("max_new_tokens") if "max_new_tokens" in reader else None,
        eos_token_ids=reader.integers("eos_token_id"),
        ignored=_ignored(reader),
    )


def _ignored(reader: ConfigReader) -> tuple[str, ...]:
    """Names of fields that were not read and have a value that asks for something."""
    unread = reader.unread(_WITHOUT_EFFECT)
    return tuple(name for name in unread if not name.startswith("_") and _asks(reader, name))


def _asks(reader: ConfigReader, name: str) -> bool:
    value = reader.value(name)
    return value not in (None, [], {}, "", _NEUTRAL.get(name))


def _number(reader: ConfigReader, name: str, lowest: float, highest: float) -> float:
    reader.mark_read(name)
    value = reader.value(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise reader.refuse(name, "expected a number")
    if not lowest <= value <= highest:
        raise CheckpointError(
            f"{reader.path}: {name} = {value:g} is not between {lowest:g} and {highest:g}; correct "
            "it, or leave the file out by --generation-config none"
        )
    return value
