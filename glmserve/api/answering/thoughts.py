"""How the thoughts of an answer are read, counted and limited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.structure import StructureSpec, compile_structure
from glmserve.api.protocol.thinking import Thinking, ThoughtPlace
from glmserve.text.chat_format import ChatFormat
from glmserve.text.structure import CompiledStructure, Regex
from glmserve.text.structure.after_thoughts import ThoughtRules
from glmserve.text.thoughts import (
    CLOSE,
    ThoughtCounter,
    ThoughtSplitter,
    begins_in_thoughts,
)
from glmserve.text.tokenizer import Tokenizer

_CLOSING = f"\n{CLOSE}\n\n"
"""What ends thoughts that have used up their budget."""


@dataclass(frozen=True)
class Thoughts:
    """The thoughts of a request's answers."""

    tokenizer: Tokenizer
    is_open: bool
    """Answers begin with thoughts, because the prompt ends with the tag."""
    place: ThoughtPlace
    keeps_space: bool
    """Whitespace behind the thoughts belongs to the answer."""

    def splitter(self) -> ThoughtSplitter:
        """A new one, for one answer."""
        return ThoughtSplitter(is_open=self.is_open, keeps_space=self.keeps_space)

    def counter(self) -> ThoughtCounter:
        """A new one, for one answer."""
        return ThoughtCounter(self.tokenizer, is_open=self.is_open)


def thoughts_of(
    chat_format: ChatFormat,
    thinking: Thinking,
    prompt_ids: Sequence[int],
    structure: CompiledStructure | None,
) -> Thoughts | None:
    """How to read answers to this prompt; None: the model does not reason."""
    if not chat_format.reasons:
        return None
    tokenizer = chat_format.tokenizer
    return Thoughts(
        tokenizer,
        begins_in_thoughts(tokenizer, prompt_ids),
        thinking.place,
        structure is not None and structure.may_open_with_space,
    )


async def behind_thoughts(
    server: ServerContext,
    structure: CompiledStructure | None,
    thoughts: Thoughts | None,
    thinking: Thinking,
    stop_ids: frozenset[int],
) -> CompiledStructure | None:
    """The structure of a whole answer: free thoughts up to their budget, and then what the request
    asks for.

    Raises:
        InvalidRequestError: see compile_structure.
    """
    if thoughts is None or not thoughts.is_open:
        return structure
    if structure is None and thinking.budget is not None:
        free = StructureSpec(Regex("(?s:.*)"), thinking.budget_field)
        structure = await compile_structure(server, free, stop_ids, "")
    if structure is None:
        return None
    closing = tuple(thoughts.tokenizer.encode(_CLOSING))
    rules = ThoughtRules(closing, thinking.budget, thoughts.keeps_space)
    return replace(structure, thoughts=rules)
