"""Recordings of a server's requests and steps (`--record`), and their replay."""

from glmserve.trace.events import Arrival, Beginning, End, Event, Loss
from glmserve.trace.reader import read_recording
from glmserve.trace.replay import (
    Comparison,
    Difference,
    fitting_events,
    replay_alone,
    replay_steps,
)
from glmserve.trace.writer import TraceWriter, TracingExecutor

__all__ = [
    "Arrival",
    "Beginning",
    "Comparison",
    "Difference",
    "End",
    "Event",
    "Loss",
    "TraceWriter",
    "TracingExecutor",
    "fitting_events",
    "read_recording",
    "replay_alone",
    "replay_steps",
]
