"""One trainer under test: a real night on a tiny model, held at stop points.

Over its channel it says ``at POINT`` where it is held (anything sent lets it go on), and in the end how the
run ended: its state, or the class of the error.
"""

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel  # noqa: F401  the same
from transformers import RobertaForSequenceClassification  # noqa: F401  the same

import trainer.fitting.fit  # noqa: F401  the same
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import Settings
from reviewloop.wiring.nightly import make_runner
from reviews.adapter import Activation
from reviews.errors import ReviewLoopError
from reviews.training_run import STAGES, TrainingRun
from storage.database import Database
from storage.learning.runs import TrainingRunStore
from tests.faults.stop_points import StopPoints
from trainer.nightly.run import Ledger
from trainer.nightly.runner import Order

POINTS = ("begun", *STAGES, "snapshot kept", "promoting", "decided", "closed")
"""Each stage as soon as it is written down, and what lies between."""


class StoppingRuns:
    """A real store of runs, held right in front of the promotion's transaction.

    The lease was looked at and renewed just before: only the transaction's own look at its row is left to
    refuse.
    """

    def __init__(self, inner: TrainingRunStore, points: StopPoints) -> None:
        self._inner = inner
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def promote(self, *given: Any, **named: Any) -> Activation:
        self._points.at("promoting")
        return self._inner.promote(*given, **named)


class StoppingLedger:
    """A real ledger, with stops; whatever is not named here goes straight through."""

    def __init__(self, inner: Ledger, points: StopPoints) -> None:
        self._inner = inner
        self._points = points
        inner.runs = StoppingRuns(inner.runs, points)
        points.at("begun")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def reach(self, stage: str) -> None:
        self._inner.reach(stage)
        self._points.at(stage)

    def keep_dataset(self, *given: Any) -> None:
        self._inner.keep_dataset(*given)
        self._points.at("snapshot kept")

    def decide(self, *given: Any) -> None:
        self._inner.decide(*given)
        self._points.at("decided")

    def promote(self, *given: Any, **named: Any) -> None:
        self._inner.promote(*given, **named)
        self._points.at("decided")

    def close(self) -> TrainingRun:
        closed = self._inner.close()
        self._points.at("closed")
        return closed


def run(request: dict[str, Any], log: Path, channel: Connection) -> None:
    """Be a trainer.

    Args:
        request: ``settings`` by section, ``stops`` (the visit to hold each point at), ``task``.
        log: Where the log goes.
        channel: To the test.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.chdir(log.parent)
    torch.set_num_threads(1)
    configure_logging()
    settings = Settings(**request["settings"])
    points = StopPoints(request["stops"], channel, POINTS)
    database = Database(settings.database)
    runner = make_runner(settings, database, threading.Event())
    runner._wrap = lambda ledger: StoppingLedger(ledger, points)
    try:
        said = runner.run(Order(request["task"], "manual", 0, 600.0)).state
    except ReviewLoopError as err:
        said = type(err).__name__
    database.close()
    channel.send(said)
