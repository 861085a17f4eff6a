"""Penalties, biases and bans on single logits."""
