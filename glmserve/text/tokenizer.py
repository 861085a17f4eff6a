"""The interface of tokenizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from glmserve.errors import InvalidRequestError
from glmserve.text.added_token_splitter import AddedTokenSplitter, PythonSplitter
from glmserve.text.added_tokens import AddedToken
from glmserve.text.byte_alphabet import spelled
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.token_bytes import LeadingBlanks, TokenBytes


class Tokenizer(ABC):
    """Converts text to token ids and back, for one checkpoint.

    A subclass defines the bytes of each id. Decoding is the same for all subclasses.
    """

    decode_errors: ClassVar[str] = "replace"
    """Error handler for invalid UTF-8; the reference implementations differ."""

    leading_blanks: LeadingBlanks = LeadingBlanks.KEEP

    def __init__(
        self,
        *,
        vocab_size: int,
        special_ids: Mapping[str, int],
        eos_id: int,
        prompt_prefix: Sequence[int] = (),
        prompt_suffix: Sequence[int] = (),
        never_sampled: frozenset[int] = frozenset(),
        added_tokens: Sequence[AddedToken] = (),
        splitter: type[AddedTokenSplitter] = PythonSplitter,
    ) -> None:
        """
        Args:
            vocab_size: ids of the vocabulary without the added tokens.
            added_tokens: what `check_additions` accepted.
            splitter: how added tokens are found in a text.
        """
        past_the_end = range(vocab_size, max((t.id for t in added_tokens), default=-1) + 1)
        added_ids = frozenset(token.id for token in added_tokens)
        special_ids = {**special_ids, **{t.content: t.id for t in added_tokens if t.special}}
        never_sampled = (never_sampled | frozenset(past_the_end)) - added_ids
        self.vocab_size = max(vocab_size, past_the_end.stop)
        """Ids in [0, vocab_size) can be decoded. The engine must not sample others."""
        self.special_ids: Mapping[str, int] = special_ids
        """Id by name of every token that is not a piece of text."""
        self.eos_id = eos_id
        self.never_sampled = never_sampled
        """Ids below vocab_size that must not be sampled: gaps and unused tokens."""
        self._prompt_prefix = list(prompt_prefix)
        self.prompt_suffix = list(prompt_suffix)
        """Ids at the end of every prompt; the model cannot read one without them."""
        self.added_texts = {t.id: t.content for t in added_tokens if not t.special}
        """Text by id of the added tokens that are ordinary text."""
        self._splitter = splitter(added_tokens) if self.added_texts else None
        self._num_pieces = vocab_size
        self._special_names = {token_id: name for name, token_id in special_ids.items()}
        self._with_specials = TokenBytes(self._named_bytes)
        self._without_specials = TokenBytes(self._text_bytes)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text. Names of special tokens in it are encoded as text; an added token
        that is not special becomes its id.

        Raises:
            InvalidRequestError: the text has a lone surrogate, or the tokenizer cannot encode it.
        """
        if not text.isascii():
            _check_no_surrogates(text)
        if self._splitter is None:
            return self._encode(text)
        ids = []
        for part, following in pairwise((*self._splitter.split(text), None)):
            if isinstance(part, AddedToken):
                ids.append(part.id)
            elif part is not None:
                ids += self._encode(part) if following is None else self._encode_before(part)
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids as from the reference tokenizer's `encode`, with [gMASK] and sop.

        Raises:
            InvalidRequestError: see `encode`.
        """
        return self.marked(self.encode(text))

    def marked(self, token_ids: Sequence[int]) -> list[int]:
        """The ids with the tokens that stand around every prompt, such as [gMASK] and sop."""
        return [*self._prompt_prefix, *token_ids, *self.prompt_suffix]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of a whole list of ids.

        Raises:
            InvalidRequestError: an id is outside the vocabulary.
        """
        detokenizer = IncrementalDetokenizer(self, skip_special_tokens)
        return detokenizer.push(token_ids) + detokenizer.flush()

    def token_bytes(self, token_id: int, skip_special_tokens: bool = True) -> bytes:
        """The bytes that an id adds to a text that has begun.

        Raises:
            InvalidRequestError: the id is outside the vocabulary.
        """
        return self.byte_table(skip_special_tokens)[token_id]

    def piece(self, token_id: int) -> str:
        """How the vocabulary writes a token: with SentencePiece's character for a blank, or in the
        alphabet of byte-level tokenizers. A special token has its name.

        Raises:
            InvalidRequestError: the id is outside the vocabulary.
        """
        self._text_bytes(token_id)  # checks the id
        name = self._special_names.get(token_id) or self.added_texts.get(token_id)
        if name is not None:
            return name
        return self._piece(token_id) if token_id < self._num_pieces else ""

    def byte_table(self, skip_special_tokens: bool) -> TokenBytes:
        """The table of `token_bytes`, for loops that index it directly."""
        return self._without_specials if skip_special_tokens else self._with_specials

    @property
    def segment_ends(self) -> frozenset[int]:
        """Ids after which a dummy blank follows, as at the beginning of a text.

        A SentencePiece model encodes the texts between added tokens one by one.
        """
        drops_one = self.leading_blanks is LeadingBlanks.DROP_ONE
        return frozenset(self.added_texts) if drops_one else frozenset()

    def opens_with_blank(self, token_id: int) -> bool:
        """Whether the piece begins with a blank to which `leading_blanks` applies."""
        return False

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Ids of text without lone surrogates."""

    def _encode_before(self, text: str) -> list[int]:
        """Like `_encode`, for text before an added token."""
        return self._encode(text)

    @abstractmethod
    def _piece_bytes(self, token_id: int) -> bytes:
        """Bytes of an id within the vocabulary that is neither special nor added."""

    def _piece(self, token_id: int) -> str:
        """The piece of an id within the vocabulary that is neither special nor added."""
        return spelled(self._piece_bytes(token_id))

    def _text_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise InvalidRequestError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size} tokens"
            )
        if token_id in self._special_names:
            return b""
        added = self.added_texts.get(token_id)
        if added is not None:
            return added.encode()
        return self._piece_bytes(token_id) if token_id < self._num_pieces else b""

    def _named_bytes(self, token_id: int) -> bytes:
        name = self._special_names.get(token_id)
        return self._text_bytes(token_id) if name is None else name.encode()


def _check_no_surrogates(text: str) -> None:
    """Refuse lone surrogates, which JSON can contain ("\\ud800") and no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"the text is not valid Unicode: character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}"
        ) from None
