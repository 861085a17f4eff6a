"""The most likely allowed token of each row of logits."""
