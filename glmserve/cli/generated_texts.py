"""What `glmserve generate` prints of its texts."""

from __future__ import annotations

from glmserve.engine import NewTokens
from glmserve.request import SamplingParams
from glmserve.text import Tokenizer
from glmserve.text.chat_format import ChatFormat
from glmserve.text.text_assembler import TextAssembler, TextOptions


class SilentTexts:
    """Prints nothing."""

    def add(self, index: int, token_ids: list[int]) -> None:
        """Take new tokens of a text."""

    def finish(self) -> None:
        """The texts are complete."""


class PrintedTexts(SilentTexts):
    """Prints a single answer while it is generated, and several when they are complete."""

    def __init__(
        self,
        prompts: list[str],
        params: SamplingParams,
        tokenizer: Tokenizer,
        chat: ChatFormat | None,
    ) -> None:
        text_options = TextOptions(continues_text=chat is None)
        self._prompts = prompts
        self._texts = [
            TextAssembler(params, tokenizer, text_options, chat.response_filter() if chat else None)
            for _ in prompts
        ]
        self._parts: list[list[str]] = [[] for _ in prompts]

    def add(self, index: int, token_ids: list[int]) -> None:
        self._write(index, self._texts[index].push(NewTokens(token_ids, [])).text)

    def finish(self) -> None:
        for index, text in enumerate(self._texts):
            rest = text.finish()
            self._write(index, rest.text if rest else "")
        if len(self._prompts) == 1:
            print(flush=True)
            return
        for prompt, parts in zip(self._prompts, self._parts, strict=True):
            print(f"> {prompt}\n{''.join(parts)}\n", flush=True)

    def _write(self, index: int, text: str) -> None:
        self._parts[index].append(text)
        if len(self._prompts) == 1:
            print(text, end="", flush=True)
