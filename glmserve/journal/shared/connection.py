"""The connection to Redis: bounded waits, errors in our words, and the identity of the journal."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

from glmserve.config import JOURNAL_PASSWORD, RedisAddress
from glmserve.errors import OptionError, StartupError
from glmserve.journal.errors import StoreError
from glmserve.journal.shared.scripts import PREFIX

T = TypeVar("T")

FORMAT = 1
"""Version of the keys, of their contents, and of the events that are made of them."""
_TIMEOUT = 1.0
"""Seconds for an answer of the store."""
_PAUSE = 1.0
"""Seconds for which a store that did not answer is not asked again."""
_IDENTITY = PREFIX + "identity"


class Connection:
    """Runs commands and scripts. Used by one thread at a time.

    Args:
        address: of the Redis.
        fingerprint: of the model.

    Raises:
        OptionError: the store belongs to another model or format, or redis-py is not installed.
        StartupError: the store cannot be reached.
    """

    def __init__(self, address: RedisAddress, fingerprint: str) -> None:
        self._option = f"--journal {address}"
        try:
            import redis.backoff
            import redis.retry
        except ImportError:
            raise OptionError(
                f"{self._option} needs the package redis: pip install 'glmserve[redis]'"
            ) from None
        self._redis = redis
        self._fingerprint = fingerprint
        self._silent_until = 0.0  # monotonic clock
        self._scripts: dict[str, Any] = {}
        self.failed_at = time.monotonic()
        """When the store last did not answer, or the connection was made; monotonic clock."""
        self.secret = secrets.token_bytes(32)
        try:
            self._client = redis.Redis.from_url(
                address.url,
                password=os.environ.get(JOURNAL_PASSWORD),  # one in the URL comes first
                protocol=2,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                # A connection that the store has closed meanwhile is made anew, once.
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ConnectionError,)),
                client_name="glmserve",
            )
        except (ValueError, TypeError, redis.RedisError) as error:
            raise OptionError(f"{self._option}: {error}") from None
        try:
            self.secret = self._introduce() or self.secret
        except redis.AuthenticationError as error:
            raise OptionError(
                f"{self._option} refuses the password ({error}); "
                f"put it into the URL or into {JOURNAL_PASSWORD}"
            ) from None
        except (redis.RedisError, OSError) as error:
            raise StartupError(f"{self._option} cannot be used: {_reason(error)}") from None

    def run(self, work: Callable[[Any], T]) -> T:
        """Run `work` with the client of redis-py.

        Raises:
            StoreError: it failed, or the store has just not answered.
        """
        if time.monotonic() < self._silent_until:
            raise StoreError("the store does not answer")
        try:
            return work(self._client)
        except (self._redis.ConnectionError, self._redis.TimeoutError, OSError) as error:
            self.failed_at = time.monotonic()
            self._silent_until = self.failed_at + _PAUSE
            raise StoreError(_reason(error)) from None
        except self._redis.RedisError as error:
            raise StoreError(_reason(error)) from None

    def script(self, text: str, *arguments: Any) -> Any:
        """Run a script of glmserve.journal.shared.scripts.

        A store that came back empty becomes this journal again.

        Raises:
            StoreError: it failed, or the store is another journal now.
        """
        if text not in self._scripts:
            self._scripts[text] = self._client.register_script(text)
        script = self._scripts[text]
        try:
            return self.run(lambda _: script(args=[self._journal, *arguments]))
        except StoreError as error:
            if not str(error).startswith("IDENTITY"):
                raise
        try:
            self.run(lambda _: self._introduce())
        except OptionError as error:
            raise StoreError(error.message) from None
        return self.run(lambda _: script(args=[self._journal, *arguments]))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @property
    def _journal(self) -> str:
        parts = b"%d %s %s" % (FORMAT, self._fingerprint.encode(), self.secret)
        return blake2b(parts, digest_size=16).hexdigest()

    def _introduce(self) -> bytes:
        """Make the store this journal if it is empty. Returns the secret of what is there.

        Raises:
            OptionError: another model or format is there.
        """
        ours = {"format": FORMAT, "fingerprint": self._fingerprint, "secret": self.secret}
        with self._client.pipeline(transaction=True) as pipeline:
            for name, value in {**ours, "journal": self._journal}.items():
                pipeline.hsetnx(_IDENTITY, name, value)
            pipeline.hmget(_IDENTITY, "format", "fingerprint", "secret")
            version, fingerprint, secret = pipeline.execute()[-1]
        if int(version) != FORMAT:
            age = "a newer" if int(version) > FORMAT else "an older"
            raise OptionError(
                f"{self._option} was written by {age} glmserve (format {int(version)}, this one's "
                f"is {FORMAT}); name another database"
            )
        if fingerprint.decode() != self._fingerprint:
            raise OptionError(
                f"{self._option} belongs to another model, tokenizer or number format: its texts "
                "cannot be gone on with; name another database, or empty this one"
            )
        return bytes(secret)


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
