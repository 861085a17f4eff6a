"""The loop of a chat: read, carry out or answer, until the user ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from glmserve.cli.chat.answer import Answer
from glmserve.cli.chat.commands import Commands
from glmserve.cli.chat.conversation import Conversation
from glmserve.cli.chat.terminal import PROMPT, LineReader, notice, show
from glmserve.embedded.results import ChatChunk
from glmserve.errors import GlmserveError


class Model(Protocol):
    """What answers, here or elsewhere."""

    @property
    def description(self) -> str: ...

    def stream(self, request: dict[str, Any]) -> Iterator[ChatChunk]: ...

    def close(self) -> None: ...


class Session:
    """A chat with one model.

    Args:
        shows_figures: show tokens and times after each answer.
    """

    def __init__(
        self, model: Model, conversation: Conversation, *, shows_figures: bool = False
    ) -> None:
        self._model = model
        self._commands = Commands(conversation)
        self._shows_figures = shows_figures
        self._last = Answer()

    def answer_once(self, text: str) -> None:
        """Answer one message, without a user to ask.

        Raises:
            GlmserveError: the answer failed.
            KeyboardInterrupt: it was stopped.
        """
        self._commands.conversation.ask(text)
        answer = self._answer()
        for call in answer.calls:
            print(json.dumps(call["function"], ensure_ascii=False))
        if answer.is_stopped:
            raise KeyboardInterrupt

    def talk(self, reader: LineReader) -> None:
        """Until the user ends it: by /exit, by Ctrl-D, or by Ctrl-C twice."""
        interrupts = 0
        while True:
            try:
                line = reader.read(PROMPT)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts == 2:
                    return
                notice("Ctrl-C once more, or Ctrl-D, ends the chat")
                continue
            interrupts = 0
            try:
                if self._ends_with(line, reader):
                    return
            except KeyboardInterrupt:  # a second one, while the first stopped the answer
                notice("(stopped)")

    def _ends_with(self, line: str, reader: LineReader) -> bool:
        """Carry out or answer a line. Returns whether it ends the chat."""
        if not line.strip():
            return False
        if line.startswith("/") and not line.startswith("//"):
            outcome = self._commands.run(line)
            if outcome.lines:
                notice(outcome.lines)
            if outcome.shows_figures:
                notice(self._last.figures())
            if outcome.answers:
                self._answer_turn(reader)
            return outcome.ends
        self._commands.conversation.ask(line.removeprefix("/") if line.startswith("//") else line)
        self._answer_turn(reader)
        return False

    def _answer_turn(self, reader: LineReader) -> None:
        """Answer the last message, and have the user answer the calls, until there are none."""
        conversation = self._commands.conversation
        begin = len(conversation.messages)
        try:
            while True:
                with reader.answering():
                    calls = self._answer().calls
                if not calls:
                    return
                if not self._answer_calls(reader):
                    del conversation.messages[begin - 1 :]
                    return
        except GlmserveError as error:
            del conversation.messages[begin - 1 :]
            notice(f"error: {error.message}")

    def _answer(self) -> Answer:
        """Show an answer and add it to the conversation.

        Raises:
            GlmserveError: it failed.
        """
        conversation = self._commands.conversation
        answer = self._last = Answer()
        try:
            answer.follow(self._model.stream(conversation.request()), show)
        finally:
            if answer.first is not None and not answer.calls:
                print(flush=True)
        message = answer.message
        if message is not None:
            conversation.messages.append(message)
        if answer.is_stopped:
            notice("(stopped)")
        if self._shows_figures:
            notice(answer.figures())
        return answer

    def _answer_calls(self, reader: LineReader) -> bool:
        """Ask the user for the result of each call; False: the user does not give one."""
        for call in self._last.calls:
            function = call["function"]
            notice(f"calls {function['name']}({function['arguments']}); what is the result?")
            try:
                result = reader.read("result> ")
            except (EOFError, KeyboardInterrupt):
                notice("the message is taken back")
                return False
            self._commands.conversation.messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": result}
            )
        return True
