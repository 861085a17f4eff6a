"""Prompts of ChatGLM-6B: a context that is read in both directions, then a text that follows it.

Plain data of the contract. Later models read a prompt from left to right and have no layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from glmserve.errors import InvalidRequestError


class PromptLayout(msgspec.Struct, frozen=True, array_like=True):
    """The visibility and the rotary positions of the tokens of a sequence.

    The context is everything before <sop>; all tokens attend to all of it. A token from <sop> on
    also attends to the tokens from <sop> up to itself. Rotary positions are pairs: (i, 0) for token
    i of the context, then (mask_position, 1), (mask_position, 2), ... from <sop> on.
    """

    context_length: int
    mask_position: int
    """Position of the mark that the text after <sop> replaces."""


class PromptMarks(msgspec.Struct, frozen=True, array_like=True):
    """The special tokens that determine a prompt's layout."""

    gmask_id: int
    """[gMASK]: stands for a text of any length."""
    mask_id: int
    """[MASK]: stands for a short text; used if there is no [gMASK]."""
    sop_id: int
    """<sop>: the text begins here."""

    @property
    def shortest_prompt(self) -> list[int]:
        """The token ids of a prompt with an empty context."""
        return [self.gmask_id, self.sop_id]

    def layout(self, prompt_ids: Sequence[int]) -> PromptLayout:
        """The layout of a prompt, by the first of each mark, as in the original code.

        Raises:
            InvalidRequestError: a mark is missing.
        """
        mask_id = self.gmask_id if self.gmask_id in prompt_ids else self.mask_id
        if self.sop_id not in prompt_ids or mask_id not in prompt_ids:
            raise InvalidRequestError(
                f"a prompt of this model needs [gMASK] (id {self.gmask_id}) or [MASK] "
                f"({self.mask_id}), and <sop> ({self.sop_id}) where the answer begins; prompts "
                f"usually end with {self.gmask_id}, {self.sop_id}",
                "prompt",
            )
        return PromptLayout(prompt_ids.index(self.sop_id), prompt_ids.index(mask_id))
