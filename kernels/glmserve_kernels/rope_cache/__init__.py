"""Rotary position embedding, and the writing of keys and values into the paged cache."""
