"""What came back of one request."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """What came back, in seconds of the client's clock."""

    sent: float
    first: float | None = None
    """Arrival of the first text."""
    last: float | None = None
    """Arrival of the newest text."""
    gaps: list[float] = field(default_factory=list)
    """Between two arrivals of text."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    text: str = ""
    error: str | None = None

    @property
    def ttft(self) -> float | None:
        """Time to first token."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first."""
        if self.first is None or self.last is None or self.output_tokens < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    @property
    def duration(self) -> float | None:
        return None if self.last is None else self.last - self.sent
