"""What stops a training run although it was asked for properly."""

from reviews.errors import ReviewLoopError


class TrainingStopped(ReviewLoopError):
    """The run cannot go on. Its last checkpoint stays: remove the cause, then resume."""


class RunStopped(ReviewLoopError):
    """Somebody asked the trainer to stop: the run is written down as failed, and what serves goes on."""
