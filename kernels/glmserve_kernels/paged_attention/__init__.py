"""Shared parts of the attention kernels: reading a paged cache, one step of softmax over it, the
reference, and caches for the cases."""
