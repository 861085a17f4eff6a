"""What a checkpoint's config.json says about its architecture, checked once for everybody.

Pure Python: the server process reads it for the context length and the end tokens before any
worker starts; the worker builds the model from the same object.
"""

from glmserve.model_config.config import ModelConfig, RopeConfig
from glmserve.model_config.names import name_hints
from glmserve.model_config.read import read_model_config

__all__ = ["ModelConfig", "RopeConfig", "name_hints", "read_model_config"]
