"""The tokenizer's own routes, in the shapes that vLLM gave them."""
