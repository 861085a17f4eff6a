"""Which of a row's weights top_k and top_p keep: parts of kernels."""
