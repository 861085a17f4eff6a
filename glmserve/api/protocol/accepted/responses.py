"""Fields of responses that have no effect; those in `generation.py` belong to it as well."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

RESPONSES = table(
    hint("client_metadata", "Codex CLI", "Notes of the client about its session.", dict),
)
