"""Fields of vLLM, SGLang, llama.cpp and Ollama about their engines and responses."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

_ROUTERS = "vllm-router, SGLang gateway"
_VLLM, _SGLANG, _LLAMA = "vLLM's clients", "SGLang's clients", "llama.cpp's clients"
_NO_BEAMS = "this server has no beam search; best_of of /v1/completions returns likely texts"
_NO_PARTS = "this server computes prompt and answer in one place"
_CACHED = "Keeps the prompt for later requests; every prompt is kept."
_SPEED = "Adds speeds to the response; /metrics has them."
_STRUCTURE = "Constrains the text."

BEAMS = table(
    neutral("use_beam_search", [False], _VLLM, "Searches for the most likely text.", _NO_BEAMS),
    neutral("length_penalty", [1], _VLLM, "Prefers long or short beams.", _NO_BEAMS),
    neutral(
        "early_stopping", [False], f"{_VLLM}, Hugging Face's", "Ends a beam search.", _NO_BEAMS
    ),
    neutral("num_beams", [1], "Hugging Face's clients", "The number of beams.", _NO_BEAMS),
)

VLLM = table(
    hint("request_id", f"{_VLLM}, ZhipuAI's SDKs", "Your id of the request.", str),
    hint("session_id", _VLLM, "Your id of the session.", str),
    hint("spaces_between_special_tokens", _VLLM, "Shows special tokens with blanks around.", bool),
    hint("guided_decoding_backend", _VLLM, "The engine of structured output; there is one.", str),
    hint("mm_processor_kwargs", _VLLM, "How to read pictures; there are none.", dict),
    hint("media_io_kwargs", _VLLM, "How to load pictures; there are none.", dict),
    hint("mm_payload", _VLLM, "How pictures are returned; there are none.", str),
    hint("return_mm_kwargs", _VLLM, "Whether pictures are returned; there are none.", bool),
    hint("return_token_offsets", _VLLM, "Places of tokens in the text; always null.", bool),
    hint("stream_interval", _VLLM, "The number of tokens in a chunk.", int),
    neutral("watermarking", [False], _VLLM, "Marks the text.", "this server marks no text"),
    neutral("logits_processors", [[]], _VLLM, "Code that changes logits.", "no code is run"),
    neutral("vllm_xargs", [{}], _VLLM, "Arguments of extensions.", "this server has no extensions"),
    neutral("kv_transfer_params", [{}], _VLLM, "Takes a KV cache from elsewhere.", _NO_PARTS),
    neutral("ec_transfer_params", [{}], _VLLM, "Takes encodings from elsewhere.", _NO_PARTS),
    neutral("return_weight_versions", [False], _VLLM, "Versions of weights.", "they never change"),
    neutral("routed_experts_prompt_start", [0], _VLLM, "Experts of tokens.", "there are none"),
    neutral("repetition_detection", [{}], _VLLM, "Ends repetitive text.", "use a penalty"),
    neutral("return_prompt_text", [False], _VLLM, "Adds the prompt.", "use /detokenize"),
    neutral("documents", [[]], _VLLM, "Texts to answer from.", "put them into a message"),
    neutral("guided_json_object", [False], _VLLM, _STRUCTURE, "send response_format json_object"),
    neutral("guided_whitespace_pattern", [""], _VLLM, _STRUCTURE, "whitespace is JSON's"),
)

SGLANG = table(
    neutral(
        "no_stop_trim",
        [False],
        _ROUTERS,
        "Keeps what ended the text.",
        "include_stop_str_in_output does this",
    ),
    neutral(
        "return_hidden_states",
        [False],
        _ROUTERS,
        "Adds hidden states to the response.",
        "/v1/embeddings has vectors of texts",
    ),
    neutral("return_routed_experts", [False], _SGLANG, "Experts of tokens.", "there are none"),
    neutral("return_meta_info", [False], _SGLANG, "Adds data of the engine.", "see /metrics"),
    neutral("lora_path", [""], _ROUTERS, "Uses an adapter.", "this server has one model"),
    neutral("regex", [""], _SGLANG, _STRUCTURE, "guided_regex does this"),
    neutral("ebnf", [""], _SGLANG, _STRUCTURE, "guided_grammar does this"),
    neutral("stop_regex", ["", []], _SGLANG, "Ends the text.", "stop has strings"),
    neutral("custom_params", [{}], _SGLANG, "Arguments of extensions.", "there are no extensions"),
    hint("session_params", _ROUTERS, "Goes on with a session; equal prompts are found.", dict),
    hint("rid", _SGLANG, "Your id of the request.", str, list),
    hint("data_parallel_rank", _SGLANG, "The replica to use; there is one.", int),
    hint("log_metrics", _SGLANG, "Whether the request is counted.", bool),
    hint("return_cached_tokens_details", _SGLANG, "Details of cached tokens.", bool),
)

LLAMA_CPP = table(
    hint("cache_prompt", _LLAMA, _CACHED, bool),
    hint("cache_reuse", _LLAMA, _CACHED, int),
    hint("n_cache_reuse", _LLAMA, _CACHED, int),
    hint("id_slot", _LLAMA, "The place of the KV cache to use.", int),
    hint("slot_id", _LLAMA, "The place of the KV cache to use.", int),
    hint("n_keep", _LLAMA, "Tokens to keep when the context is shifted; it never is.", int),
    hint("n_discard", _LLAMA, "Tokens to discard when the context is shifted.", int),
    hint("timings_per_token", _LLAMA, _SPEED, bool),
    hint("return_progress", _LLAMA, "Reports on reading the prompt.", bool),
    hint("sse_ping_interval", _LLAMA, "Comments in a silent stream.", int),
    hint("verbose", _LLAMA, "Adds settings to the response.", bool),
    hint("parse_tool_calls", _LLAMA, "Finds calls in the text; this is always done.", bool),
    hint("keep_alive", "Ollama's clients", "How long the model stays loaded; always.", str, float),
    neutral("n_probs", [0], _LLAMA, "Adds probabilities.", "logprobs does this"),
    neutral("post_sampling_probs", [False], _LLAMA, "Adds probabilities.", "use logprobs"),
    neutral("t_max_predict_ms", [0, -1], _LLAMA, "Ends the text in time.", "use max_tokens"),
    neutral("grammar", [""], _LLAMA, _STRUCTURE, "guided_grammar does this"),
    neutral("grammar_lazy", [False], _LLAMA, _STRUCTURE, "tools do this"),
    neutral("json_schema", [{}, ""], f"{_LLAMA}, {_SGLANG}", _STRUCTURE, "use response_format"),
    neutral("lora", [[]], _LLAMA, "Uses adapters.", "this server has one model"),
    neutral("response_fields", [[]], _LLAMA, "Chooses fields.", "responses have all fields"),
    neutral("options", [{}], "Ollama's clients", "Parameters.", "send them as fields of their own"),
)
