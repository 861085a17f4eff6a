"""A norm, the product behind it, rotation, and the writing of keys and values into the cache."""
