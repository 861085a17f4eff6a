"""Text in and out of the models: tokenizers, chat formats, detokenizing, stop strings."""

from glmserve.text.chat_format import ChatFormat, ChatMessage
from glmserve.text.chat_format_selection import (
    CHAT_FORMATS,
    named_chat_format,
    read_name_hints,
    select_chat_format,
)
from glmserve.text.detokenizer import IncrementalDetokenizer
from glmserve.text.loader import load_tokenizer
from glmserve.text.response_filter import ResponseFilter
from glmserve.text.stop_strings import StopChecker
from glmserve.text.tokenizer import Tokenizer

__all__ = [
    "CHAT_FORMATS",
    "ChatFormat",
    "ChatMessage",
    "IncrementalDetokenizer",
    "ResponseFilter",
    "StopChecker",
    "Tokenizer",
    "load_tokenizer",
    "named_chat_format",
    "read_name_hints",
    "select_chat_format",
]
