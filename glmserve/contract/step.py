"""The contract between planning and computing: plain data, serialisable, torch-free.

A Runner is a pure function of its KV cache and one StepInput. Everything a step depends on is in
the StepInput, the random numbers of sampling included, so that a step can be recorded, replayed,
or executed again by a fresh worker. There is one exception, so that a device need not wait for the
next plan: a step planned ahead has PLACEHOLDER_TOKEN_ID in place of a token that the previous step
chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.prompt_layout import PromptLayout, PromptMarks
from glmserve.contract.sampling import Sampling

INVALID_TOKEN_ID = -1
"""Reported instead of a token id when a row of logits is not finite."""

PLACEHOLDER_TOKEN_ID = -2
"""Stands in a StepInput for the token that the previous step chooses for the same request."""


class SamplingInput(msgspec.Struct, frozen=True, array_like=True):
    """How to choose one token: the parameters of its request, and what is particular to the
    token."""

    noise_key: int = 0
    """64 bits from which all random numbers of this token are derived; a hash of seed and position.
    A token before this one that is still a placeholder counts for the position."""
    sampling: Sampling = Sampling()
    history: bytes = b""
    """Prompt and output token ids so far, native int32; empty unless a penalty needs them. A
    placeholder is missing at the end: the runner appends the token that replaces it."""
    prompt_length: int = 0
    """How many tokens of `history` are the prompt."""
    banned: tuple[int, ...] = ()
    """Ids that must not be chosen."""
    constrained: bool = False
    """Only ids of this token's mask may be chosen. The mask is sent separately, see MaskSource."""
    top_logprobs: int | None = None
    """Report log-probabilities of the chosen token and of this many most likely ones; None: report
    none."""
    logprob_token_ids: tuple[int, ...] = ()
    """Ids below the size of the vocabulary. Report their log-probabilities, too, after those of the
    most likely ones; empty if `top_logprobs` is None."""

    @property
    def takes_most_likely(self) -> bool:
        """Whether the token with the largest logit of the model is chosen, whichever it is."""
        # Comparing with the defaults, which most requests have, is faster than looking at each.
        is_greedy = self.sampling == _DEFAULTS or self.sampling.is_plain_greedy
        return is_greedy and not self.constrained and not self.banned


_DEFAULTS = Sampling()


class ScoreInput(msgspec.Struct, frozen=True, array_like=True):
    """Which log-probabilities of given tokens to report."""

    targets: list[int]
    """[m]: the tokens that follow the first m of the scheduled tokens."""
    top_logprobs: int
    """How many most likely tokens to report beside each target."""


class ScheduledSequence(msgspec.Struct, frozen=True, array_like=True):
    """The tokens of one request that this step adds to the KV cache."""

    request_id: int
    token_ids: list[int]
    """[n]: new tokens, n >= 1; or [PLACEHOLDER_TOKEN_ID]. If the previous step chose
    INVALID_TOKEN_ID or a token that ends the request, any id may replace the placeholder: the
    result is dropped."""
    start: int
    """Position of token_ids[0]: the number of this request's tokens in the cache already."""
    block_table: bytes
    """Block ids, native int32; covers at least start + n tokens."""
    sampling: SamplingInput | None
    """None while the prompt is not complete: nothing is sampled."""
    score: ScoreInput | None = None
    pool: bool = False
    """Report the sum of these tokens' last hidden states."""
    layout: PromptLayout | None = None
    """None: every token sees those before it, at its own position. Otherwise the sequence's first
    step holds its whole context."""
    drafts: list[SamplingInput] = []
    """[k]: how to choose the token after each draft. token_ids is then one known token and k
    drafts, which are guesses of the tokens after it; `sampling` is for the token after the known
    one. A later step overwrites K/V of wrong drafts before they are read."""
    adapter_id: int = NO_ADAPTER
    """The adapter that changes the model for these tokens, see AdapterSource; it is loaded."""

    @property
    def sampling_inputs(self) -> list[SamplingInput]:
        """`sampling`, then `drafts`: one for each token that this step chooses."""
        return [] if self.sampling is None else [self.sampling, *self.drafts]

    @property
    def is_read_whole(self) -> bool:
        """Whether the last hidden states of all tokens are needed: for scores or pooling."""
        return self.score is not None or self.pool


class StepInput(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """One forward pass over any mix of prefill chunks and decodes, which are single tokens with or
    without drafts.

    Steps are executed in order. A step planned ahead may write to blocks of a request that has
    ended since; the next owner of these blocks writes them in a later step.
    """

    step_id: int
    sequences: list[ScheduledSequence]


class TokenMasks(msgspec.Struct, frozen=True, array_like=True, tag="masks"):
    """The masks of a step's constrained tokens, in order. Sent after its StepInput."""

    step_id: int
    masks: list[bytes]
    """Packed bits, little endian: bit t % 8 of byte t // 8 allows id t. Empty allows every id, as
    in a step planned ahead for a request that has ended since."""


MaskSource = Callable[[], list[bytes]]
"""Waits for a step's masks. They are computed while the device runs the model."""


def no_masks() -> list[bytes]:
    """The MaskSource of a step without constrained tokens."""
    return []


class Logprobs(msgspec.Struct, frozen=True, array_like=True):
    """Natural logarithms of the model's softmax, before penalties and temperature."""

    logprob: float
    """Of the token itself; -inf if its probability is 0."""
    top_ids: list[int]
    """Most likely ids that can be sampled, by descending probability; then the ids of
    `logprob_token_ids`, in their order."""
    top_logprobs: list[float]


class StepOutput(msgspec.Struct, frozen=True, array_like=True, tag="output"):
    """The result of a step."""

    step_id: int
    token_ids: list[int]
    """One per sampling input of each sequence, in order; INVALID_TOKEN_ID where logits were not
    finite. Tokens after a wrong draft have no meaning."""
    logprobs: list[Logprobs | None] = []
    """One for each of token_ids, None if not requested; empty if no sequence requests any."""
    scores: list[list[Logprobs]] = []
    """One list per sequence with `score`, in order."""
    pooled: list[bytes] = []
    """Native float32 [H] per sequence with `pool`, in order."""


class RunnerLimits(msgspec.Struct, frozen=True):
    """What a Runner can execute. The scheduler keeps to it and knows nothing else of the device."""

    num_blocks: int
    block_size: int
    """Token slots per block."""
    max_sequences: int
    """Sequences in one step."""
    max_step_tokens: int
    """New tokens in one step."""
    max_context: int
    """Tokens of one request, prompt and output together."""
    batch_sizes: tuple[int, ...] | None = None
    """Static graph sizes for decode steps; None accepts any. The largest bounds a decode step."""
    mixes_prefill_and_decode: bool = True
    """False: no step holds both sequences that only lack their last token and longer chunks."""
    chunked_prefill: bool = True
    """False: a prompt is computed whole, in one step."""
    prefix_cache: bool = True
    """False: K/V of a prompt must not be reused for another prompt with the same beginning."""
    resolves_placeholders: bool = False
    """True: the runner replaces PLACEHOLDER_TOKEN_ID, so a step can be planned while the previous
    one runs."""
    waits_for_steps: bool = False
    """True: `execute` returns when a step has ended. A step that is planned ahead need not arrive
    earlier, so it is planned shortly before, and includes the requests that arrive until then."""
    steps_in_flight: int = 1
    """Steps that the runner computes at the same time, such as one in each stage of a pipeline. No
    request that awaits its next token is in two of them: with more than 1, placeholders are not
    used. Chunks of a prompt may follow each other."""
    prompt_marks: PromptMarks | None = None
    """The tokens that determine the layout of every prompt; chunked_prefill and prefix_cache are
    False then. None: prompts have no layout."""
    max_drafts: int = 0
    """Drafts in one step; 0: the runner does not support them."""
    max_adapters: int = 0
    """Adapters that are loaded at the same time. More than 0: the runner is an AdapterRunner."""
    releases_cache: bool = False
    """True: the runner is a ReleasingRunner."""

    @property
    def token_capacity(self) -> int:
        """Token slots in the whole KV cache."""
        return self.num_blocks * self.block_size


class RankInfo(msgspec.Struct, frozen=True):
    """Facts about one rank of a group."""

    device: str
    """Human-readable, as in RunnerInfo."""
    weight_bytes: int
    kv_cache_bytes: int
    layers: tuple[int, int] | None = None
    """See RunnerInfo."""
    host: str = ""
    """Name of its machine; empty: the group has one."""


class RunnerInfo(msgspec.Struct, frozen=True):
    """Facts about a started Runner, for the start-up message and the metrics."""

    limits: RunnerLimits
    device: str
    """Human-readable, e.g. "cpu (AMD EPYC, 2 threads)"."""
    dtype: str
    num_parameters: int
    weight_bytes: int
    kv_cache_bytes: int
    layers: tuple[int, int] | None = None
    """First and last layer of the runner's stage of a pipeline; None: it has all."""
    ranks: tuple[RankInfo, ...] = ()
    """Of a group; the bytes above are their sums. Empty: the runner is alone."""


PendingOutput = Callable[[], StepOutput]
"""Waits for the output of a step that was launched. Called once, in the order of the steps, on
any thread; the next step may be launched on another thread meanwhile."""


class Runner(Protocol):
    """Executes steps on a device. Not thread-safe: one call of `execute` at a time."""

    info: RunnerInfo

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput | PendingOutput:
        """Write K/V of all scheduled tokens to the cache, and choose the requested tokens.

        Args:
            masks: called once if any token is constrained, else never, and not after `execute` has
                returned. It waits until the output of the previous step has been processed, so a
                runner calls it as late as possible: before it samples.

        Returns:
            The output; or, from a device with queued work, a function that waits for it, so that
            the next step can be launched meanwhile.
        """
        ...

    def close(self) -> None:
        """Free the device's memory."""
        ...


class ReleasingRunner(Protocol):
    """The part of a Runner that gives memory back while it is not needed."""

    def release_cache(self) -> None:
        """Give the memory of the KV cache back to the system, with the contents of all blocks.

        Called between two steps. Blocks take memory again where a later step writes.
        """
        ...


def unpack_int32(data: bytes) -> Sequence[int]:
    """View packed native int32 (block tables, histories) as integers without copying."""
    return memoryview(data).cast("i")
