"""A compiled structure, and the token constraint that it puts on each sequence.

With SentencePiece the leading blank of the first token is not part of the text. So a structure is
compiled twice: as it is, and after one blank. In the first mask, tokens that begin with the
tokenizer's blank have their bits from the second matcher, all others from the first. The first
token then decides which matcher follows the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llguidance import LLMatcher

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.after_thoughts import (
    AfterThoughts,
    Constraint,
    ThoughtMasks,
    ThoughtRules,
)
from glmserve.text.structure.json_text import JsonGuard, JsonText, JsonUse, UniqueStrings, tracked
from glmserve.text.structure.vocabulary import engine_mask


class ConstraintError(InvalidRequestError):
    """A structure became too complex during a response, or led to where no text can follow."""

    code = "structure_too_complex"


@dataclass(frozen=True)
class Vocabulary:
    """Data of a tokenizer for constraints."""

    tokens: Sequence[bytes]
    """Bytes of each id; empty if it must not be generated as text."""
    opens_with_blank: frozenset[int]
    """Ids that lose their first blank at the beginning of a text."""
    opens_with_space: int
    """Bit set of ids with whitespace at the beginning of a text."""
    guard: JsonGuard

    @property
    def size(self) -> int:
        return len(self.tokens)

    @cached_property
    def thoughts(self) -> ThoughtMasks:
        """Masks of tokens before the text."""
        return ThoughtMasks(self.tokens)


@dataclass
class CompiledGrammar:
    """Matchers at the beginning of a structure. Constraints copy them."""

    vocabulary: Vocabulary
    plain: LLMatcher
    after_space: LLMatcher | None
    """None if the tokenizer keeps leading blanks."""
    first_mask: bytes
    """In llguidance's layout: bit `vocabulary.size` is the end."""
    json: JsonUse
    unique: UniqueStrings
    """Arrays whose strings must differ."""
    is_broken: bool = field(default=False)
    """Set when a copy fails. The copies share a cache of limited size, so it must be compiled
    again."""

    @property
    def may_open_with_space(self) -> bool:
        """Whether the text may begin with whitespace."""
        return bool(int.from_bytes(self.first_mask, "little") & self.vocabulary.opens_with_space)


@dataclass(frozen=True)
class CompiledStructure:
    """A compiled structure and its stop tokens. Creates one constraint for each sequence."""

    grammar: CompiledGrammar
    stop_ids: frozenset[int]
    has_lead_in: bool
    """Whether whitespace may precede the text."""
    dropped: tuple[str, ...] = ()
    """Keywords of schemas that are left out; see `keyword_name`."""
    may_open_with_space: bool = False
    """Whitespace at the beginning of the text is significant."""
    thoughts: ThoughtRules | None = None
    """Not None: thoughts come before the text, and have no structure."""

    def constraint(self) -> Constraint:
        """A new constraint at the beginning. This is cheap."""
        if self.thoughts is None:
            return MatcherConstraint(self)
        inner = MatcherConstraint(self, is_first=False)
        return AfterThoughts(inner, self.grammar.vocabulary.thoughts, self.thoughts)


class MatcherConstraint:
    """A TokenConstraint. `allowed` releases the interpreter while llguidance computes.

    Args:
        is_first: the text is the beginning of what is generated.
    """

    __slots__ = ("_beginning", "_grammar", "_matcher", "_stop_ids", "_text")

    def __init__(self, structure: CompiledStructure, *, is_first: bool = True) -> None:
        self._grammar = structure.grammar
        self._stop_ids = structure.stop_ids
        self._matcher: LLMatcher | None = None if is_first else self._grammar.plain.deep_copy()
        """None before the first token of all."""
        self._beginning = b""
        """The text up to its first character that is no space."""
        self._text: JsonText | None = None
        """None before that character, and for text that is not JSON."""

    @property
    def is_finished(self) -> bool:
        """Whether only the end can follow."""
        matcher = self._matcher
        # A failed matcher is stopped, too; `allowed` raises its error.
        return matcher is not None and matcher.is_stopped() and not matcher.is_error()

    def allowed(self) -> bytes:
        """The mask of the next token: one bit per id. Stop ids are set if the text may end.

        Raises:
            ConstraintError: the grammar exceeded a limit, or no token can continue the text.
        """
        grammar = self._grammar
        if self._matcher is None:
            mask = grammar.first_mask
        else:
            mask = self._matcher.compute_bitmask()
            if self._matcher.is_error() or mask.count(0) == len(mask):
                grammar.is_broken = True
                raise ConstraintError("the structure of the response became too complex to follow")
            if self._text is not None:
                mask = grammar.vocabulary.guard.restrict(mask, self._text)
                if mask.count(0) == len(mask):
                    raise ConstraintError("no other item can follow in an array of different ones")
        allowed = engine_mask(mask, grammar.vocabulary.size, self._stop_ids)
        if allowed.count(0) == len(allowed):
            raise ConstraintError("only tokens that end the response can continue its structure")
        return allowed

    def accept(self, token_id: int) -> None:
        """Advance by a sampled token. Stop ids are ignored."""
        if token_id in self._stop_ids:
            return
        vocabulary = self._grammar.vocabulary
        if self._matcher is None:
            opens = token_id in vocabulary.opens_with_blank
            matcher = self._grammar.after_space if opens else None
            self._matcher = (matcher or self._grammar.plain).deep_copy()
        self._matcher.consume_token(token_id)
        data = vocabulary.tokens[token_id]
        if self._text is not None:
            self._text.push(data)
        elif not self._beginning.strip():
            self._beginning += data
            if data.strip():
                self._text = tracked(self._grammar.json, self._beginning, self._grammar.unique)
