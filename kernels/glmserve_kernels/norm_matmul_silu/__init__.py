"""A norm, the product behind it, and the gated activation of that."""
