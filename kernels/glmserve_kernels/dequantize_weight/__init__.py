"""Dequantises a weight of 8-bit or 4-bit codes, for products with many rows."""
