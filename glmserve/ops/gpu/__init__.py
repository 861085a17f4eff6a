"""The operations of GPUs in Triton, and which of them a model gets. Only `select_ops` loads without
triton."""
