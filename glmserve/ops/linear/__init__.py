"""Quantised linear weights, and the products with them."""
