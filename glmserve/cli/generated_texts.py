"""The texts of `glmserve generate` while they grow, and how they are printed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from glmserve.embedded.results import ChatChunk, Completion, Usage


@dataclass
class GrowingText:
    """One choice of a prompt."""

    text: str = ""
    thoughts: str = ""
    num_tokens: int = 0
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """Of each token: token, logprob, and the most likely tokens by their spelling."""

    def as_object(self, index: int, *, has_logprobs: bool) -> dict[str, Any]:
        """What --json shows of it."""
        return {
            "index": index,
            "text": self.text,
            **({"reasoning_content": self.thoughts} if self.thoughts else {}),
            "finish_reason": self.finish_reason,
            **({"logprobs": self.logprobs} if has_logprobs else {}),
        }


class GrowingAnswer:
    """All choices of one prompt."""

    def __init__(self, num_choices: int) -> None:
        self.texts = [GrowingText() for _ in range(num_choices)]
        self.usage: Usage | None = None

    @property
    def has_begun(self) -> bool:
        """Whether every choice has a token or is over."""
        return all(text.num_tokens or text.finish_reason for text in self.texts)

    def add(self, chunk: Completion | ChatChunk) -> str:
        """Add what is new. Returns the new text, thoughts included."""
        self.usage = chunk.usage or self.usage
        new = ""
        if isinstance(chunk, Completion):
            for choice in chunk.choices:
                own = self.texts[choice.index]
                own.text += choice.text
                new += choice.text
                own.num_tokens += len(choice.token_ids or ())
                own.finish_reason = choice.finish_reason
                if (found := choice.logprobs) is not None:
                    rows = zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True)
                    own.logprobs += [_row(token, score, top or {}) for token, score, top in rows]
            return new
        for part in chunk.choices:
            own, delta = self.texts[part.index], part.delta
            if delta.content and own.thoughts and not own.text:
                new += "\n\n"
            own.text += delta.content or ""
            own.thoughts += delta.reasoning_content or ""
            new += (delta.reasoning_content or "") + (delta.content or "")
            own.num_tokens += len(part.token_ids or ())
            own.finish_reason = part.finish_reason
            if part.logprobs is not None:
                for scored in part.logprobs.content:
                    top = {other.token: other.logprob for other in scored.top_logprobs or ()}
                    own.logprobs.append(_row(scored.token, scored.logprob, top))
        return new


def _row(token: str, logprob: float | None, top: dict[str, float]) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "top_logprobs": top}


class Printer:
    """Prints texts: a single one while it is generated, several when they are complete.

    Args:
        prompts: the texts of the prompts.
        answers: of each prompt, which grow.
    """

    def __init__(
        self,
        prompts: list[str],
        answers: list[GrowingAnswer],
        *,
        as_json: bool,
        has_logprobs: bool,
    ) -> None:
        self._prompts = prompts
        self._answers = answers
        self._as_json = as_json
        self._has_logprobs = has_logprobs
        is_single = len(prompts) == 1 and len(answers[0].texts) == 1
        self._is_live = is_single and not as_json

    def add(self, new: str) -> None:
        """New text of an answer."""
        if self._is_live:
            sys.stdout.write(new)
            sys.stdout.flush()

    def finish(self) -> None:
        """All answers are complete."""
        for prompt, answer in zip(self._prompts, self._answers, strict=True):
            if self._as_json:
                print(json.dumps(self._object(prompt, answer), ensure_ascii=False))
            elif self._is_live:
                print()
                self._print_logprobs(answer.texts[0])
            else:
                self._print(prompt, answer)
        sys.stdout.flush()

    def _object(self, prompt: str, answer: GrowingAnswer) -> dict[str, Any]:
        usage = answer.usage
        return {
            "prompt": prompt,
            "choices": [
                text.as_object(index, has_logprobs=self._has_logprobs)
                for index, text in enumerate(answer.texts)
            ],
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        }

    def _print(self, prompt: str, answer: GrowingAnswer) -> None:
        print(f"> {prompt}")
        for number, text in enumerate(answer.texts, 1):
            if len(answer.texts) > 1:
                print(f"[{number}]")
            print(f"{text.thoughts}\n\n{text.text}" if text.thoughts else text.text)
            self._print_logprobs(text)
        print()

    def _print_logprobs(self, text: GrowingText) -> None:
        if not self._has_logprobs:
            return
        for row in text.logprobs:
            others = "".join(f"  {token!r} {value:.4f}" for token, value in _others(row))
            print(f"{row['logprob']:10.4f} {row['token']!r}{others}")


def _others(row: dict[str, Any]) -> list[tuple[str, float]]:
    return [(token, value) for token, value in row["top_logprobs"].items() if token != row["token"]]
