"""xFasterTransformer: run_xft.py MODEL DTYPE."""

from __future__ import annotations

import sys

from job_loop import OnToken, run_jobs, take_standard_output


def main() -> None:
    answers = take_standard_output()
    import torch
    import xfastertransformer

    path, dtype = sys.argv[1:]
    model = xfastertransformer.AutoModel.from_pretrained(path, dtype=dtype, kv_cache_dtype="fp16")

    def generate(prompts: list[list[int]], output_tokens: int, on_token: OnToken) -> None:
        """As one batch, which is how this engine has them: all prompts have the same length."""
        model.config(max_length=len(prompts[0]) + output_tokens, eos_token_id=-1, pad_token_id=0)
        model.input(torch.tensor(prompts))
        while not model.is_done():
            model.forward()
            for index in range(len(prompts)):
                on_token(index)
        model.finalize()

    run_jobs(generate, answers)


if __name__ == "__main__":
    main()
