"""The tokenizer of ChatGLM2, ChatGLM3 and CodeGeeX2: a SentencePiece model and special ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_whole
from glmserve.text.added_tokens import AddedToken, check_additions, read_added_tokens
from glmserve.text.token_bytes import ONE_PER_BYTE, LeadingBlanks
from glmserve.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

BLANK = "\u2581"
"""SentencePiece's character for a blank within a piece."""

_SPECIAL_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")


class SentencePieceBase(Tokenizer):
    """The decoding rules of all SentencePiece tokenizers of the family."""

    decode_errors = ONE_PER_BYTE

    def __init__(
        self,
        processor: SentencePieceProcessor,
        *,
        vocab_size: int,
        special_ids: Mapping[str, int],
        eos_id: int,
        prompt_prefix: tuple[int, ...] = (),
        prompt_suffix: tuple[int, ...] = (),
        never_sampled: frozenset[int] = frozenset(),
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            special_ids=special_ids,
            eos_id=eos_id,
            prompt_prefix=prompt_prefix,
            prompt_suffix=prompt_suffix,
            never_sampled=never_sampled,
            added_tokens=added_tokens,
        )
        self._processor = processor
        self.leading_blanks = _leading_blanks(processor)

    def opens_with_blank(self, token_id: int) -> bool:
        if token_id >= self._processor.get_piece_size():
            return False
        if token_id in self.added_texts:
            return False
        return bool(self._processor.id_to_piece(token_id).startswith(BLANK))

    def _encode(self, text: str) -> list[int]:
        return list(self._processor.encode(text))

    def _piece(self, token_id: int) -> str:
        return str(self._processor.id_to_piece(token_id))

    def _piece_bytes(self, token_id: int) -> bytes:
        return _bytes_of_piece(self._processor, token_id)


class SentencePieceTokenizer(SentencePieceBase):
    """Ids are the pieces, then [MASK] [gMASK] [sMASK] sop eop, then for ChatGLM3 the four roles,
    then the checkpoint's added tokens.

    The numbering follows the publisher's code. ChatGLM2 and ChatGLM3 ship the same model file, so
    only the checkpoint's name tells whether there are roles.
    """

    @classmethod
    def from_file(cls, path: Path, *, roles: bool) -> SentencePieceTokenizer:
        """Read a `tokenizer.model`.

        Args:
            roles: whether there are ChatGLM3's role tokens.

        Raises:
            CheckpointError: it is not a complete SentencePiece model.
        """
        processor = load_processor(path)
        num_pieces = processor.get_piece_size()
        if processor.eos_id() < 0:
            raise CheckpointError(f"{path}: the SentencePiece model has no end token")
        names = (*_SPECIAL_TOKENS, *_ROLE_TOKENS) if roles else _SPECIAL_TOKENS
        special_ids = control_ids(path, processor)
        special_ids |= {name: num_pieces + index for index, name in enumerate(names)}
        return cls(
            processor,
            vocab_size=num_pieces + len(names),
            special_ids=special_ids,
            eos_id=processor.eos_id(),
            prompt_prefix=(special_ids["[gMASK]"], special_ids["sop"]),
            added_tokens=additions(path.parent, processor, special_ids),
        )


def load_processor(path: Path) -> SentencePieceProcessor:
    """Load a SentencePiece model from its file. sentencepiece is imported only here.

    Raises:
        CheckpointError: the file cannot be read or is not a complete model.
    """
    from sentencepiece import SentencePieceProcessor

    data = read_whole(path)
    try:
        processor = SentencePieceProcessor(model_proto=data) if data else None
    except (RuntimeError, UnicodeDecodeError):  # the latter: its message quotes bytes
        processor = None
    if processor is None:
        raise CheckpointError(
            f"{path}: not a complete SentencePiece model ({len(data)} bytes); download it again"
        )
    return processor


def control_ids(path: Path, processor: SentencePieceProcessor) -> dict[str, int]:
    """Id by name of the model's pieces without text, such as <unk> and </s>.

    Raises:
        CheckpointError: the file is damaged: a piece is not valid UTF-8.
    """
    try:
        names = processor.id_to_piece(list(range(processor.get_piece_size())))
        return {
            name: token_id
            for token_id, name in enumerate(names)
            if processor.is_control(token_id) or processor.is_unknown(token_id)
        }
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: damaged SentencePiece model; download it again") from None


def additions(
    directory: Path, processor: SentencePieceProcessor, special_ids: Mapping[str, int]
) -> list[AddedToken]:
    """The checkpoint's added tokens, besides the family's special tokens.

    Raises:
        CheckpointError: a file is malformed, or a token's id is another token's.
    """

    def piece(token_id: int) -> bytes | None:
        known = token_id < processor.get_piece_size()
        return _bytes_of_piece(processor, token_id) if known else None

    return check_additions(directory, read_added_tokens(directory), special_ids, piece)


def _bytes_of_piece(processor: SentencePieceProcessor, token_id: int) -> bytes:
    piece: str = processor.id_to_piece(token_id)
    if processor.is_byte(token_id):
        return bytes([int(piece[3:5], 16)])  # written <0xE4>
    return piece.replace(BLANK, " ").encode()


def _leading_blanks(processor: SentencePieceProcessor) -> LeadingBlanks:
    """Find the rule by decoding blanks, because the model's normaliser settings are not exposed."""
    blank = processor.piece_to_id(BLANK)
    if processor.is_unknown(blank) or processor.decode([blank]) == " ":
        return LeadingBlanks.KEEP
    if processor.decode([blank, blank]) == " ":
        return LeadingBlanks.DROP_ONE
    return LeadingBlanks.DROP_ALL
