"""Shadow scoring: adapters score a share of the stream, are shown to nobody, and may fail in any way.

Which adapters do is followed in the database. Nothing of them touches the active adapter.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import structlog

from consumer.measures import Measures
from consumer.serving import LoadClassifier, ServingClassifier, require_finite
from reviews.adapter import ShadowRun
from reviews.errors import Unavailable
from reviews.prediction import Prediction
from reviews.slices import hash_position
from storage.adapters.shadows import ShadowStore

log = structlog.get_logger()

Encode = Callable[[ServingClassifier, Sequence[int]], Any]
"""The texts of these indices, tokenised for a classifier."""
_DRAW = "shadow"
MAX_FAILURES = 5
"""After so many failed batches in a row a worker asks a shadow no more: each costs the stream time."""


class Shadow:
    """An adapter in shadow scoring, and how it does.

    Args:
        classifier: What scores.
        share: Of the reviews, in (0, 1], drawn by their id: an edited review stays in or out.

    Attributes:
        same: Pairs of different labels, the serving adapter's and its own, that mean the same.
    """

    def __init__(self, classifier: ServingClassifier, share: float) -> None:
        self.classifier = classifier
        self.share = share
        self.same: Set[tuple[str, str]] = frozenset()
        self._failures = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it failed too often in a row."""
        return self._failures >= MAX_FAILURES

    def chooses(self, review_id: str) -> bool:
        """Whether it scores this review."""
        return hash_position(review_id, _DRAW) < self.share

    def note(self, error: Exception | None) -> None:
        """Take note of how a batch went."""
        self._failures = 0 if error is None else self._failures + 1
        if error is not None:
            log.warning(
                "shadow_failed",
                adapter=self.classifier.adapter_version,
                error=type(error).__name__,
                is_given_up=self.is_given_up,
            )


class ShadowScoring:
    """The texts of one batch that a shadow scores.

    Attributes:
        task: The shadow's task.
        rows: How many reviews got a prediction.
        disagreements: How many of them the serving adapter calls something else.
        has_failed: Whether the shadow failed on this batch; it has no predictions then.
    """

    def __init__(self, shadow: Shadow, review_ids: Sequence[str], encode: Encode) -> None:
        self.task = shadow.classifier.task
        self.rows = self.disagreements = 0
        self.has_failed = False
        self._shadow = shadow
        self._indices = [index for index, name in enumerate(review_ids) if shadow.chooses(name)]
        self._encoded: Any = None
        if self._indices:
            try:
                self._encoded = encode(shadow.classifier, self._indices)
            except Exception as err:  # noqa: BLE001  a shadow may fail in any way
                self._fail(err)

    def predictions(self) -> dict[int, Prediction]:
        """What the shadow says, by the index of the text; nothing where it fails."""
        if not self._indices or self.has_failed:
            return {}
        try:
            said = require_finite(self._shadow.classifier.score(self._encoded))
            predictions = dict(zip(self._indices, said, strict=True))
        except Exception as err:  # noqa: BLE001  a shadow may fail in any way
            self._fail(err)
            return {}
        self._shadow.note(None)
        return predictions

    def compare(self, prediction: Prediction, served: Iterable[Prediction]) -> None:
        """Count one prediction beside those that are shown."""
        self.rows += 1
        self.disagreements += any(
            other.task == prediction.task
            and other.label != prediction.label
            and (other.label, prediction.label) not in self._shadow.same
            for other in served
        )

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        self._shadow.note(error)


def start_shadow_scoring(
    shadows: Iterable[Shadow], review_ids: Sequence[str], encode: Encode
) -> list[ShadowScoring]:
    """The part of each shadow that has not failed too often."""
    return [ShadowScoring(shadow, review_ids, encode) for shadow in shadows if not shadow.is_given_up]


class Shadows:
    """At most one shadow per task, loaded beside the active classifier.

    Args:
        runs: Says which adapter is in shadow scoring.
        tasks: What every review is scored for.
        load: Makes a classifier from a registered adapter.
        serving: The active adapters; they are no shadows of themselves.
        measures: Where it says which shadows score, and which could not be loaded.
    """

    def __init__(
        self,
        runs: ShadowStore,
        tasks: Sequence[str],
        load: LoadClassifier,
        serving: Callable[[], Sequence[ServingClassifier]],
        measures: Measures | None = None,
    ) -> None:
        self._runs = runs
        self._tasks = tuple(tasks)
        self._load = load
        self._serving = serving
        self._measures = measures or Measures()
        self._current: dict[int, Shadow | None] = {}  # by the run's id; None: it could not be loaded

    def current(self) -> tuple[Shadow, ...]:
        """The shadows that score beside the active classifiers."""
        return tuple(shadow for shadow in self._current.values() if shadow is not None)

    def refresh(self) -> None:
        """Take up what was begun, and let go of what was ended or serves by now.

        Raises:
            Unavailable: If the database does not answer; the shadows stay as they are.
        """
        serving = {classifier.adapter_version: classifier.task for classifier in self._serving()}
        runs = [run for task in self._tasks if (run := self._runs.running(task)) is not None]
        self._current = {
            run.id: self._current[run.id] if run.id in self._current else self._begin(run)
            for run in runs
            if run.version not in serving
        }
        for run in runs:
            shadow = self._current.get(run.id)
            if shadow is not None:
                served = [version for version, task in serving.items() if task == run.task]
                shadow.same = self._runs.same_labels(run, served)
        self._measures.shadows = {
            shadow.classifier.task: shadow.classifier.adapter_version for shadow in self.current()
        }

    def _begin(self, run: ShadowRun) -> Shadow | None:
        try:
            classifier = self._load(run.version, make_way=True)
        except Unavailable:
            raise  # another attempt may help
        except Exception as err:  # noqa: BLE001  a shadow may be broken in any way
            self._measures.shadow_failed(run.task)
            log.error("shadow_refused", task=run.task, adapter=run.version, error=str(err))  # noqa: TRY400  a refusal with its reason, not a crash
            return None
        log.info("shadow_began", task=run.task, adapter=run.version, share=run.share)
        return Shadow(classifier, run.share)
