"""The classifiers that score: what a worker needs of them, and which serve while active adapters change."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import structlog

from consumer.measures import Measures
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from reviews.prediction import Prediction
from reviews.retry import Outage, Retry
from storage.adapters.registry import AdapterStore

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_REFUSED_SECONDS = 300.0  # a full disk or an unavailable hub may work again after that


class ServingClassifier(Protocol):
    """What a worker needs of ``classifier.classifier.Classifier``: one task, one immutable adapter."""

    @property
    def task(self) -> str:
        """What it decides."""

    @property
    def adapter_version(self) -> str:
        """The adapter that scores."""

    def encode(self, texts: Sequence[str], /) -> Any:
        """The tokenised texts; what it returns may have an attribute ``tokens`` to be counted."""

    def score(self, encoded: Any, /) -> list[Prediction]:
        """One prediction per text, in order."""


class LoadClassifier(Protocol):
    """Makes a classifier from a registered adapter."""

    def __call__(self, version: str, *, make_way: bool) -> ServingClassifier:
        """The classifier of a version; ``make_way``: others score meanwhile and come first."""


@runtime_checkable
class Embedder(Protocol):
    """What a classifier has that gives embeddings with its predictions; of others none are kept."""

    def score_and_embed(self, encoded: Any, /) -> tuple[list[Prediction], npt.NDArray[np.float32]]:
        """One prediction per text, and float32 (texts, hidden), in one pass."""


@runtime_checkable
class SharesTokeniser(Protocol):
    """What a classifier has that tokenises as others on its base do: their encodings are its own."""

    @property
    def tokeniser(self) -> Any:
        """The same object for all classifiers that give the same encoding of a text."""


def tokeniser_of(classifier: ServingClassifier) -> object:
    """What tokenises for a classifier: its tokeniser, or the classifier itself where it shows none."""
    return classifier.tokeniser if isinstance(classifier, SharesTokeniser) else classifier


def require_finite(predictions: list[Prediction]) -> list[Prediction]:
    """The predictions, if all of them are finite.

    Raises:
        ArithmeticError: If one is not: the model's logits were not finite.
    """
    # One sum for all: a single NaN shows in it, and the database would take NaN for a confidence.
    if not math.isfinite(sum(prediction.confidence for prediction in predictions)):
        raise ArithmeticError("The model answered with non-finite logits.")
    return predictions


class Serving:
    """One classifier per task, exchanged as a whole between batches.

    The next classifier is loaded beside the active one; if it cannot be loaded, the old one goes on.

    The thread of :meth:`follow` looks for new activations, and then calls what its caller gives it: a worker
    refreshes its shadow adapters there.

    Args:
        adapters: Says which adapter is active.
        tasks: What every review is scored for.
        load: Makes a classifier from a registered adapter.
        measures: Where it notes the active adapters, and whether the database answers.
    """

    def __init__(
        self,
        adapters: AdapterStore,
        tasks: Sequence[str],
        load: LoadClassifier,
        measures: Measures | None = None,
    ) -> None:
        self._adapters = adapters
        self._tasks = tuple(tasks)
        self._load = load
        self._measures = measures or Measures()
        self._current: tuple[ServingClassifier, ...] = ()
        self._refused_until: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def current(self) -> tuple[ServingClassifier, ...]:
        """What scores now: one immutable classifier per task, in the order of the tasks."""
        return self._current

    def load_first(self, retry_max_seconds: float, stopping: threading.Event) -> None:
        """Load the active adapters, however long the database is unavailable.

        Raises:
            WrongUse: If a task has no active adapter.
            AdapterError: If an active adapter cannot be used; there is no older one to go on with.
            ModelError: If its base model cannot be loaded.
        """
        retry = Retry(
            "database_unavailable",
            "database_back",
            longest_seconds=retry_max_seconds,
            wait=stopping.wait,
            note=self._measures.noting("database", by="adapters"),
        )
        self._serve(retry(lambda: tuple(self._load_active(task) for task in self._tasks)))

    def refresh(self) -> bool:
        """Exchange the classifiers whose task has another active adapter now; whether any was.

        Raises:
            Unavailable: If the database does not answer.
        """
        fresh = tuple(self._fresh(serving) for serving in self._current)
        changed = any(new is not old for new, old in zip(fresh, self._current, strict=True))
        self._serve(fresh)
        return changed

    def follow(self, poll_seconds: float, also: Callable[[], None] = lambda: None) -> None:
        """Refresh in a thread of its own until :meth:`stop`.

        Args:
            poll_seconds: How often.
            also: Called after each refresh, also a failed one; its errors are logged.
        """
        self._thread = threading.Thread(
            target=self._follow, args=(poll_seconds, also), name="adapters", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread that follows.

        A look at the database is waited for, so that it does not outlive the connections. A load in progress
        is not waited for here, but before the process ends: a thread that is cut off inside native code may
        bring all of it down.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_LOOK_SECONDS)

    def _follow(self, poll_seconds: float, also: Callable[[], None]) -> None:
        looks = [
            (name, look, Outage("adapter_check_failed", "adapter_check_works_again"))
            for name, look in (("adapters", self.refresh), ("beside adapters", also))
        ]
        while not self._stopping.wait(poll_seconds):
            for name, look, outage in looks:
                self._attempt(name, look, outage)

    def _attempt(self, name: str, look: Callable[[], object], outage: Outage) -> None:
        try:
            look()
        except Exception as err:  # noqa: BLE001  whatever it is, the active adapter stays
            outage.failed(err)
            if isinstance(err, Unavailable):
                self._measures.failed(err.service, by=name)
        else:
            self._measures.answered("database", by=name)
            outage.ended()

    def _serve(self, classifiers: tuple[ServingClassifier, ...]) -> None:
        self._current = classifiers
        self._measures.adapters = {item.task: item.adapter_version for item in classifiers}

    def _load_active(self, task: str) -> ServingClassifier:
        return self._load(self._active_version(task), make_way=False)

    def _fresh(self, serving: ServingClassifier) -> ServingClassifier:
        version = self._active_version(serving.task)
        if version == serving.adapter_version or time.monotonic() < self._refused_until.get(version, 0.0):
            return serving
        try:
            loaded = self._load(version, make_way=True)
        except Unavailable:
            raise  # another attempt may help
        except Exception as err:  # it may fail in any way, for example for lack of memory
            self._refused_until[version] = time.monotonic() + _REFUSED_SECONDS
            log.exception(
                "adapter_refused",
                adapter=version,
                serving=serving.adapter_version,
                error=str(err),
                exc_info=not isinstance(err, ReviewLoopError),  # which gives its reason itself
            )
            return serving
        log.info("adapter_swapped", task=serving.task, adapter=version, replaced=serving.adapter_version)
        return loaded

    def _active_version(self, task: str) -> str:
        activation = self._adapters.active(task)
        if activation is None:
            raise WrongUse(
                f"No adapter is active for the task '{task}': 'reviewloop adapters zero-shot --task {task} "
                "--activate' makes one from descriptions of the labels, and 'reviewloop adapters add DIR "
                "--activate' takes one that was trained."
            )
        return activation.version
