"""Attention backends: each owns a layout of the KV cache and attends over it."""
