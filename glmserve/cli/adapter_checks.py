"""Checks the adapters of a command line before any weights are loaded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from glmserve.adapters import AdapterConfig as Settings
from glmserve.adapters import read_adapter_config, weights_file
from glmserve.config import AdapterConfig
from glmserve.engine.adapters.catalog import check_size
from glmserve.errors import AdapterError, OptionError, StartupError


def check_adapters(config: AdapterConfig, model_names: Collection[str]) -> None:
    """Check the adapters of --adapter: that they have names of their own, and that glmserve can
    serve what their settings say.

    Raises:
        OptionError: the model itself has the name.
        StartupError: an adapter cannot be served.
    """
    for name, folder in config.named:
        if name in model_names:
            raise OptionError(f"--adapter {name}: that is the name of the model itself")
        try:
            read_checked(folder, config)
        except AdapterError as error:
            raise StartupError(f"--adapter {name}: {error.message}") from None


def read_checked(folder: Path, config: AdapterConfig) -> Settings:
    """The settings of an adapter that has weights, too.

    Raises:
        AdapterError: it cannot be served.
    """
    settings = read_adapter_config(folder)
    check_size(settings, config)
    weights_file(folder)
    return settings
