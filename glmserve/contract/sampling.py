"""The sampling parameters of a request: how its tokens are chosen. Plain data of the contract.

`runner/sampler.py` defines what each parameter means, and the order in which they apply.
"""

from __future__ import annotations

import msgspec

GREEDY_BELOW = 1e-5
"""Lower temperatures count as 0: dividing logits by them would overflow."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The same for all tokens of a request. A default has no effect.

    On the wire it is a map without the defaults, so an unused parameter takes no bytes.
    """

    temperature: float = 0.0
    """0 is greedy: the token with the largest logit is chosen."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    """Token id to the number that is added to its logit."""

    @property
    def is_greedy(self) -> bool:
        """Whether the token with the largest logit is chosen, after penalties and biases."""
        return self.temperature < GREEDY_BELOW

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the token with the largest logit of the model is chosen."""
        return self.temperature < GREEDY_BELOW and not self.adjusts_logits

    @property
    def adjusts_logits(self) -> bool:
        """Whether logits change before a token is drawn."""
        return self.penalises or bool(self.logit_bias)

    @property
    def penalises(self) -> bool:
        """Whether the tokens so far are needed to choose the next one."""
        return self.repetition_penalty != 1.0 or self.penalises_output

    @property
    def penalises_output(self) -> bool:
        """Whether tokens of the output, not those of the prompt, are penalised."""
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0
