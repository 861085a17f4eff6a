"""Prompts of ChatGLM-6B: a context that is read in both directions, then a text that follows it.

Plain data of the contract. Later models read a prompt from left to right and have none of this.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from glmserve.errors import InvalidRequestError


class PromptLayout(msgspec.Struct, frozen=True, array_like=True):
    """Which tokens of a sequence see what, and where they stand.

    The context is everything before <sop>; all tokens see all of it. From <sop> on a token sees
    what is not after it. Rotary positions are pairs: (i, 0) for token i of the context, then
    (mask_position, 1), (mask_position, 2), ... from <sop> on.
    """

    context_length: int
    mask_position: int
    """Of the token that the following text stands for."""


class PromptMarks(msgspec.Struct, frozen=True, array_like=True):
    """The tokens that tell a prompt's layout."""

    gmask_id: int
    """[gMASK]: a text of any length belongs here."""
    mask_id: int
    """[MASK]: a short one does; it counts where there is no [gMASK]."""
    sop_id: int
    """<sop>: here the text begins."""

    @property
    def shortest_prompt(self) -> list[int]:
        """An empty context."""
        return [self.gmask_id, self.sop_id]

    def layout(self, prompt_ids: Sequence[int]) -> PromptLayout:
        """The layout of a prompt, by its first marks as in the original code.

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
