"""Anthropic's Messages API: a conversation in, one message out."""
