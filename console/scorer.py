"""The active adapter of each task, loaded beside the console's work when somebody first wants to try it."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import structlog

from classifier.classifier import Classifier
from classifier.ensemble import Ensemble
from classifier.host import build_in_background
from reviews.errors import ModelError, Unavailable, WrongUse
from reviews.prediction import Prediction
from storage.adapters.registry import AdapterStore

log = structlog.get_logger()

AnyClassifier = Classifier | Ensemble
LoadAdapter = Callable[[str], AnyClassifier]
"""Makes a classifier of the registered adapter of this version."""

_BUSY_SECONDS = 10.0
_MOST_WAITING = 8
_RETRY_SECONDS = 60.0


class FindActive(Protocol):
    """Says which adapter is active for a task."""

    def __call__(self, task: str) -> str | None:
        """Its version; None where none is."""


class _Failure(NamedTuple):
    """An adapter that could not be loaded."""

    version: str
    error: str
    at: float


@dataclass(frozen=True, slots=True)
class ScorerState:
    """How far a task's classifier is.

    Attributes:
        version: The adapter that is active; None where none is.
        classifier: What scores now, which may be an earlier adapter while the active one is loaded.
        error: Why the active adapter could not be loaded; None where it could, or is still being loaded.
    """

    version: str | None
    classifier: AnyClassifier | None = None
    error: str | None = None

    @property
    def is_loading(self) -> bool:
        """Whether the active adapter will be there soon."""
        is_there = self.classifier is not None and self.classifier.adapter_version == self.version
        return self.version is not None and self.error is None and not is_there


class ConsoleScorer:
    """Scores texts with the active adapter of each task.

    Nothing is loaded before the first question: a model takes seconds and hundreds of megabytes.

    Args:
        find_active: Says which adapter is active.
        load: Makes a classifier of it.
    """

    def __init__(self, find_active: FindActive, load: LoadAdapter) -> None:
        self._find_active = find_active
        self._load = load
        self._changing = threading.Lock()
        self._scoring = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._classifiers: dict[str, AnyClassifier] = {}
        self._failures: dict[str, _Failure] = {}
        self._loading: set[str] = set()

    def state(self, task: str) -> ScorerState:
        """How far the classifier of a task is; begins to load the active adapter where it is not there."""
        version = self._find_active(task)
        with self._changing:
            classifier = self._classifiers.get(task)
            state = ScorerState(version, classifier, self._recent_failure(task, version))
            if state.is_loading and task not in self._loading:
                self._loading.add(task)
                threading.Thread(
                    target=self._replace, args=(task, version), name=f"load-{task}", daemon=True
                ).start()
        return state

    def ready(self, task: str) -> AnyClassifier:
        """The classifier of a task.

        Raises:
            Unavailable: If it is still being loaded.
            WrongUse: If no adapter is active for this task.
            ModelError: If the active adapter could not be loaded.
        """
        state = self.state(task)
        if state.version is None:
            raise WrongUse(f"No adapter is active for the task '{task}': activate one first.")
        if state.error is not None:
            raise ModelError(f"The adapter {state.version} cannot be loaded: {state.error}")
        if state.classifier is None:
            raise Unavailable(f"The adapter {state.version} is being loaded: try again in a few seconds.")
        return state.classifier

    def predict(self, task: str, texts: Sequence[str]) -> tuple[AnyClassifier, list[Prediction]]:
        """One prediction for each text, as a worker makes it, and the classifier that made them.

        Raises:
            Unavailable: If the classifier is still being loaded, or too many texts wait for it.
            WrongUse: If no adapter is active for this task, or a text is blank.
            ModelError: If a text cannot be scored.
        """
        classifier = self.ready(task)
        with self._turn():
            return classifier, classifier.predict(list(texts))

    def _recent_failure(self, task: str, version: str | None) -> str | None:
        """Why this adapter could not be loaded a short while ago; after that it is tried again."""
        failure = self._failures.get(task)
        is_recent = failure is not None and time.monotonic() - failure.at < _RETRY_SECONDS
        return failure.error if failure and is_recent and failure.version == version else None

    @contextmanager
    def _turn(self) -> Any:
        """One at a time scores, and a few wait: the threads of the console are for its pages."""
        if not self._waiting.acquire(blocking=False):
            raise Unavailable("Too many texts wait to be scored: try again in a few seconds.")
        try:
            if not self._scoring.acquire(timeout=_BUSY_SECONDS):
                raise Unavailable("The classifier is busy: try again in a few seconds.")
            try:
                yield
            finally:
                self._scoring.release()
        finally:
            self._waiting.release()

    def _replace(self, task: str, version: str) -> None:
        """Load an adapter in this thread, and let it score."""
        try:
            classifier = build_in_background(lambda: self._load(version), make_way=False)
        except Exception as err:  # noqa: BLE001  whatever it was, the page has to say it
            log.warning("console_adapter_failed", task=task, adapter=version, error=str(err))
            with self._changing:
                self._failures[task] = _Failure(version, str(err), time.monotonic())
        else:
            log.info("console_adapter_loaded", task=task, adapter=version)
            with self._changing:
                self._classifiers[task] = classifier
        finally:
            with self._changing:
                self._loading.discard(task)


def active_version(store: AdapterStore) -> FindActive:
    """Asks the registry which adapter is active."""

    def find(task: str) -> str | None:
        activation = store.active(task)
        return None if activation is None else activation.version

    return find
