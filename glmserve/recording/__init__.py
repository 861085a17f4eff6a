"""What a server was asked and what its runner did, in a file that can be computed again."""

from glmserve.recording.events import Arrival, Beginning, End, Loss
from glmserve.recording.reader import read_recording
from glmserve.recording.recorder import Recorder, RecordingExecutor
from glmserve.recording.replay import Comparison, Difference, replay_alone, replay_steps

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
