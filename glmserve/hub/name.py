"""Names of models, as people write them on a command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from glmserve.errors import OptionError

Hub = Literal["hf", "ms"]

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_NAME = re.compile(rf"(?:(hf|ms)://)?({_PART})/({_PART})(?:@(.{{1,200}}))?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_SCHEME = re.compile(r"(hf|ms)://")

_SAME_OWNERS = ("zai-org", "THUDM")
"""On Hugging Face, the publisher was renamed; both names lead to the same models."""
_OWNER_ON_MODELSCOPE = "ZhipuAI"


@dataclass(frozen=True)
class HubName:
    """The name of a model.

    Attributes:
        owner: organisation or user.
        model: the model's own name.
        revision: branch, tag or commit; None: the main branch.
        hub: the only hub to look at; None: Hugging Face first, then what ModelScope has stored.
    """

    owner: str
    model: str
    revision: str | None = None
    hub: Hub | None = None

    @property
    def repository(self) -> str:
        """OWNER/MODEL, without the revision."""
        return f"{self.owner}/{self.model}"

    def __str__(self) -> str:
        scheme = f"{self.hub}://" if self.hub else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{scheme}{self.repository}{revision}"

    def on_modelscope(self) -> HubName:
        """This name, with the name that its owner has on ModelScope."""
        is_same = self.owner in _SAME_OWNERS
        return replace(self, owner=_OWNER_ON_MODELSCOPE) if is_same else self

    def others(self, hub: Hub) -> list[HubName]:
        """This name, and those that the same model has or had on a hub."""
        owners = [self.owner]
        if self.owner in (*_SAME_OWNERS, _OWNER_ON_MODELSCOPE):
            here = _SAME_OWNERS if hub == "hf" else (_OWNER_ON_MODELSCOPE, *_SAME_OWNERS)
            owners += [owner for owner in here if owner != self.owner]
        return [replace(self, owner=owner) for owner in owners]


def parse_name(text: str) -> HubName | None:
    """Read OWNER/MODEL[@REVISION], perhaps with hf:// or ms:// before it; None: it is no such name.

    Raises:
        OptionError: the text has such a scheme, but the rest is no name; or the revision is none.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        if _SCHEME.match(text):
            raise OptionError(f"{text}: no name of a model; write it like hf://zai-org/chatglm3-6b")
        return None
    hub, owner, model, revision = match.groups()
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise OptionError(f"{text}: {revision!r} is no branch, tag or commit")
    return HubName(owner, model, revision, "hf" if hub == "hf" else "ms" if hub == "ms" else None)
