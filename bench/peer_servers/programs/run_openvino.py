"""OpenVINO GenAI's continuous batching: run_openvino.py MODEL THREADS CACHE_GB."""

from __future__ import annotations

import sys

from job_loop import OnToken, run_jobs, take_standard_output


def main() -> None:
    answers = take_standard_output()
    import numpy as np
    import openvino
    import openvino_genai as genai

    model, threads, cache_gb = sys.argv[1:]
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = int(cache_gb)
    scheduler.enable_prefix_caching = False
    scheduler.max_num_batched_tokens = 512
    properties = {
        "INFERENCE_NUM_THREADS": int(threads),
        "INFERENCE_PRECISION_HINT": "bf16",
        "KV_CACHE_PRECISION": "bf16",
    }
    pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)

    def generate(prompts: list[list[int]], output_tokens: int, on_token: OnToken) -> None:
        config = genai.GenerationConfig()
        config.max_new_tokens = output_tokens
        config.eos_token_id = 0  # without one it is refused
        config.stop_token_ids = {0}
        config.ignore_eos = True
        config.do_sample = False
        handles = [
            pipeline.add_request(index, openvino.Tensor(np.array([prompt], dtype=np.int64)), config)
            for index, prompt in enumerate(prompts)
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for index, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        for _ in output.generated_ids:
                            on_token(index)

    run_jobs(generate, answers)


if __name__ == "__main__":
    main()
