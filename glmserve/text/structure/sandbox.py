"""The sandbox: a process in which every new grammar is compiled first.

llguidance bounds most of a grammar's cost and releases the interpreter lock meanwhile. But a 30 kB
regex keeps a core busy for five seconds, and a chain of some thousand references or rules overflows
its stack, which ends the process. So every new grammar is compiled in a process that may die: with
less stack than the server's threads have, a timer and a memory limit. If it passes, the server
compiles it again on a thread.

sandbox_process.py starts it with one end of a socketpair. It receives a Setup and then
CompileRequests, and answers each with a CompileResult.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from llguidance import LLMatcher, LLTokenizer

from glmserve.errors import InvalidRequestError
from glmserve.process.limited import Limits, answer_requests
from glmserve.text.structure.build import FirstTokens, build_matcher, first_mask
from glmserve.text.structure.vocabulary import ll_tokenizer

TIME_LIMIT = 2.0
"""CPU seconds for one grammar. CPU time does not depend on the machine's load. Large schemas in use
take a tenth of a second."""
_LIMITS = Limits(TIME_LIMIT, memory=2**31, stack=2**20)
"""The server's threads have 2 MiB of stack or more, so a grammar that passes here is safe there."""
_NUM_RANDOM_WALKS = 3
_MAX_WALK_TOKENS = 40


class Setup(msgspec.Struct, frozen=True):
    """Data for all requests."""

    tokens: list[bytes]
    opening: FirstTokens


class CompileRequest(msgspec.Struct, frozen=True):
    """A structure to compile, in both forms (see GrammarText)."""

    plain: str
    after_space: str | None


class CompileResult(msgspec.Struct, frozen=True):
    """The reason for refusing a structure, or None."""

    problem: str | None


def main(descriptor: int, parent: int) -> None:
    """Try structures for the server, until it closes the other end of the socket.

    Args:
        descriptor: file descriptor of the inherited socket.
        parent: id of the server's process. This process ends with it.
    """
    answer_requests(descriptor, parent, _LIMITS, _prepare)


def _prepare(data: bytes) -> Callable[[bytes], bytes]:
    setup = msgspec.msgpack.decode(data, type=Setup)
    tokenizer = ll_tokenizer(setup.tokens)

    def answer(frame: bytes) -> bytes:
        request = msgspec.msgpack.decode(frame, type=CompileRequest)
        return msgspec.msgpack.encode(CompileResult(_problem(tokenizer, setup, request)))

    return answer


def _problem(tokenizer: LLTokenizer, setup: Setup, request: CompileRequest) -> str | None:
    try:
        plain = build_matcher(tokenizer, request.plain)
        blank = build_matcher(tokenizer, request.after_space) if request.after_space else None
        mask = first_mask(plain, blank, setup.opening)
    except InvalidRequestError as error:
        return error.message
    if not _text_ids(mask, len(setup.tokens)):
        return "no text has this structure, or only the empty one"
    for seed in range(_NUM_RANDOM_WALKS):
        if not _walk(plain.deep_copy(), len(setup.tokens), random.Random(seed)):
            return "the structure is too complex, or leads to where no text can follow"
    return None


def _walk(matcher: LLMatcher, vocab_size: int, rng: random.Random) -> bool:
    """Whether a random walk through the grammar reaches no limit and no dead end."""
    for _ in range(_MAX_WALK_TOKENS):
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            return False
        ids = _text_ids(mask, vocab_size)
        if not ids:
            return bool(mask[vocab_size >> 3] >> (vocab_size & 7) & 1)
        if not matcher.consume_token(_pick(ids, rng)):
            return False
        if matcher.is_stopped():
            return True
    return True


def _text_ids(mask: bytes, vocab_size: int) -> int:
    return int.from_bytes(mask, "little") & ((1 << vocab_size) - 1)


def _pick(ids: int, rng: random.Random) -> int:
    """A random set bit: the first at or after a random index."""
    start = rng.randrange(ids.bit_length())
    rest = (ids >> start) << start
    return (rest & -rest).bit_length() - 1
