"""One token per row of logits."""
