"""glmserve: an OpenAI-compatible, streaming server for the ChatGLM family."""

__version__ = "0.1.0"
