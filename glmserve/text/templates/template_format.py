"""The chat format of a checkpoint whose template is no known one: the template itself."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatMessage
from glmserve.text.response_filter import FilterChain, ResponseFilter
from glmserve.text.tagged_tools import TaggedTools
from glmserve.text.templates.files import ChatTemplates
from glmserve.text.templates.placeholders import Piece, Placeholders, PromptEncoder
from glmserve.text.templates.renderer import TemplateError, TemplateRenderer
from glmserve.text.templates.variables import variables
from glmserve.text.thoughts import CLOSE
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools import Tool
from glmserve.text.tools.conversation import with_instructions, without_tools

logger = logging.getLogger(__name__)


class TemplateFormat(TaggedTools):
    """Renders each conversation by the checkpoint's template, in another process.

    If the template writes calls between the tags of `tools/tagged.py`, as many do, it writes the
    tools, too. Otherwise these are explained in the system text, and calls and results are texts,
    because nothing tells how this model would call them.

    Args:
        templates: of the checkpoint.
        is_strict: refuse conversations whose texts the template changes.
    """

    lead_in = ""
    blocks = True

    def __init__(
        self, tokenizer: Tokenizer, templates: ChatTemplates, *, is_strict: bool = False
    ) -> None:
        source = "\0".join(f"{name}\0{text}" for name, text in sorted(templates.sources.items()))
        digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self.name = f"template {digest[:12]}"  # type: ignore[misc]  # a class's in other formats
        super().__init__(tokenizer)
        self.templates = templates
        self.writes_tools = False
        """Whether the template gets tools and calls as such."""
        self._is_strict = is_strict
        self._variables: Mapping[str, Any] = {}
        self._warnings: set[str] = set()
        self._renderer = TemplateRenderer(templates.sources, templates.variables)
        self._encoder = PromptEncoder(tokenizer)
        # A special token would not be in the answer's text.
        self.reasons = CLOSE in source and CLOSE not in tokenizer.special_ids

    def end_with(self, names: Sequence[str]) -> None:
        """End responses with these special tokens, too; where the user's turn ends them, so does
        that of a tool."""
        if "<|user|>" in names and "<|observation|>" in self.tokenizer.special_ids:
            names = [*names, "<|observation|>"]
        self.stop_ids |= {self.tokenizer.special_ids[name] for name in names}

    def rendered(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        """The template's own text for a conversation, with tools as the template writes them.

        Raises:
            TemplateError: the template cannot be rendered, or refuses the conversation.
        """
        name = self.templates.name_for(tools=bool(tools))
        return self._renderer.render(name, [variables(messages, tools)])[0]

    def encoded(self, text: str) -> list[int]:
        """Token ids of a text that the template wrote of texts without special tokens."""
        return self._encoder.encode([Piece(text)])

    def special_names(self, text: str) -> list[str]:
        """Names of special tokens in a rendered text, in order."""
        return self._encoder.names(text)

    def with_variables(self, variables: Mapping[str, Any]) -> TemplateFormat:
        if not variables:
            return self
        bound = copy.copy(self)  # with the same process
        bound._variables = variables
        return bound

    def close(self) -> None:
        """End the process that renders."""
        self._renderer.close()

    def response_filter(self) -> ResponseFilter:
        return FilterChain()

    def _rewrites(self) -> tuple[ResponseFilter, ...]:
        return ()

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        return self._written(messages, tools, begin_answer=True)

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        return self._written(messages, tools, begin_answer=False)

    def _written(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], *, begin_answer: bool
    ) -> list[int]:
        if not self.writes_tools:
            offered = with_instructions(messages, tools) if tools else messages
            messages, tools = [without_tools(message) for message in offered], ()
        placeholders = Placeholders()
        plain, marked = self._render_both(messages, tools, placeholders, begin_answer)
        return [*self._encoded_prompt(placeholders, plain, marked), *self._missing_marks(plain)]

    def _encoded_prompt(self, placeholders: Placeholders, plain: str, marked: str) -> list[int]:
        """
        Args:
            plain: the rendering.
            marked: the same with placeholders.
        """
        found = placeholders.pieces(marked, plain)
        if found is None:
            self._note_change("changes the texts of messages")
            self._check_names(marked, plain)
            return self._encoder.encode([Piece(plain)])
        pieces, is_trimmed = found
        if is_trimmed:
            self._note_change("removes whitespace around the texts of messages")
        return self._encoder.encode(pieces)

    def _missing_marks(self, plain: str) -> list[int]:
        """The marks at the end of a prompt without which ChatGLM-6B cannot read it."""
        suffix = self.tokenizer.prompt_suffix
        names = self._encoder.names(plain)[-len(suffix) :]
        return [] if [self.tokenizer.special_ids[name] for name in names] == suffix else suffix

    def _render_both(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool],
        placeholders: Placeholders,
        begin_answer: bool,
    ) -> list[str]:
        """The conversation, and the same with placeholders."""

        def marked(text: str) -> str:
            return placeholders.stand_for(text) if self._encoder.names(text) else text

        write = partial(variables, messages, tools, self._variables, begin_answer=begin_answer)
        both = [write(), write(content=placeholders.stand_for, inner=marked)]
        try:
            return self._renderer.render(self.templates.name_for(tools=bool(tools)), both)
        except (UnicodeEncodeError, OverflowError):
            raise InvalidRequestError(
                "the conversation has a lone surrogate, or a whole number of more than 64 bits, "
                "which no chat template can get",
                "messages",
            ) from None
        except TemplateError as error:
            said = "refuses this conversation" if error.is_refusal else "cannot write it"
            raise InvalidRequestError(
                f"the model's chat template {said}: {error.message}", "messages"
            ) from None

    def _note_change(self, what: str) -> None:
        """
        Raises:
            InvalidRequestError: the format is strict.
        """
        if self._is_strict:
            raise InvalidRequestError(
                f"the model's chat template {what}, which --strict-templates refuses", "messages"
            )
        if what not in self._warnings:
            self._warnings.add(what)
            logger.warning("the chat template %s %s", self.templates.path, what)

    def _check_names(self, marked: str, plain: str) -> None:
        """Check that no name of a special token comes from a text.

        Raises:
            InvalidRequestError: one may.
        """
        if self._encoder.names(marked) != self._encoder.names(plain):
            raise InvalidRequestError(
                "the model's chat template changes the texts of messages, so names of special "
                "tokens in them cannot be kept as text; leave these names out",
                "messages",
            )
