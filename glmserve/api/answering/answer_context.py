"""The caller, ids and journal record of one answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from glmserve.api.answering.caller import ANONYMOUS, Caller
from glmserve.api.journaling.identity import Identity
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.engine import AdapterVersion


@dataclass
class AnswerContext:
    """The caller of an answer, its ids, and its record in the journal."""

    caller: Caller = ANONYMOUS
    adapter: AdapterVersion | None = None
    """None: the model itself answers."""
    identity: Identity = field(default_factory=Identity)
    journaled: JournaledAnswer | None = None
    """None without a journal."""
    headers: dict[str, str] = field(default_factory=dict)
    """What the response's headers say about the answer."""
    in_background: bool = False
    """Generated only while no other request can use the model, and counted by no quota."""

    @property
    def is_resumed(self) -> bool:
        """Whether the answer began with an earlier request, or in an earlier server."""
        return self.journaled is not None and self.journaled.is_resumed
