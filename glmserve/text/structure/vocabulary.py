"""Converts tokens for llguidance, and llguidance's masks for the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from llguidance import LLParserLimits, LLTokenizer

from glmserve.text.tokenizer import Tokenizer

LIMITS = LLParserLimits(
    max_items_in_row=4000,  # an optional property takes four
    initial_lexer_fuel=500_000,  # about 10 ms of building regexes
    step_lexer_fuel=300_000,  # about 20 ms of a step
    step_max_items=20_000,  # about 1 ms of a step
    max_lexer_states=100_000,  # about 200 MB
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""Limits for the cost of one grammar, in llguidance's units. Times are llguidance's figures."""

NEVER_TEXT = 0xFF
"""A byte that UTF-8 never contains. llguidance marks special tokens with it."""


def text_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """Bytes of each id that may be generated as text; empty for all others.

    Tokens without bytes are excluded too, because they could repeat without end. So are tokens
    after which decoding drops a blank, because a grammar would count it.
    """
    excluded = {*tokenizer.special_ids.values(), *tokenizer.never_sampled, *tokenizer.segment_ends}
    pieces = (
        b"" if token_id in excluded else tokenizer.token_bytes(token_id)
        for token_id in range(tokenizer.vocab_size)
    )
    return [b"" if piece[:1] == bytes([NEVER_TEXT]) else piece for piece in pieces]


class _Wrapper:
    """The attributes that LLTokenizer reads. The end is an extra token after the real ones, so that
    no real id has two meanings in a mask."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = [*tokens, b"<end>"]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: str) -> NoReturn:
        raise NotImplementedError("grammars have no_forcing, so nothing is ever encoded")


def ll_tokenizer(tokens: Sequence[bytes]) -> LLTokenizer:
    """llguidance's tokenizer (a trie) of these tokens. Its masks have an extra bit for the end.

    It takes 2 microseconds per token and holds the interpreter lock meanwhile.
    """
    return LLTokenizer(_Wrapper(tokens))  # type: ignore[arg-type]  # duck-typed


def packed_bits(token_ids: Iterable[int], vocab_size: int) -> bytes:
    """A mask of these ids in llguidance's layout: vocab_size // 8 + 1 bytes, end bit unset."""
    packed = bytearray(vocab_size // 8 + 1)
    for token_id in token_ids:
        packed[token_id >> 3] |= 1 << (token_id & 7)
    return bytes(packed)


def may_end(mask: bytes, vocab_size: int) -> bool:
    """Whether llguidance's mask allows the end."""
    return bool(mask[vocab_size >> 3] >> (vocab_size & 7) & 1)


def engine_mask(mask: bytes, vocab_size: int, stop_ids: frozenset[int]) -> bytes:
    """Convert llguidance's mask for the engine: the bit for the end is moved to the stop ids.

    Where the text may not end, a stop id is not allowed as text either, because it would end it.

    Returns:
        (vocab_size + 7) // 8 bytes, one bit per id.
    """
    result = bytearray(mask[: (vocab_size + 7) // 8])
    if vocab_size & 7:
        result[-1] &= (1 << (vocab_size & 7)) - 1
    ends = may_end(mask, vocab_size)
    for token_id in stop_ids:
        if token_id >= vocab_size:
            continue  # a config may name an end token that its tokenizer lacks
        bit = 1 << (token_id & 7)
        result[token_id >> 3] = result[token_id >> 3] & ~bit | (bit if ends else 0)
    return bytes(result)
