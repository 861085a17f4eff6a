"""Rewrites JSON schemas so that the grammar engine enforces them."""
