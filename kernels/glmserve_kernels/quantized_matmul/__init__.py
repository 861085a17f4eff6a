"""A matrix product with 8-bit or 4-bit weights."""
