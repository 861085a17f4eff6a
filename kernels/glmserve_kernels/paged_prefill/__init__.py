"""Attention of several new tokens per sequence over its paged cache, which holds their K and V
already."""
