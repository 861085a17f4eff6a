"""Compiles structures for one tokenizer, each once, without ever stopping the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from llguidance import LLTokenizer

from glmserve.errors import InvalidRequestError, QueueFullError
from glmserve.text.structure.build import Opening, build_matcher, first_mask
from glmserve.text.structure.constraint import CompiledGrammar, CompiledStructure, Vocabulary
from glmserve.text.structure.grammar import GrammarText, grammar_text
from glmserve.text.structure.json_text import JsonGuard
from glmserve.text.structure.structures import Choice, Grammar, JsonObject, Regex, Structure
from glmserve.text.structure.trial import Setup, Trial
from glmserve.text.structure.trial_process import TrialProcess
from glmserve.text.structure.vocabulary import ll_tokenizer, packed_bits, text_tokens
from glmserve.text.token_bytes import LeadingBlanks
from glmserve.text.tokenizer import Tokenizer

CACHE_SIZE = 128
"""Compiled grammars that are kept: some 100 kB each, a few MB where automata have grown large."""

_MOST_AT_ONCE = 64
"""New structures that may wait for their trial, which are held one after another."""

_MAY_OPEN_WITH_SPACE = Choice | Regex | Grammar
"""Of the other structures whitespace at the beginning means nothing."""


@dataclass(frozen=True)
class _Tools:
    """What is made of the tokenizer on first use."""

    vocabulary: Vocabulary
    tokenizer: LLTokenizer
    opening: Opening
    process: TrialProcess


class StructureCompiler:
    """Structures in, constraints out. Everything is made on first use."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tools: asyncio.Task[_Tools] | None = None
        self._compiled: OrderedDict[GrammarText, asyncio.Task[CompiledGrammar]] = OrderedDict()
        self._compiling: set[asyncio.Task[CompiledGrammar]] = set()

    async def prepare(self) -> None:
        """Make now what the first structure would have to wait for.

        The interpreter is locked for 2 microseconds per token of the vocabulary meanwhile, so a
        server does this before it has streams.
        """
        await self.compile(JsonObject(), stop_ids=frozenset())

    async def compile(
        self,
        structure: Structure,
        *,
        stop_ids: frozenset[int],
        lead_in: str = "",
        param: str | None = None,
    ) -> CompiledStructure:
        """Compile a structure, or find it compiled.

        Args:
            stop_ids: what may end the text where the structure allows its end.
            lead_in: a regex of whitespace that may come before the structured text, where the
                chat format takes it away again; "" for none. Unused where the text may itself
                begin with whitespace, which must not be taken away with it.
            param: the request's field, for errors.

        Raises:
            InvalidRequestError: nothing fits the structure, or it cannot be honoured.
            QueueFullError: too many others are being compiled.
        """
        try:
            if lead_in and isinstance(structure, _MAY_OPEN_WITH_SPACE):
                grammar = await self._grammar(structure, "")
                lead_in = "" if grammar.may_open_with_space else lead_in
            grammar = await self._grammar(structure, lead_in)
        except InvalidRequestError as error:
            if param is None:
                raise
            raise InvalidRequestError.about(
                param, "{param}: {reason}", reason=error.message
            ) from None
        return CompiledStructure(grammar, stop_ids, bool(lead_in))

    async def close(self) -> None:
        """Give up what is being compiled, and end the helper process."""
        for task in self._compiling:
            task.cancel()
        await asyncio.gather(*self._compiling, return_exceptions=True)
        if self._tools is not None and not _has_failed(self._tools):
            await (await asyncio.shield(self._tools)).process.close()

    async def _grammar(self, structure: Structure, lead_in: str) -> CompiledGrammar:
        text = await asyncio.to_thread(grammar_text, structure, lead_in)
        task = self._compiled.get(text)
        if task is None or _is_useless(task):
            if len(self._compiling) >= _MOST_AT_ONCE:
                raise QueueFullError(
                    f"{_MOST_AT_ONCE} other structures wait to be compiled; try again later"
                )
            task = self._compiled[text] = asyncio.create_task(self._compile(text))
            self._compiling.add(task)
            task.add_done_callback(self._compiling.discard)
            if len(self._compiled) > CACHE_SIZE:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(text)
        # One of several that wait for it may leave.
        return await asyncio.shield(task)

    async def _compile(self, text: GrammarText) -> CompiledGrammar:
        tools = await self._shared_tools()
        after_blank = text.after_blank if tools.vocabulary.opens_with_blank else None
        await tools.process.check(Trial(text.plain, after_blank))
        return await asyncio.to_thread(_build, tools, text)

    async def _shared_tools(self) -> _Tools:
        if self._tools is None or _has_failed(self._tools):
            self._tools = asyncio.create_task(asyncio.to_thread(_make_tools, self._tokenizer))
        return await asyncio.shield(self._tools)


def _has_failed(task: asyncio.Task[_Tools] | asyncio.Task[CompiledGrammar]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _is_useless(task: asyncio.Task[CompiledGrammar]) -> bool:
    return _has_failed(task) or (task.done() and task.result().is_broken)


def _make_tools(tokenizer: Tokenizer) -> _Tools:
    tokens = text_tokens(tokenizer)
    opening = _opening_ids(tokenizer, tokens)
    # Where all opening blanks are dropped, the text has not begun after a lone one.
    drops_all = tokenizer.leading_blanks is LeadingBlanks.DROP_ALL
    lone = {i for i in opening if tokens[i] == b" "} if drops_all else set()
    masks = Opening(packed_bits(opening, len(tokens)), packed_bits(lone, len(tokens)))
    spaces = (i for i, data in enumerate(tokens) if data[i in opening :][:1].isspace())
    opens_with_space = int.from_bytes(packed_bits(spaces, len(tokens)), "little")
    return _Tools(
        Vocabulary(tokens, opening, opens_with_space, JsonGuard(tokens)),
        ll_tokenizer(tokens),
        masks,
        TrialProcess(Setup(tokens, masks)),
    )


def _opening_ids(tokenizer: Tokenizer, tokens: list[bytes]) -> frozenset[int]:
    if tokenizer.leading_blanks is LeadingBlanks.KEEP:
        return frozenset()
    return frozenset(
        token_id
        for token_id, piece in enumerate(tokens)
        if piece[:1] == b" " and tokenizer.opens_with_blank(token_id)
    )


def _build(tools: _Tools, text: GrammarText) -> CompiledGrammar:
    plain = build_matcher(tools.tokenizer, text.plain)
    opens = tools.vocabulary.opens_with_blank
    blank = build_matcher(tools.tokenizer, text.after_blank) if opens else None
    mask = first_mask(plain, blank, tools.opening)
    return CompiledGrammar(tools.vocabulary, plain, blank, mask, text.is_json)
