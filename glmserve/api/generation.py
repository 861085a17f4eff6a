"""From a checked request to a running generation: the part that all endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from glmserve.api.bounds import check_characters, check_scores
from glmserve.api.caller import Caller
from glmserve.api.choices import Generation
from glmserve.api.context import ServerContext
from glmserve.api.journaling.asked import Asked
from glmserve.api.offload import offload
from glmserve.api.protocol import GenerationRequest
from glmserve.engine import ChoiceSpec, SchedulingAttributes
from glmserve.errors import ContextLengthError, InvalidRequestError
from glmserve.request import SamplingParams
from glmserve.scheduler.random import noise_key
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.structure import CompiledStructure
from glmserve.text.text_stream import TextOptions, TextStream, TokenSource


@dataclass(frozen=True)
class Job:
    """What an endpoint has made of its request.

    Attributes:
        prompts_param: the field that they come from, for errors.
        max_tokens: None allows what fits into the context.
        stop_ids: tokens that end a response, unless the request ignores them.
        num_choices: continuations of each prompt.
        top_logprobs: see SamplingParams, as for `prompt_logprobs`.
        prediction: what the response may be like.
    """

    prompts: Sequence[list[int]]
    prompts_param: str
    max_tokens: int | None
    stop_ids: frozenset[int]
    num_choices: int = 1
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    structure: CompiledStructure | None = None
    prediction: Sequence[int] = ()
    new_filter: Callable[[], ResponseFilter] | None = None


async def encode_prompts(
    context: ServerContext, prompts: list[str] | list[list[int]], param: str
) -> list[list[int]]:
    """Token ids of prompts that come as text or as ids already.

    Raises:
        InvalidRequestError: there is text, but no tokenizer, or more of it than fits; or an id that
            the model lacks.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    tokenizer = context.tokenizer
    if not texts:
        encoded = [prompt for prompt in prompts if not isinstance(prompt, str)]
        for ids in encoded:
            _check_ids(ids, context.model.vocab_size, param)
        return encoded
    if tokenizer is None:
        raise InvalidRequestError(
            f"this server has no tokenizer; send the {param} as token ids", param
        )
    num_characters = sum(map(len, texts))
    check_characters(max(map(len, texts)), context.engine.info.limits.max_context, param)
    return await offload(lambda: [tokenizer.encode_prompt(text) for text in texts], num_characters)


def start(context: ServerContext, request: GenerationRequest, job: Job, asked: Asked) -> Generation:
    """Start generating all of it or nothing, or go on with it. Must be closed on every path.

    Raises:
        RateLimitError: the caller has used up what they may have.
        GlmserveError: see Engine.submit_group.
    """
    if context.tokenizer is None and request.stop_strings:
        raise InvalidRequestError(
            "this server has no tokenizer, so it cannot look for stop strings; use stop_token_ids",
            "stop",
        )
    _check_token_ids(context, request)
    _check_scores(context, job)
    seed = context.next_seed() if request.seed is None else request.seed
    recording = asked.recording
    if recording is not None:
        seed = recording.note_seed(seed)
    place = standing(context, asked.caller, request.priority, request.cache_salt)
    lease = context.quotas.admit(asked.caller.tenant, sum(map(len, job.prompts)))
    groups: list[list[TextStream]] = []
    try:
        for number, prompt_ids in enumerate(job.prompts):
            params = _sampling_params(context, request, job, len(prompt_ids))
            variants = _variants(job, params, seed)
            first = number * job.num_choices
            if recording is not None and recording.is_resumed:
                progress = recording.progress(range(first, first + job.num_choices))
                variants = [v._replace(progress=p) for v, p in zip(variants, progress, strict=True)]
            streams = context.engine.submit_group(prompt_ids, variants, place, job.prediction)
            tokens = streams if recording is None else recording.tokens_of(streams, first)
            groups.append(_texts(context, request, job, tokens))
    except BaseException as error:
        Generation(groups, lease=lease).close()
        if isinstance(error, InvalidRequestError) and error.param == "prompt":
            error.param = job.prompts_param  # the scheduler knows nothing but prompts
        raise
    if recording is not None:
        recording.begin(sum(map(len, groups)))
    return Generation(groups, asked, lease)


def standing(
    context: ServerContext, caller: Caller, priority: int, cache_salt: str
) -> SchedulingAttributes:
    """What a request's own wishes come to within what its caller may have."""
    tenant = caller.tenant
    if tenant.priority is not None:
        priority = max(priority, tenant.priority)
    # A name has no zero byte, so no salt of one tenant reads like another's.
    owner = "" if context.config.shared_prefixes else tenant.name + "\0"
    return SchedulingAttributes(tenant.name, priority, (owner + cache_salt).encode())


def room_for_output(context: ServerContext, num_prompt_tokens: int) -> int:
    """Tokens that fit into the context behind the prompt."""
    max_context = context.engine.info.limits.max_context
    if num_prompt_tokens >= max_context:
        raise ContextLengthError(
            f"the prompt has {num_prompt_tokens} tokens; this server's context of {max_context} "
            "tokens leaves no room for an answer",
            "prompt",
        )
    return max_context - num_prompt_tokens


def _variants(job: Job, params: SamplingParams, seed: int) -> list[ChoiceSpec]:
    variants = [
        ChoiceSpec(p, job.structure.constraint() if job.structure else None)
        for p in _seeded(params, seed, job.num_choices)
    ]
    # A client that wants to know about the prompt wants to be told once.
    first = msgspec.structs.replace(variants[0].params, prompt_logprobs=job.prompt_logprobs)
    variants[0] = variants[0]._replace(params=first)
    return variants


def _texts(
    context: ServerContext, request: GenerationRequest, job: Job, tokens: Sequence[TokenSource]
) -> list[TextStream]:
    options = TextOptions(
        request.stop_strings, request.include_stop_str_in_output, request.skip_special_tokens
    )
    return [
        TextStream(source, context.tokenizer, options, job.new_filter() if job.new_filter else None)
        for source in tokens
    ]


def _seeded(params: SamplingParams, seed: int, num_choices: int) -> Iterator[SamplingParams]:
    """The first choice is what the seed alone would give; the others have seeds made of it."""
    for number in range(num_choices):
        own = noise_key(seed, -number) if number else seed
        yield msgspec.structs.replace(params, seed=own)


def _check_token_ids(context: ServerContext, request: GenerationRequest) -> None:
    vocab_size = context.model.vocab_size
    tokenizer = context.tokenizer
    bias_ids = [int(key) for key in request.logit_bias]
    _check_ids(bias_ids, tokenizer.vocab_size if tokenizer else vocab_size, "logit_bias")
    _check_ids(request.stop_token_ids, vocab_size, "stop_token_ids")
    never = tokenizer.never_sampled.intersection(bias_ids) if tokenizer else None
    if never:
        raise InvalidRequestError(
            f"token id {min(never)} is never generated by this model, so no bias can change it",
            "logit_bias",
        )


def _check_scores(context: ServerContext, job: Job) -> None:
    max_tokens = context.engine.info.limits.max_context
    if job.max_tokens is not None:
        max_tokens = min(max_tokens, job.max_tokens)
    check_scores(job.prompts, job.num_choices, max_tokens, job.top_logprobs, job.prompt_logprobs)


def _check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    if ids and max(ids) >= vocab_size:
        raise InvalidRequestError(
            f"token id {max(ids)} is outside this model's vocabulary of {vocab_size}", param
        )


def _sampling_params(
    context: ServerContext, request: GenerationRequest, job: Job, num_prompt_tokens: int
) -> SamplingParams:
    max_tokens = job.max_tokens
    if max_tokens is None:
        max_tokens = room_for_output(context, num_prompt_tokens)
    if request.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"min_tokens ({request.min_tokens}) is more than the {max_tokens} tokens allowed",
            "min_tokens",
        )
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=request.min_tokens,
        sampling=request.sampling,
        stop_token_ids=frozenset(request.stop_token_ids)
        | (frozenset() if request.ignore_eos else job.stop_ids),
        top_logprobs=job.top_logprobs,
    )
