"""transformers' `generate`, all prompts as one batch: run_transformers.py MODEL THREADS."""

from __future__ import annotations

import sys
from typing import Any

from job_loop import OnToken, run_jobs, take_standard_output


def main() -> None:
    answers = take_standard_output()
    import torch
    from transformers import GlmForCausalLM
    from transformers.generation.streamers import BaseStreamer

    path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = GlmForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()

    class Watch(BaseStreamer):
        """Gets the prompts first, and then a tensor of one new token each."""

        def __init__(self, count: int, on_token: OnToken) -> None:
            self.count, self.on_token, self.begun = count, on_token, False

        def put(self, value: Any) -> None:
            for index in range(self.count) if self.begun else ():
                self.on_token(index)
            self.begun = True

        def end(self) -> None:
            pass

    def generate(prompts: list[list[int]], output_tokens: int, on_token: OnToken) -> None:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=output_tokens,
                do_sample=False,
                streamer=Watch(len(prompts), on_token),
            )

    run_jobs(generate, answers)


if __name__ == "__main__":
    main()
