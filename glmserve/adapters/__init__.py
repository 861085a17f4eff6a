"""Reads what trainers write beside the weights of an adapter: its kind, its settings, its identity.

Plain Python: the server process lists and identifies adapters without torch; the worker reads their
weights.
"""

from glmserve.adapters.config import AdapterConfig, read_adapter_config
from glmserve.adapters.content import digest, weights_file
from glmserve.adapters.lora import LoraConfig
from glmserve.adapters.prefix import PrefixAdapterConfig

__all__ = [
    "AdapterConfig",
    "LoraConfig",
    "PrefixAdapterConfig",
    "digest",
    "read_adapter_config",
    "weights_file",
]
