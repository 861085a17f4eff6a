"""Where the caches of both hubs are, and how to reach the hubs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

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
    modelscope_endpoint: str = "https://www.modelscope.cn"
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
            return _expanded(value, environment, home)
    if value := environment.get("HF_HOME"):
        return _expanded(value, environment, home) / "hub"
    cache = environment.get("XDG_CACHE_HOME")
    parent = _expanded(cache, environment, home) if cache else home / ".cache"
    return parent / "huggingface" / "hub"


def _modelscope_caches(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Versions of modelscope differ in whether the variable names the folder `hub` or the one
    above it, and in whether models have a folder `models` of their own. All of them find what is
    in the first one."""
    value = environment.get("MODELSCOPE_CACHE")
    root = _expanded(value, environment, home) if value else home / ".cache" / "modelscope"
    inner, outer = root / "hub" / "models", root / "models"
    return (*((outer, inner) if value else (inner, outer)), root / "hub", root)


def _modelscope_endpoint(environment: Mapping[str, str]) -> str:
    """Newer versions of modelscope read the first variable, older ones the second."""
    named = environment.get("MODELSCOPE_ENDPOINT") or environment.get("MODELSCOPE_DOMAIN")
    domain = named or "www.modelscope.cn"
    address = domain if "://" in domain else f"https://{domain}"
    return address.rstrip("/")


def _expanded(text: str, environment: Mapping[str, str], home: Path) -> Path:
    """A path with the user's folder for ~, and variables, as both hubs' tools read it."""
    text = Template(text).safe_substitute(environment)
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)
