"""--metrics-compat vllm: the same numbers under the names that others read."""

from __future__ import annotations

import re

from glmserve.config import ServerConfig
from support.fake_server import client_of, serve

BODY = {"prompt": "abc", "max_tokens": 5}
READ_BY_OTHERS = """
num_requests_running num_requests_waiting kv_cache_usage_perc prefix_cache_queries_total
prefix_cache_hits_total num_preemptions_total prompt_tokens_total generation_tokens_total
request_success_total time_to_first_token_seconds inter_token_latency_seconds
request_time_per_output_token_seconds e2e_request_latency_seconds request_queue_time_seconds
request_prefill_time_seconds request_decode_time_seconds request_prompt_tokens
request_generation_tokens cache_config_info
""".split()
"""Names in dashboards, routers and autoscalers made for vLLM, without the prefix."""


async def scrape(config: ServerConfig) -> str:
    async with serve(config=config) as app, client_of(app) as client:
        for _ in range(3):
            await client.post("/v1/completions", json=BODY)
        await client.get("/nowhere")
        await client.get("/v1/models/none")
        return (await client.get("/metrics")).text


async def test_every_name_that_others_read() -> None:
    text = await scrape(ServerConfig("fake", metrics_compat="vllm"))
    names = set(re.findall(r"^# TYPE vllm:(\w+) ", text, re.MULTILINE))
    assert set(READ_BY_OTHERS) <= names
    labels = '{engine="0",model_name="fake"}'
    assert f"vllm:generation_tokens_total{labels} 15.0" in text
    assert f"vllm:request_prompt_tokens_sum{labels} 9.0" in text
    success = '{engine="0",finished_reason="length",model_name="fake"}'
    assert f"vllm:request_success_total{success} 3.0" in text
    assert re.search(
        r'vllm:cache_config_info\{block_size="\d+",engine="0",.*num_gpu_blocks="', text
    )


async def test_statuses_are_counted_by_their_class() -> None:
    text = await scrape(ServerConfig("fake", metrics_compat="vllm"))
    found = sorted(re.findall(r"^http_requests_total(\{.*\}) (\S+)$", text, re.MULTILINE))
    assert found == [
        ('{handler="/v1/completions",method="POST",status="2xx"}', "3.0"),
        ('{handler="/v1/models/{model_id:path}",method="GET",status="4xx"}', "1.0"),
        ('{handler="other",method="GET",status="4xx"}', "1.0"),
    ]


async def test_they_are_left_out_by_default() -> None:
    text = await scrape(ServerConfig("fake"))
    assert "vllm" not in text
    assert "\nhttp_requests" not in text
