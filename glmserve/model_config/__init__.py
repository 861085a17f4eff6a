"""Reads and checks the architecture in a checkpoint's config.json.

Pure Python: the server process reads the context length and the end tokens from it before a worker
starts; the worker builds the model from an equal ModelConfig.
"""

from glmserve.model_config.config import ModelConfig, RopeConfig
from glmserve.model_config.generation import GenerationDefaults, read_generation_defaults
from glmserve.model_config.names import model_name, name_hints
from glmserve.model_config.read import read_model_config

__all__ = [
    "GenerationDefaults",
    "ModelConfig",
    "RopeConfig",
    "model_name",
    "name_hints",
    "read_generation_defaults",
    "read_model_config",
]
