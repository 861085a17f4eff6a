"""Submits the choices of one answer to the engine: the part that all endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.bounds import check_characters, check_scores
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.generation import Choice, Generation
from glmserve.api.answering.quotas import Lease
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.token_fields import allowed_tokens, check_ids, check_token_ids
from glmserve.api.protocol import GenerationRequest
from glmserve.contract.sampling import Sampling
from glmserve.engine import ChoiceSpec, SchedulingAttributes, TokenStream
from glmserve.errors import ContextLengthError, InvalidRequestError
from glmserve.request import SamplingParams
from glmserve.scheduler.random import noise_key
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.structure import AllowedTokens, CompiledStructure
from glmserve.text.text_assembler import TextAssembler, TextOptions


@dataclass(frozen=True)
class GenerationSpec:
    """What an endpoint asks to be generated.

    Attributes:
        prompts: token ids.
        prompts_param: the field that the prompts come from, for errors.
        max_tokens: None allows what fits into the context, or the checkpoint's default.
        cut_to_context: `max_tokens` may exceed what fits; the text then ends with the context.
        stop_ids: tokens that end a text, unless the request ignores them.
        num_choices: for each prompt.
        top_logprobs: see SamplingParams, as for `prompt_logprobs`.
        structure: what every text must match.
        prediction: token ids that the text may be like.
        continues_text: the texts continue one that ends the prompt.
        new_filter: makes the rewrite of a text; None: it is not rewritten.
    """

    prompts: Sequence[list[int]]
    prompts_param: str
    max_tokens: int | None
    stop_ids: frozenset[int]
    cut_to_context: bool = False
    num_choices: int = 1
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    structure: CompiledStructure | None = None
    prediction: Sequence[int] = ()
    continues_text: bool = False
    new_filter: Callable[[], ResponseFilter] | None = None


async def encode_prompts(
    server: ServerContext,
    prompts: list[str] | list[list[int]],
    param: str,
    *,
    add_special_tokens: bool = True,
) -> list[list[int]]:
    """Token ids of prompts that come as text or as ids already.

    Args:
        add_special_tokens: put the tokenizer's marks around a text.

    Raises:
        InvalidRequestError: there is text, but no tokenizer, or more text than fits; or an id that
            the model lacks.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    tokenizer = server.tokenizer
    if not texts:
        encoded = [prompt for prompt in prompts if not isinstance(prompt, str)]
        for ids in encoded:
            check_ids(ids, server.model.vocab_size, param)
        return encoded
    if tokenizer is None:
        raise InvalidRequestError(
            f"this server has no tokenizer; send the {param} as token ids", param
        )
    encode = tokenizer.encode_prompt if add_special_tokens else tokenizer.encode
    num_characters = sum(map(len, texts))
    check_characters(max(map(len, texts)), server.engine.info.limits.max_context, param)
    return await run_in_thread_if_large(lambda: [encode(text) for text in texts], num_characters)


def submit_generation(
    server: ServerContext, request: GenerationRequest, spec: GenerationSpec, answer: AnswerContext
) -> Generation:
    """Submit all choices or none, or go on with a journaled answer.

    The result must be closed on every path.

    Raises:
        RateLimitError: the caller's quota is used up.
        GlmserveError: see Engine.submit_group.
    """
    if server.tokenizer is None and request.stop_strings:
        raise InvalidRequestError(
            "this server has no tokenizer, so it cannot look for stop strings; use stop_token_ids",
            "stop",
        )
    check_token_ids(server, request)
    allowed = allowed_tokens(server, request, spec.structure)
    _check_scores(server, spec, len(request.logprob_token_ids))
    seed = next(server.seeds) if request.seed is None else request.seed
    if answer.journaled is not None:
        seed = answer.journaled.note_seed(seed)
    attributes = scheduling_attributes(server, answer, request.priority, request.cache_salt)
    lease = admit(server, answer, sum(map(len, spec.prompts)))
    groups: list[list[TokenStream]] = []
    try:
        for prompt_ids in spec.prompts:
            params = _sampling_params(server, request, spec, len(prompt_ids))
            first = len(groups) * spec.num_choices
            choices = _choice_specs(spec, allowed, params, seed, answer, first)
            streams = server.engine.submit_group(prompt_ids, choices, attributes, spec.prediction)
            groups.append(streams)
        texts = [[_choice(server, request, spec, tokens) for tokens in group] for group in groups]
    except BaseException as error:
        take_back(groups, lease)
        if isinstance(error, InvalidRequestError):  # the scheduler knows nothing but prompts
            names = {"prompt": spec.prompts_param}
            if request.prompt_logprobs is not None:
                names["logprobs"] = "prompt_logprobs"
            raise error.renamed(names) from None
        raise
    if answer.journaled is not None:
        answer.journaled.begin([[stream.request for stream in group] for group in groups])
    return Generation(texts, answer, lease)


def sampling_of(request: GenerationRequest) -> Sampling:
    """The sampling parameters of a request: its fields of the same names."""
    fields = {name: getattr(request, name) for name in Sampling.__struct_fields__}
    fields["top_k"] = max(request.top_k, 0)
    if not request.do_sample or request.top_p == 0:
        fields |= {"temperature": 0.0, "top_p": 1.0}
    fields["logit_bias"] = {int(key): bias for key, bias in request.logit_bias.items()}
    return Sampling(**fields)


def take_back(groups: Iterable[Iterable[TokenStream]], lease: Lease | None) -> None:
    """Close the streams of a request that could not be submitted as a whole."""
    for stream in (stream for group in groups for stream in group):
        stream.close()
    if lease is not None:
        lease.release()


def scheduling_attributes(
    server: ServerContext, answer: AnswerContext, priority: int, cache_salt: str
) -> SchedulingAttributes:
    """The request's own wishes, limited to what the caller may have."""
    tenant = answer.caller.tenant
    if tenant.priority is not None:
        priority = max(priority, tenant.priority)
    # A name has no zero byte, so no salt of one tenant reads like another's.
    owner = "" if server.config.shared_prefixes else tenant.name + "\0"
    salt = (owner + cache_salt).encode()
    return SchedulingAttributes(tenant.name, priority, salt, answer.adapter, answer.in_background)


def admit(server: ServerContext, answer: AnswerContext, num_prompt_tokens: int) -> Lease | None:
    """Count a request against the limits of its caller's tenant; None: there are none for it.

    Raises:
        RateLimitError: it has to wait.
    """
    if answer.in_background:
        return None
    return server.quotas.admit(answer.caller.tenant, num_prompt_tokens)


def room_for_output(server: ServerContext, num_prompt_tokens: int) -> int:
    """Tokens that fit into the context behind the prompt.

    Raises:
        ContextLengthError: none fits.
    """
    max_context = server.engine.info.limits.max_context
    if num_prompt_tokens >= max_context:
        raise ContextLengthError("prompt", num_prompt_tokens, 1, max_context)
    return max_context - num_prompt_tokens


def _choice_specs(
    spec: GenerationSpec,
    allowed: AllowedTokens | None,
    params: SamplingParams,
    seed: int,
    answer: AnswerContext,
    first: int,
) -> list[ChoiceSpec]:
    """The choices of one prompt, of which the first has number `first` in the answer."""
    choices = [
        ChoiceSpec(own, spec.structure.constraint() if spec.structure else allowed)
        for own in _seeded(params, seed, spec.num_choices)
    ]
    # The prompt is scored once, by the first choice.
    scoring = msgspec.structs.replace(choices[0].params, prompt_logprobs=spec.prompt_logprobs)
    choices[0] = choices[0]._replace(params=scoring)
    if answer.journaled is None or not answer.journaled.is_resumed:
        return choices
    progress = answer.journaled.progress(range(first, first + spec.num_choices))
    return [c._replace(progress=p) for c, p in zip(choices, progress, strict=True)]


def _choice(
    server: ServerContext, request: GenerationRequest, spec: GenerationSpec, tokens: TokenStream
) -> Choice:
    options = TextOptions(
        request.stop_strings,
        request.include_stop_str_in_output,
        request.skip_special_tokens,
        spec.continues_text,
    )
    response_filter = spec.new_filter() if spec.new_filter else None
    params = tokens.request.params
    return Choice(tokens, TextAssembler(params, server.tokenizer, options, response_filter))


def _seeded(params: SamplingParams, seed: int, num_choices: int) -> Iterator[SamplingParams]:
    """The first choice has the seed itself; the others have seeds derived from it."""
    for number in range(num_choices):
        own = noise_key(seed, -number) if number else seed
        yield msgspec.structs.replace(params, seed=own)


def _check_scores(server: ServerContext, spec: GenerationSpec, num_given: int) -> None:
    """Check the number of log-probabilities.

    Args:
        num_given: ids that the request names, in place of the most likely ones.
    """
    if spec.top_logprobs is None and spec.prompt_logprobs is None:
        return
    max_tokens = server.engine.info.limits.max_context
    if spec.max_tokens is not None:
        max_tokens = min(max_tokens, spec.max_tokens)
    check_scores(
        spec.prompts,
        spec.num_choices,
        max_tokens,
        num_given or spec.top_logprobs,
        spec.prompt_logprobs,
    )


def _sampling_params(
    server: ServerContext, request: GenerationRequest, spec: GenerationSpec, num_prompt_tokens: int
) -> SamplingParams:
    max_tokens = spec.max_tokens
    if max_tokens is None:
        max_tokens = room_for_output(server, num_prompt_tokens)
        if server.generation_defaults.max_new_tokens is not None:
            max_tokens = min(max_tokens, server.generation_defaults.max_new_tokens)
    elif spec.cut_to_context:
        max_tokens = min(max_tokens, room_for_output(server, num_prompt_tokens))
    if request.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"min_tokens ({request.min_tokens}) is more than the {max_tokens} tokens allowed",
            "min_tokens",
        )
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=request.min_tokens,
        sampling=sampling_of(request),
        stop_token_ids=frozenset(request.stop_token_ids)
        | (frozenset() if request.ignore_eos else spec.stop_ids),
        top_logprobs=0 if request.logprob_token_ids else spec.top_logprobs,
        logprob_token_ids=tuple(request.logprob_token_ids),
    )
