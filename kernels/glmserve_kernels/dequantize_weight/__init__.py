"""Writes a weight of 8-bit or 4-bit codes as numbers, for products of many rows."""
