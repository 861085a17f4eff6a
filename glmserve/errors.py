"""All errors that glmserve raises on purpose, and the HTTP answer for each.

GlmserveError                      500 server_error
├── InvalidRequestError            400 invalid_request_error
│   └── ContextLengthError         400 context_length_exceeded
│       └── TextLengthError        the same, of a text that was not tokenised
├── AdapterError                   400 adapter_refused; of --adapter: one line, exit code 1
├── AdapterUnavailableError        503 adapter_unavailable
├── AuthenticationError            401 invalid_api_key
├── AdminDisabledError             403 admin_disabled
├── ModelNotFoundError             404 model_not_found
├── QueueFullError                 429 queue_full (or --queue-full-status), Retry-After
├── RateLimitError                 429 rate_limit_exceeded, Retry-After
├── NotReadyError                  503 not_ready, Retry-After
│   └── QueueTimeoutError          503 queue_timeout, Retry-After
├── EngineDeadError                500 engine_dead
│   └── WorkerLostError            never reaches HTTP: the engine starts another worker
├── CrashingRequestError           500 worker_crashed, and no retry
├── RankLostError                  never reaches HTTP: the worker ends, and its group is replaced
├── ClosedError                    never reaches HTTP: an LLM of Python is not open
└── StartupError                   never reaches HTTP: one line on stderr, exit code 1
    ├── OptionError                an option is wrong or cannot be honoured: exit code 2
    ├── CheckpointError            a checkpoint is damaged or not supported
    └── DeviceError                a device cannot be used; the message says why
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class GlmserveError(Exception):
    """Base class of all errors. `message` says what the reader can do about it.

    Args:
        param: the request field that the error is about.
    """

    http_status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retry_after: float | None = None
    """Seconds after which a retry may succeed; None: it will not, or that is not known."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequestError(GlmserveError):
    """The request cannot be honoured; `param` names the field to change."""

    http_status = 400
    error_type = "invalid_request_error"

    _template: str | None = None
    _values: Mapping[str, Any] = {}

    @classmethod
    def about(cls, param: str, template: str, **values: Any) -> Self:
        """Make an error with a message that names its field, so that the field can be renamed.

        Args:
            param: the field.
            template: the message; `{param}` stands for the field, other names for `values`.
        """
        error = cls(template.format(param=param, **values), param)
        error._template, error._values = template, values
        return error

    def renamed(self, names: Mapping[str, str]) -> InvalidRequestError:
        """The same error with the field's name in another API.

        Args:
            names: new name by old name. A field that is missing keeps its name.
        """
        name = names.get(self.param or "")
        if name is None:
            return self
        if self._template is None:
            return type(self)(self.message, name)
        return self.about(name, self._template, **self._values)


class ContextLengthError(InvalidRequestError):
    """The prompt and the requested tokens exceed the model's context.

    The message has OpenAI's words, because clients recognise them and shorten the conversation.

    Args:
        param: the field to change.
        num_prompt_tokens: tokens of the prompt.
        num_new_tokens: tokens of the answer that were requested, at least one.
        max_context: the most tokens that fit.
        source: the field that the prompt comes from.
    """

    code = "context_length_exceeded"

    def __init__(
        self,
        param: str,
        num_prompt_tokens: int,
        num_new_tokens: int,
        max_context: int,
        source: str = "prompt",
    ) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.num_new_tokens = num_new_tokens
        self.max_context = max_context
        self.source = source
        super().__init__(self._words(), param)

    def _words(self) -> str:
        return (
            f"This model's maximum context length is {self.max_context} tokens. However, you "
            f"requested {self.num_prompt_tokens + self.num_new_tokens} tokens "
            f"({self.num_prompt_tokens} in the {self.source}, {self.num_new_tokens} in the "
            f"completion). Please reduce the length of the {self.source} or completion."
        )

    def renamed(self, names: Mapping[str, str]) -> ContextLengthError:
        return type(self)(
            names.get(self.param or "", self.param or ""),
            self.num_prompt_tokens,
            self.num_new_tokens,
            self.max_context,
            names.get(self.source, self.source),
        )


class TextLengthError(ContextLengthError):
    """A text has more characters than any text that fits into the context.

    Its tokens are not counted, as that would take long: `num_prompt_tokens` is 0.

    Args:
        max_characters: the most that are read.
    """

    def __init__(
        self,
        param: str,
        num_characters: int,
        max_characters: int,
        max_context: int,
        source: str = "prompt",
    ) -> None:
        self.num_characters = num_characters
        self.max_characters = max_characters
        super().__init__(param, 0, 0, max_context, source)

    def _words(self) -> str:
        return (
            f"This model's maximum context length is {self.max_context} tokens. However, you "
            f"requested {self.num_characters} characters in the {self.source}; at most "
            f"{self.max_characters} are read. Please reduce the length of the {self.source}."
        )

    def renamed(self, names: Mapping[str, str]) -> TextLengthError:
        return type(self)(
            names.get(self.param or "", self.param or ""),
            self.num_characters,
            self.max_characters,
            self.max_context,
            names.get(self.source, self.source),
        )


class AdapterError(GlmserveError):
    """An adapter cannot be read, or does not fit the model; the message says why."""

    http_status = 400
    error_type = "invalid_request_error"
    code = "adapter_refused"


class AdapterUnavailableError(GlmserveError):
    """The adapter of a request cannot be loaded now."""

    http_status = 503
    code = "adapter_unavailable"

    @classmethod
    def of(cls, name: str) -> AdapterUnavailableError:
        """The error for clients, which need not know where an adapter's files are."""
        return cls(f"the adapter {name!r} cannot be loaded now; the server's log says why", "model")


class AuthenticationError(GlmserveError):
    """The API key is missing or wrong."""

    http_status = 401
    error_type = "invalid_request_error"
    code = "invalid_api_key"


class AdminDisabledError(GlmserveError):
    """The request needs the operator's key, and this server has none."""

    http_status = 403
    error_type = "permission_error"
    code = "admin_disabled"


class ModelNotFoundError(GlmserveError):
    """The request names a model that this server does not serve."""

    http_status = 404
    error_type = "invalid_request_error"
    code = "model_not_found"


class QueueFullError(GlmserveError):
    """The tenant's waiting queue is full."""

    http_status = 429
    error_type = "rate_limit_error"
    code = "queue_full"
    retry_after = 1.0


class RateLimitError(GlmserveError):
    """An API key has used up its limit."""

    http_status = 429
    error_type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReadyError(GlmserveError):
    """The model is still loading, or the server accepts no more requests."""

    http_status = 503
    error_type = "server_error"
    code = "not_ready"
    retry_after = 1.0


class QueueTimeoutError(NotReadyError):
    """A request waited too long in the queue."""

    code = "queue_timeout"


class EngineDeadError(GlmserveError):
    """The worker that runs the model is gone."""

    code = "engine_dead"


class WorkerLostError(EngineDeadError):
    """The worker has died, perhaps during a step. The executor can start another."""

    def __init__(self) -> None:
        super().__init__("the worker process that runs the model has died")


class CrashingRequestError(GlmserveError):
    """The worker died of this request repeatedly."""

    code = "worker_crashed"


class RankLostError(GlmserveError):
    """Another rank of this worker's group is gone, so no sum over ranks can be computed."""


class ClosedError(GlmserveError):
    """The LLM is not open: it was not started, it was closed, or it belongs to another process."""


class StartupError(GlmserveError):
    """The server cannot start. The command line prints the message and exits."""

    exit_code: ClassVar[int] = 1


class OptionError(StartupError):
    """A command-line option is wrong, or cannot be honoured on this machine or model."""

    exit_code = 2


class CheckpointError(StartupError):
    """A checkpoint is missing, damaged, or not supported."""


class DeviceError(StartupError):
    """The requested device cannot be used on this machine."""
