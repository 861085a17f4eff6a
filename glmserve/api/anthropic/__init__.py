"""Anthropic's Messages API."""

from glmserve.api.anthropic.errors import AnthropicErrorsMiddleware
from glmserve.api.anthropic.handlers import count_tokens, create_message

__all__ = ["AnthropicErrorsMiddleware", "count_tokens", "create_message"]
