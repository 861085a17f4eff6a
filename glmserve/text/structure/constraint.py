"""A compiled structure, and the constraint it puts on each sequence.

The first token is special with SentencePiece: its opening blank is not part of the text. So a
structure is compiled twice, as it is and behind one blank. The first mask takes the bits of tokens
that open with the tokenizer's blank from the second, all others from the first; the first token
then decides which of the two follows the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llguidance import LLMatcher

from glmserve.errors import GlmserveError
from glmserve.text.structure.json_text import JsonGuard, JsonText
from glmserve.text.structure.vocabulary import engine_mask


class ConstraintError(GlmserveError):
    """A structure turned out too complex in the middle of a response."""

    code = "structure_too_complex"


@dataclass(frozen=True)
class Vocabulary:
    """What constraints need of a tokenizer."""

    tokens: Sequence[bytes]
    """Bytes of each id; empty where it is no text."""
    opens_with_blank: frozenset[int]
    """Ids whose first blank is dropped at the beginning of a text."""
    opens_with_space: int
    """Bits of the ids whose text, at its beginning, begins with whitespace."""
    guard: JsonGuard

    @property
    def size(self) -> int:
        return len(self.tokens)


@dataclass
class CompiledGrammar:
    """Matchers of a structure at its beginning; only ever copied."""

    vocabulary: Vocabulary
    plain: LLMatcher
    after_blank: LLMatcher | None
    """None where the tokenizer keeps its blanks."""
    first_mask: bytes
    """As llguidance has it, with the end in bit `vocabulary.size`."""
    is_json: bool
    is_broken: bool = field(default=False)
    """Set once a copy has failed: they share a cache of limited size. Compile it again."""

    @property
    def may_open_with_space(self) -> bool:
        """Whether the text may begin with whitespace."""
        return bool(int.from_bytes(self.first_mask, "little") & self.vocabulary.opens_with_space)


@dataclass(frozen=True)
class CompiledStructure:
    """A structure and what may end it; gives out constraints, each for one sequence."""

    grammar: CompiledGrammar
    stop_ids: frozenset[int]
    has_lead_in: bool
    """Whether whitespace in front of the text is not part of it."""

    def constraint(self) -> MatcherConstraint:
        """A new constraint, at its beginning. Cheap."""
        return MatcherConstraint(self)


class MatcherConstraint:
    """A TokenConstraint. `allowed` releases the interpreter while llguidance computes."""

    __slots__ = ("_grammar", "_matcher", "_stop_ids", "_text")

    def __init__(self, structure: CompiledStructure) -> None:
        self._grammar = structure.grammar
        self._stop_ids = structure.stop_ids
        self._matcher: LLMatcher | None = None
        """None before the first token."""
        self._text = JsonText() if structure.grammar.is_json else None

    @property
    def is_finished(self) -> bool:
        """Whether nothing but the end can follow."""
        matcher = self._matcher
        # A matcher that has failed counts as stopped, too; `allowed` will raise its error.
        return matcher is not None and matcher.is_stopped() and not matcher.is_error()

    def allowed(self) -> bytes:
        """The mask of the next token, packed bits; stop ids are set where the text may end.

        Raises:
            ConstraintError: the grammar has run into a limit, or no token can spell what follows.
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
        return engine_mask(mask, grammar.vocabulary.size, self._stop_ids)

    def accept(self, token_id: int) -> None:
        """Take note of the token that was chosen; nothing happens with a stop id."""
        if token_id in self._stop_ids:
            return
        vocabulary = self._grammar.vocabulary
        if self._matcher is None:
            opens = token_id in vocabulary.opens_with_blank
            matcher = self._grammar.after_blank if opens else None
            self._matcher = (matcher or self._grammar.plain).deep_copy()
        self._matcher.consume_token(token_id)
        if self._text is not None:
            self._text.push(vocabulary.tokens[token_id])
