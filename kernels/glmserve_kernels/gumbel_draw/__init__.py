"""Draws by counter-based Gumbel noise: parts of kernels."""
