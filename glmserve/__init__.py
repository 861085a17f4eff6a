"""OpenAI-compatible, streaming server for the ChatGLM family.

`LLM` and `AsyncLLM` are the same model without HTTP. They are imported when they are first named,
so that `import glmserve` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmserve.embedded.async_llm import AsyncLLM
    from glmserve.embedded.llm import LLM
    from glmserve.embedded.params import SamplingParams
    from glmserve.errors import GlmserveError

__version__ = "0.1.0"
__all__ = ["LLM", "AsyncLLM", "GlmserveError", "SamplingParams", "__version__"]

_MODULES = {
    "LLM": "glmserve.embedded.llm",
    "AsyncLLM": "glmserve.embedded.async_llm",
    "SamplingParams": "glmserve.embedded.params",
    "GlmserveError": "glmserve.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'glmserve' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
