"""Executes StepInputs: batches, the KV cache, sampling."""
