"""Finds the weights of a row that top_k and top_p keep: parts of kernels."""
