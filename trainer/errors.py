"""Errors of training runs."""

from reviews.errors import ReviewLoopError


class TrainingStopped(ReviewLoopError):
    """The run cannot go on. Its last checkpoint stays: remove the cause, then resume."""


class RunStopped(ReviewLoopError):
    """The trainer was asked to stop: the run is recorded as failed, and the active adapter stays."""
