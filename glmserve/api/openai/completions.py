"""POST /v1/completions"""

from __future__ import annotations

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.generation import Generation
from glmserve.api.answering.structure import compile_structure, dropped_header, structure_spec
from glmserve.api.answering.submission import (
    GenerationSpec,
    encode_prompts,
    room_for_output,
    submit_generation,
)
from glmserve.api.answering.truncation import truncated
from glmserve.api.openai.completion_writer import CompletionWriter
from glmserve.api.protocol import CompletionRequest
from glmserve.api.protocol.prompts import MAX_PROMPTS
from glmserve.errors import InvalidRequestError
from glmserve.text import Tokenizer

DEFAULT_MAX_TOKENS = 16  # OpenAI's


def _check_choices(request: CompletionRequest) -> None:
    num_texts = len(request.prompts) * max(request.n, request.best_of or 0)
    if num_texts > MAX_PROMPTS:
        raise InvalidRequestError(
            f"prompts times choices are {num_texts} texts; at most {MAX_PROMPTS} in one request",
            "n",
        )
    if request.best_of is not None and request.best_of < request.n:
        raise InvalidRequestError(
            f"best_of ({request.best_of}) must not be less than n ({request.n})", "best_of"
        )
    if request.stream and (request.best_of or request.n) > request.n:
        raise InvalidRequestError(
            "the best of several texts is known when all are complete: best_of greater than n "
            "cannot be streamed",
            "best_of",
        )
    if request.output_limit == 0 and not request.echo:
        raise InvalidRequestError(
            "max_tokens: 0 makes no text; with echo: true the prompt is returned", "max_tokens"
        )


class CompletionsEndpoint(Endpoint[CompletionRequest]):
    """Continues one or several prompts, streamed or whole."""

    path = "/v1/completions"
    request_type = CompletionRequest
    is_cacheable = True
    checks = (_check_choices,)

    async def start(
        self, server: ServerContext, request: CompletionRequest, answer: AnswerContext
    ) -> CompletionWriter:
        prompts = await encode_prompts(
            server, request.prompts, "prompt", add_special_tokens=request.add_special_tokens
        )
        prompts = [truncated(server, request, ids, expected_tokens(request)) for ids in prompts]
        continues_text = server.tokenizer is not None and all(
            _ends_in_text(server.tokenizer, ids) for ids in prompts
        )
        generation = await _start(server, request, prompts, answer, continues_text=continues_text)
        return CompletionWriter(
            server.tokenizer, request, generation, continues_text=continues_text
        )


async def _start(
    server: ServerContext,
    request: CompletionRequest,
    prompts: list[list[int]],
    answer: AnswerContext,
    *,
    continues_text: bool,
) -> Generation:
    stop_ids = frozenset(server.model.eos_token_ids)
    if server.tokenizer:
        stop_ids |= {server.tokenizer.eos_id}
    max_tokens = request.output_limit
    if max_tokens is None:
        longest = max(map(len, prompts))
        max_tokens = min(DEFAULT_MAX_TOKENS, room_for_output(server, longest))
    num_choices = request.best_of or request.n
    top_logprobs = request.logprobs
    if num_choices > request.n and top_logprobs is None:
        top_logprobs = 0  # to find the best
    wanted = structure_spec(request, request.response_format)
    structure = await compile_structure(server, wanted, stop_ids, "")
    answer.headers.update(dropped_header(structure))
    spec = GenerationSpec(
        prompts=prompts,
        prompts_param="prompt",
        max_tokens=None if max_tokens == -1 else max_tokens,
        stop_ids=stop_ids,
        num_choices=num_choices,
        top_logprobs=top_logprobs,
        prompt_logprobs=_prompt_scores(request),
        structure=structure,
        continues_text=continues_text,
    )
    return submit_generation(server, request, spec, answer)


def _ends_in_text(tokenizer: Tokenizer, prompt: list[int]) -> bool:
    """Whether a blank after the prompt belongs to the text, as it does not after marks."""
    if not prompt or prompt[-1] in tokenizer.segment_ends:
        return False
    return bool(tokenizer.token_bytes(prompt[-1], skip_special_tokens=True))


def expected_tokens(request: CompletionRequest) -> int:
    """The length of an answer for which a cut prompt leaves room."""
    if request.output_limit is None:
        return DEFAULT_MAX_TOKENS
    return max(request.output_limit, 0)


def _prompt_scores(request: CompletionRequest) -> int | None:
    """The most likely tokens to report at each place of the prompt; None: no scores."""
    wanted = [request.prompt_logprobs, request.logprobs if request.echo else None]
    return max((number for number in wanted if number is not None), default=None)
