"""Attention whose result for a token depends, to the last bit, on nothing but the token and what it
sees: not on how many tokens are computed with it, nor on how they are batched."""
