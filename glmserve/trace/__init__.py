"""What a server was asked and what its runner did, in a file that can be computed again."""

from glmserve.trace.events import Arrival, Beginning, End, Loss
from glmserve.trace.reader import read_recording
from glmserve.trace.replay import Comparison, Difference, replay_alone, replay_steps
from glmserve.trace.writer import Recorder, RecordingExecutor

__all__ = [
    "Arrival",
    "Beginning",
    "Comparison",
    "Difference",
    "End",
    "Loss",
    "Recorder",
    "RecordingExecutor",
    "read_recording",
    "replay_alone",
    "replay_steps",
]
