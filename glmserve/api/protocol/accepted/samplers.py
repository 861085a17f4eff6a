"""Samplers of llama.cpp, Ollama and text-generation-webui that this server does not have."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

_LLAMA = "llama.cpp's clients, LM Studio, SillyTavern"
_NONE = "this server has temperature, top_p, top_k and min_p, and penalties for repetition"
_ORDER = "penalties, temperature, top_k, top_p and min_p apply in this order"
_DEFAULT_ORDER = [
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
]
_TUNES = "Tunes a sampler that is off."

SAMPLERS = table(
    neutral(
        "repeat_penalty",
        [1],
        "llama.cpp's clients, LM Studio, Ollama's clients",
        "Penalises the last tokens.",
        "repetition_penalty does this for all tokens",
    ),
    neutral("typical_p", [1], _LLAMA, "Keeps tokens of typical probability.", _NONE),
    neutral("typ_p", [1], _LLAMA, "Keeps tokens of typical probability.", _NONE),
    neutral("tfs_z", [1], _LLAMA, "Cuts the tail of the distribution.", _NONE),
    neutral("top_a", [0], _LLAMA, "Cuts unlikely tokens.", _NONE),
    neutral("top_n_sigma", [-1, 0], _LLAMA, "Cuts unlikely tokens.", _NONE),
    neutral("xtc_probability", [0], _LLAMA, "Removes likely tokens at random.", _NONE),
    neutral("dynatemp_range", [0], _LLAMA, "Changes the temperature from token to token.", _NONE),
    neutral("mirostat", [0, False], _LLAMA, "Holds the perplexity constant.", _NONE),
    neutral("dry_multiplier", [0], _LLAMA, "Penalises repeated sequences.", _NONE),
    neutral("min_keep", [0, 1], _LLAMA, "Keeps at least so many tokens.", _NONE),
    neutral(
        "samplers",
        [_DEFAULT_ORDER, ";".join(_DEFAULT_ORDER), "edskypmxt", []],
        "llama.cpp's clients",
        "The order of the samplers.",
        _ORDER,
    ),
    hint("repeat_last_n", _LLAMA, _TUNES, int),
    hint("penalize_nl", _LLAMA, _TUNES, bool),
    hint("xtc_threshold", _LLAMA, _TUNES, float),
    hint("dynatemp_exponent", _LLAMA, _TUNES, float),
    hint("mirostat_tau", _LLAMA, _TUNES, float),
    hint("mirostat_eta", _LLAMA, _TUNES, float),
    hint("dry_base", _LLAMA, _TUNES, float),
    hint("dry_allowed_length", _LLAMA, _TUNES, int),
    hint("dry_penalty_last_n", _LLAMA, _TUNES, int),
    hint("dry_sequence_breakers", _LLAMA, _TUNES, list),
    hint("backend_sampling", "llama.cpp's clients", "Where tokens are chosen.", bool),
)
