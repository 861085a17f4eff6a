"""The operations of CPUs: torch's, our own kernels', and which of them a model gets."""
