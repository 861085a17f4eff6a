"""Batch-invariant attention: the bits of a token's result depend only on the token and the
positions that it attends to, not on the other tokens of the step."""
