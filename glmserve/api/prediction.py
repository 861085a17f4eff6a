"""`prediction`: what a client expects the answer to be, as a source of drafts."""

from __future__ import annotations

from glmserve.api.context import ServerContext
from glmserve.api.offload import offload
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import InvalidRequestError
from glmserve.text.structure import CompiledStructure
from glmserve.text.tokenizer import Tokenizer


async def prediction_ids(
    chat: ChatCompletionRequest,
    context: ServerContext,
    tokenizer: Tokenizer,
    structure: CompiledStructure | None,
) -> list[int]:
    """Token ids of the predicted text; none if nothing is predicted.

    Raises:
        InvalidRequestError: no use could be made of it.
    """
    if chat.prediction is None:
        return []
    if not context.engine.speculates:
        raise _refused("this server guesses no tokens; it would with --speculative-tokens")
    if structure is not None:
        raise _refused("cannot be combined with a structure or a tool call that is required")
    if chat.sampling.penalises:
        raise _refused("cannot be combined with a penalty")
    text = chat.prediction.text
    return await offload(lambda: tokenizer.encode(text), len(text))


def _refused(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"prediction: {reason}", "prediction")
