"""`prediction`: what a client expects the answer to be, as a source of drafts."""

from __future__ import annotations

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.submission import sampling_of
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.text.structure import CompiledStructure
from glmserve.text.tokenizer import Tokenizer


async def prediction_ids(
    chat: ChatCompletionRequest,
    text: str,
    server: ServerContext,
    tokenizer: Tokenizer,
    structure: CompiledStructure | None,
) -> list[int]:
    """Token ids of the predicted text. None if they cannot be used: a prediction changes no answer.

    They are of use with --speculative-tokens, and without a structure or a penalty.
    """
    is_free = structure is None and not chat.allowed_token_ids and not sampling_of(chat).penalises
    if not (server.engine.speculates and is_free):
        return []
    return await run_in_thread_if_large(lambda: tokenizer.encode(text), len(text))
