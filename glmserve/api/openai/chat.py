"""POST /v1/chat/completions"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.answer_reader import ChatAnswer
from glmserve.api.answering.chat_generation import (
    ChatDelta,
    ChatGeneration,
    start_chat,
)
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.failure import failure_of, openai_error
from glmserve.api.answering.generation import ChoiceDelta, WholeText
from glmserve.api.answering.sse import DONE, encode_json, event
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.usage import Usage
from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.chat_objects import (
    AssistantMessageObject,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Function,
    FunctionDelta,
    MessageDelta,
    ToolCallDelta,
    ToolCallObject,
)
from glmserve.api.openai.logprobs import ChatLogprobs
from glmserve.api.openai.prompt_logprobs import PromptLogprobs, prompt_logprobs_of
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.protocol.tools import left_out
from glmserve.errors import GlmserveError
from glmserve.text.thoughts import AnswerEvent, ThoughtDelta
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta


class ChatEndpoint(Endpoint[ChatCompletionRequest]):
    """Answers the last message of a conversation, streamed or whole."""

    path = "/v1/chat/completions"
    request_type = ChatCompletionRequest
    is_cacheable = True

    async def start(
        self, server: ServerContext, request: ChatCompletionRequest, answer: AnswerContext
    ) -> ChatWriter:
        if request.tools:
            server.left_out_tools.note(left_out(request.tools), answer)
        return ChatWriter(server.tokenizer, request, await start_chat(server, request, answer))


def _service_tier(chat: ChatCompletionRequest) -> Literal["default"] | UnsetType:
    """There is one tier; a request that names a tier is told its name."""
    return "default" if "service_tier" in chat.model_fields_set else UNSET


class ChatWriter:
    """Writes one answer; its objects share id, time and model.

    Args:
        tokenizer: spells the tokens of log-probabilities.
        others: requests with other messages that are answered together with `chat`, by one choice
            each.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        chat: ChatCompletionRequest,
        answering: ChatGeneration,
        others: Sequence[ChatCompletionRequest] = (),
    ) -> None:
        self.generation = answering.generation
        self._tokenizer = tokenizer
        self._chat = chat
        self._answering = answering
        self._identity = answering.generation.identity
        self._head: dict[str, Any] = {
            "id": self._identity.new_id("chatcmpl-"),
            "created": self._identity.created,
            "model": chat.model,
            "service_tier": _service_tier(chat),
        }
        has_extras = chat.logprobs or chat.return_token_ids or chat.continuous_usage
        self._is_plain = not (has_extras or answering.may_call or answering.reasons)
        chats = [*[chat] * chat.n, *others]
        """Of each choice."""
        self._has_role = [False] * len(chats)
        self._frames: list[tuple[bytes, bytes]] = []
        """Of each choice of a stream of plain text a content event cut at its text: the rest is the
        same for every token."""
        self._echoed = [one.begun_answer if one.echo else "" for one in chats]
        self._logprobs = [
            ChatLogprobs(
                tokenizer,
                continues_text=bool(one.begun_answer),
                lists_chosen=bool(chat.logprob_token_ids),
                as_token_ids=chat.return_tokens_as_token_ids,
            )
            if chat.logprobs and tokenizer
            else None
            for one in chats
        ]

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The answer as one JSON body."""
        return await run_in_thread_if_large(
            lambda: encode_json(self._completion(texts)), self._answering.reading_size(texts)
        )

    def _completion(self, texts: Sequence[WholeText]) -> ChatCompletion:
        answers = self._answering.read_whole(texts)
        return ChatCompletion(
            **self._head,
            choices=[self._choice(index, answer) for index, answer in enumerate(answers)],
            usage=self._answering.usage(),
            prompt_token_ids=self._only_prompt() if self._chat.return_token_ids else None,
            prompt_logprobs=self._prompt_logprobs(),
        )

    def _choice(self, index: int, answer: ChatAnswer) -> ChatChoice:
        identity = self._identity
        calls = [ToolCallObject(identity.new_call_id(), Function(*call)) for call in answer.calls]
        content = self._echoed[index] + answer.content
        message = AssistantMessageObject(
            content=content or (None if calls else ""),
            reasoning_content=(answer.thoughts or None) if self._answering.reasons else UNSET,
            tool_calls=calls or UNSET,
        )
        writer = self._logprobs[index]
        logprobs = writer.push(answer.scored) if writer is not None else None
        token_ids = answer.token_ids if self._chat.return_token_ids else None
        return ChatChoice(index, message, logprobs, answer.finish_reason, token_ids)

    def _prompt_logprobs(self) -> PromptLogprobs | None:
        if self._chat.prompt_logprobs is None:
            return None
        return prompt_logprobs_of(
            self.generation.choices[0].request,
            self._tokenizer,
            self._chat.prompt_logprobs,
            as_token_ids=self._chat.return_tokens_as_token_ids,
        )

    def _only_prompt(self) -> list[int] | None:
        return self._prompt_ids if len(self.generation.groups) == 1 else None

    @property
    def _prompt_ids(self) -> list[int]:
        return self.generation.choices[0].request.prompt_ids

    def failure(self, error: GlmserveError) -> list[bytes]:
        """The last event of a stream that has failed."""
        return [event(openai_error(failure_of(error)))]

    def opening(self) -> Iterator[bytes]:
        """Each choice's role, and the text that it echoes.

        If a call may follow, the role waits for the first content or call.
        """
        if self._is_plain:
            self._frames = self._new_frames()
        if any(self._echoed) or not self._answering.may_call:
            for index, echoed in enumerate(self._echoed):
                message = self._with_role(index, MessageDelta(content=echoed))
                yield self._choice_event(ChunkChoice(index, message))

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """The events that follow from new deltas."""
        if self._is_plain:
            return self._plain_events(deltas)
        read = map(self._answering.read, deltas)
        return [data for delta in read for data in self._events_of(delta)]

    def closing(self) -> Iterator[bytes]:
        """The counts of tokens, if the request asks for them, and the mark of the end."""
        if self._chat.include_usage:
            usage = self._answering.usage()
            yield event(ChatChunk(**self._head, choices=[], usage=usage))
        yield DONE

    def _plain_events(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """Nothing but text, as in most streams: written as fast as can be."""
        events = []
        for index, delta in deltas:
            if delta is None:
                reason = self.generation.choices[index].finish_reason
                last = ChunkChoice(index, MessageDelta(), finish_reason=reason)
                events.append(self._choice_event(last))
            elif delta.text:
                before, after = self._frames[index]
                events.append(before + encode_json(delta.text) + after)
        return events

    def _events_of(self, delta: ChatDelta) -> list[bytes]:
        """The events of one delta: one each for what it brings, and one for the end."""
        index = delta.number
        deltas = [_message_delta(item, self._identity) for item in delta.events]
        if not deltas and (delta.scored or (delta.token_ids and self._chat.return_token_ids)):
            deltas = [MessageDelta()]
        data = []
        logprobs = self._logprobs[index]
        for number, message in enumerate(deltas):
            choice = ChunkChoice(index, self._with_role(index, message))
            if number == 0:
                if logprobs is not None and delta.scored:
                    choice.logprobs = logprobs.push(delta.scored)
                if self._chat.return_token_ids:
                    choice.token_ids = delta.token_ids
            data.append(self._choice_event(choice))
        if delta.finish_reason is not None:
            last = self._with_role(index, MessageDelta())
            data.append(
                self._choice_event(ChunkChoice(index, last, finish_reason=delta.finish_reason))
            )
        return data

    def _with_role(self, index: int, message: MessageDelta) -> MessageDelta:
        """The message, with what only a choice's first chunk says."""
        if not self._has_role[index]:
            self._has_role[index] = True
            message.role = "assistant"
            message.refusal = None
            if message.content is UNSET:
                # A call has none, and as long as nothing is said a call may follow.
                message.content = None if self._answering.may_call else ""
        return message

    def _choice_event(self, choice: ChunkChoice) -> bytes:
        chunk = ChatChunk(**self._head, choices=[choice], usage=self._usage_so_far())
        if self._chat.return_token_ids and choice.delta.role is not UNSET:
            chunk.prompt_token_ids = self._prompt_ids
        return event(chunk)

    def _usage_so_far(self) -> Usage | UnsetType | None:
        """The counts that a chunk before the last one has."""
        if self._chat.continuous_usage:
            return self._answering.usage()
        return None if self._chat.include_usage else UNSET

    def _new_frames(self) -> list[tuple[bytes, bytes]]:
        frames = []
        for index in range(self._chat.n):
            chunk = self._choice_event(ChunkChoice(index, MessageDelta(content="\0")))
            before, after = chunk.split(rb'"\u0000"')
            frames.append((before, after))
        return frames


def _message_delta(item: AnswerEvent, identity: Identity) -> MessageDelta:
    match item:
        case ThoughtDelta(text):
            return MessageDelta(reasoning_content=text)
        case ContentDelta(text):
            return MessageDelta(content=text)
        case CallStarted(index, name):
            function = FunctionDelta("", name)
            return MessageDelta(
                tool_calls=[ToolCallDelta(index, function, identity.new_call_id(), "function")]
            )
        case ArgumentsDelta(index, text):
            return MessageDelta(tool_calls=[ToolCallDelta(index, FunctionDelta(text))])
