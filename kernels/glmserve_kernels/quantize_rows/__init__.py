"""Activations in float8_e4m3fn, for products in that format."""
