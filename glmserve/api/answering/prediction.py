"""`prediction`: what a client expects the answer to be, as a source of drafts."""

from __future__ import annotations

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import InvalidRequestError
from glmserve.text.structure import CompiledStructure
from glmserve.text.tokenizer import Tokenizer


async def prediction_ids(
    chat: ChatCompletionRequest,
    text: str,
    server: ServerContext,
    tokenizer: Tokenizer,
    structure: CompiledStructure | None,
) -> list[int]:
    """Token ids of the predicted text.

    Raises:
        InvalidRequestError: this server or this request cannot use a prediction.
    """
    if not server.engine.speculates:
        raise _refused("this server guesses no tokens; it would with --speculative-tokens")
    if structure is not None:
        raise _refused("cannot be combined with a structure or a tool call that is required")
    if chat.sampling.penalises:
        raise _refused("cannot be combined with a penalty")
    return await run_in_thread_if_large(lambda: tokenizer.encode(text), len(text))


def _refused(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"prediction: {reason}", "prediction")
