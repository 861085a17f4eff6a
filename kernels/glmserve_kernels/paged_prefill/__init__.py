"""Attention of several new tokens per sequence over its paged cache, in which they are already."""
