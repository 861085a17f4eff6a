"""Models that choose tokens under a constraint: at random, or set on making trouble."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glmserve.request import TokenConstraint
from glmserve.text import Tokenizer

Taste = Callable[[bytes], float]
"""What a model adds to the logit of a token, by its bytes."""

TASTES: dict[str, Taste] = {
    "none": lambda piece: 0.0,
    "blanks": lambda piece: 20.0 * sum(byte in b" \t\r\n" for byte in piece),
    "quotes and backslashes": lambda piece: 20.0 * sum(byte in b'"\\' for byte in piece),
    "long tokens": lambda piece: 5.0 * len(piece),
    "names": lambda piece: 6.0 * (piece[:1] in (b'"', b"a", b",", b":")),
    "digits and exponents": lambda piece: 6.0 * (piece[:1] in b"0123456789eE+-."),
}


class Sampler:
    """Draws tokens from logits that are Gumbel noise plus a taste."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self._biases: dict[str, np.ndarray] = {}

    def run(
        self,
        constraint: TokenConstraint,
        *,
        taste: str = "none",
        seed: int = 0,
        limit: int = 100,
        likes_to_stop: bool = True,
    ) -> tuple[list[int], bool]:
        """Token ids without the stop id, and whether the text came to its end.

        A mask that allows nothing fails the test.
        """
        rng = np.random.default_rng(seed)
        ids: list[int] = []
        for _ in range(limit):
            allowed = self.allowed(constraint)
            assert allowed.any(), f"a dead end after {self.tokenizer.decode(ids)!r}"
            logits = rng.gumbel(size=len(allowed)) + self._bias(taste)
            logits[list(self.stop_ids)] += 3.0 if likes_to_stop else -1000.0
            token_id = int(np.where(allowed, logits, -np.inf).argmax())
            constraint.accept(token_id)
            if token_id in self.stop_ids:
                return ids, True
            ids.append(token_id)
            if constraint.is_finished:
                return ids, True
        return ids, False

    def _bias(self, taste: str) -> np.ndarray:
        if taste not in self._biases:
            pieces = map(self.tokenizer.token_bytes, range(self.tokenizer.vocab_size))
            self._biases[taste] = np.array([TASTES[taste](piece) for piece in pieces])
        return self._biases[taste]

    def allowed(self, constraint: TokenConstraint) -> np.ndarray:
        """The mask as [vocab_size] booleans."""
        mask = constraint.allowed()
        assert len(mask) == (self.tokenizer.vocab_size + 7) // 8
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little").astype(bool)
        assert not bits[self.tokenizer.vocab_size :].any(), "bits beyond the vocabulary"
        return bits[: self.tokenizer.vocab_size]

    def force(self, constraint: TokenConstraint, pieces: list[bytes]) -> None:
        """Choose tokens with just these bytes, each of which must be allowed."""
        for piece in pieces:
            allowed = self.allowed(constraint)
            ids = [i for i in np.flatnonzero(allowed) if self.tokenizer.token_bytes(i) == piece]
            assert ids, f"{piece!r} is not allowed"
            constraint.accept(int(ids[0]))
