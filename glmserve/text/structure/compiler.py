"""Compiles and caches structures for one tokenizer, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

from llguidance import LLTokenizer

from glmserve.errors import InvalidRequestError, QueueFullError
from glmserve.text.structure.build import FirstTokens, build_matcher, first_mask
from glmserve.text.structure.constraint import CompiledGrammar, CompiledStructure, Vocabulary
from glmserve.text.structure.grammar import GrammarText, grammar_text
from glmserve.text.structure.json_text import JsonGuard
from glmserve.text.structure.refusal import about_tool, matches_nothing, named_part, schemas_of
from glmserve.text.structure.sandbox import CompileRequest, Setup
from glmserve.text.structure.sandbox_process import SandboxProcess
from glmserve.text.structure.schema.leniency import LEFT_OUT
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.structures import (
    Choice,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    Structure,
)
from glmserve.text.structure.vocabulary import ll_tokenizer, packed_bits, text_tokens
from glmserve.text.token_bytes import LeadingBlanks
from glmserve.text.tokenizer import Tokenizer

CACHE_SIZE = 128
"""Number of cached grammars: about 100 kB each, a few MB if their automata are large."""

_MAX_COMPILING = 64
"""Maximum number of structures that wait to be compiled. The sandbox compiles one at a time."""

_MAY_OPEN_WITH_SPACE = Choice | Regex | Grammar
"""Structures in which whitespace at the beginning is significant."""


@dataclass(frozen=True)
class _TokenizerData:
    """Data derived from the tokenizer, and the sandbox for it."""

    vocabulary: Vocabulary
    tokenizer: LLTokenizer
    opening: FirstTokens
    sandbox: SandboxProcess


class StructureCompiler:
    """Compiles structures to constraints. Derived data and the sandbox are created on first use."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer_data: asyncio.Task[_TokenizerData] | None = None
        self._compiled: OrderedDict[GrammarText, asyncio.Task[CompiledGrammar]] = OrderedDict()
        self._compiling: set[asyncio.Task[CompiledGrammar]] = set()

    async def prepare(self) -> None:
        """Create everything that the first structure needs.

        This holds the interpreter lock for 2 microseconds per token of the vocabulary, so a server
        does it before it has streams.
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
        """Compile a structure, or take it from the cache.

        Args:
            stop_ids: token ids that may end the text where the structure may end.
            lead_in: a regex of whitespace before the structured text, which the chat format
                removes; "" for none. It is ignored if the text itself may begin with whitespace,
                which would be removed with it.
            param: the request's field, for errors.

        Raises:
            InvalidRequestError: no text matches the structure, or it cannot be honoured.
            QueueFullError: too many structures are being compiled.
        """
        opens_with_space = False
        try:
            if lead_in and isinstance(structure, _MAY_OPEN_WITH_SPACE):
                grammar, _ = await self._grammar(structure, "")
                opens_with_space = grammar.may_open_with_space
                lead_in = "" if opens_with_space else lead_in
            grammar, dropped = await self._grammar(structure, lead_in)
        except InvalidRequestError as refusal:
            error = await self._explained(structure, refusal)
            if param is None or error.param is not None:
                raise error from None
            raise InvalidRequestError.about(
                param, "{param}: {reason}", reason=error.message
            ) from None
        return CompiledStructure(grammar, stop_ids, bool(lead_in), dropped, opens_with_space)

    async def close(self) -> None:
        """Cancel running compilations, and end the sandbox."""
        for task in self._compiling:
            task.cancel()
        await asyncio.gather(*self._compiling, return_exceptions=True)
        if self._tokenizer_data is not None and not _has_failed(self._tokenizer_data):
            await (await asyncio.shield(self._tokenizer_data)).sandbox.close()

    async def _grammar(
        self, structure: Structure, lead_in: str
    ) -> tuple[CompiledGrammar, tuple[str, ...]]:
        """Compile the structure, or if that fails, what is left of it without some keywords.

        Returns:
            The grammar, and the keywords that it leaves out.
        """
        first_error: InvalidRequestError | None = None
        last_text, is_empty = "", False
        for left_out in LEFT_OUT:
            text = await asyncio.to_thread(grammar_text, structure, lead_in, left_out)
            if is_empty and (text.plain == last_text or left_out != LEFT_OUT[1]):
                break  # a schema that contradicts itself is an error, not too much for a grammar
            if text.plain == last_text:
                continue
            last_text = text.plain
            try:
                return await self._compiled_text(text), text.dropped
            except InvalidRequestError as error:
                first_error = first_error or error
                is_empty = matches_nothing(error)
        assert first_error is not None
        raise first_error

    async def _explained(
        self, structure: Structure, error: InvalidRequestError
    ) -> InvalidRequestError:
        """The error of a refused structure, which names the part of a schema that is the reason."""
        if not matches_nothing(error):
            return error
        # What is refused before rewritten keywords are left out is refused with them.
        left_out = LEFT_OUT[0] if isinstance(error, SchemaError) else LEFT_OUT[1]
        for schema, name in schemas_of(structure):

            async def attempt(part: str, whole: JsonSchema = schema) -> InvalidRequestError | None:
                return await self._refusal(replace(whole, part=part), left_out)

            own = error if isinstance(structure, JsonSchema) else await attempt("")
            if own is not None:
                named = await named_part(schema.schema, own, attempt)
                return about_tool(name, named) if name and named is not own else named
        return error

    async def _refusal(
        self, structure: JsonSchema, left_out: frozenset[str]
    ) -> InvalidRequestError | None:
        """Why the part of a schema is refused; None if it is not."""
        try:
            text = await asyncio.to_thread(grammar_text, structure, "", left_out)
            data = await self._shared_tokenizer_data()
            await data.sandbox.check(CompileRequest(text.plain, None))
        except InvalidRequestError as error:
            return error
        return None

    async def _compiled_text(self, text: GrammarText) -> CompiledGrammar:
        task = self._compiled.get(text)
        if task is None or _must_recompile(task):
            if len(self._compiling) >= _MAX_COMPILING:
                raise QueueFullError(
                    f"{_MAX_COMPILING} other structures wait to be compiled; try again later"
                )
            task = self._compiled[text] = asyncio.create_task(self._compile(text))
            self._compiling.add(task)
            task.add_done_callback(self._compiling.discard)
            if len(self._compiled) > CACHE_SIZE:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(text)
        # Shielded: several callers may wait for the task, and one of them may be cancelled.
        return await asyncio.shield(task)

    async def _compile(self, text: GrammarText) -> CompiledGrammar:
        data = await self._shared_tokenizer_data()
        after_space = text.after_space if data.vocabulary.opens_with_blank else None
        await data.sandbox.check(CompileRequest(text.plain, after_space))
        return await asyncio.to_thread(_build, data, text)

    async def _shared_tokenizer_data(self) -> _TokenizerData:
        if self._tokenizer_data is None or _has_failed(self._tokenizer_data):
            self._tokenizer_data = asyncio.create_task(
                asyncio.to_thread(_make_tokenizer_data, self._tokenizer)
            )
        return await asyncio.shield(self._tokenizer_data)


def _has_failed(task: asyncio.Task[_TokenizerData] | asyncio.Task[CompiledGrammar]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _must_recompile(task: asyncio.Task[CompiledGrammar]) -> bool:
    return _has_failed(task) or (task.done() and task.result().is_broken)


def _make_tokenizer_data(tokenizer: Tokenizer) -> _TokenizerData:
    tokens = text_tokens(tokenizer)
    opening = _opening_ids(tokenizer, tokens)
    # If all leading blanks are dropped, a token that is one blank does not begin the text.
    drops_all = tokenizer.leading_blanks is LeadingBlanks.DROP_ALL
    lone = {i for i in opening if tokens[i] == b" "} if drops_all else set()
    masks = FirstTokens(packed_bits(opening, len(tokens)), packed_bits(lone, len(tokens)))
    spaces = (i for i, data in enumerate(tokens) if data[i in opening :][:1].isspace())
    opens_with_space = int.from_bytes(packed_bits(spaces, len(tokens)), "little")
    return _TokenizerData(
        Vocabulary(tokens, opening, opens_with_space, JsonGuard(tokens)),
        ll_tokenizer(tokens),
        masks,
        SandboxProcess(Setup(tokens, masks)),
    )


def _opening_ids(tokenizer: Tokenizer, tokens: list[bytes]) -> frozenset[int]:
    if tokenizer.leading_blanks is LeadingBlanks.KEEP:
        return frozenset()
    return frozenset(
        token_id
        for token_id, piece in enumerate(tokens)
        if piece[:1] == b" " and tokenizer.opens_with_blank(token_id)
    )


def _build(data: _TokenizerData, text: GrammarText) -> CompiledGrammar:
    plain = build_matcher(data.tokenizer, text.plain)
    opens = data.vocabulary.opens_with_blank
    blank = build_matcher(data.tokenizer, text.after_space) if opens else None
    mask = first_mask(plain, blank, data.opening)
    return CompiledGrammar(data.vocabulary, plain, blank, mask, text.json, text.unique)
