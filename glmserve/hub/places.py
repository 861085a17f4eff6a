"""Where the caches of both hubs are, and how to reach the hubs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True)
class HubPlaces:
    """What the environment says about the hubs.

    Attributes:
        hf_cache: folder with models--OWNER--NAME.
        modelscope: folders that may have OWNER/NAME; the first one is written to.
        hf_endpoint: address of Hugging Face or of a mirror; None: huggingface_hub's default.
        modelscope_endpoint: the same of ModelScope.
        modelscope_token: for private models.
        is_offline: nothing may be fetched.
    """

    hf_cache: Path
    modelscope: tuple[Path, ...]
    hf_endpoint: str | None = None
    modelscope_endpoint: str = "https://modelscope.cn"
    modelscope_token: str | None = None
    is_offline: bool = False


def hub_places(environment: Mapping[str, str]) -> HubPlaces:
    """Read the variables of huggingface_hub and of modelscope.

    Args:
        environment: the environment variables.
    """
    home = Path(environment.get("HOME") or "~").expanduser()
    return HubPlaces(
        hf_cache=_hf_cache(environment, home),
        modelscope=_modelscope_caches(environment, home),
        hf_endpoint=(environment.get("HF_ENDPOINT") or "").rstrip("/") or None,
        modelscope_endpoint=_modelscope_endpoint(environment),
        modelscope_token=environment.get("MODELSCOPE_API_TOKEN") or None,
        is_offline=any(
            environment.get(name, "").lower() in _TRUE
            for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        ),
    )


def _hf_cache(environment: Mapping[str, str], home: Path) -> Path:
    """In the order of huggingface_hub's `constants.py`."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := environment.get(name):
            return _expanded(value, home)
    if value := environment.get("HF_HOME"):
        return _expanded(value, home) / "hub"
    cache = environment.get("XDG_CACHE_HOME")
    return (_expanded(cache, home) if cache else home / ".cache") / "huggingface" / "hub"


def _modelscope_caches(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Versions of modelscope differ in whether the variable names the folder `hub` or the one
    above it, and in whether models have a folder `models` of their own."""
    value = environment.get("MODELSCOPE_CACHE")
    root = _expanded(value, home) if value else home / ".cache" / "modelscope"
    return (root / "hub" / "models", root / "hub", root / "models", root)


def _modelscope_endpoint(environment: Mapping[str, str]) -> str:
    domain = environment.get("MODELSCOPE_DOMAIN") or "modelscope.cn"
    address = domain if "://" in domain else f"https://{domain}"
    return address.rstrip("/")


def _expanded(text: str, home: Path) -> Path:
    return home / text[2:] if text.startswith("~/") else Path(text)
