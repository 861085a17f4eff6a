"""Draws of tokens from logits, in numpy: the reference for the kernels."""
