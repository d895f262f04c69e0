"""Which adapters on trial score now; follows the database, and never stands in the way of what serves."""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from consumer.classifiers import Classifier
from consumer.measures import Measures
from consumer.trial import Shadow
from reviews.adapter import ShadowRun
from reviews.errors import Unavailable

log = structlog.get_logger()


class ShadowRuns(Protocol):
    """What is needed of ``storage.adapters.shadows.ShadowStore``."""

    def running(self, task: str, /) -> ShadowRun | None:
        """The trial of a task."""


class Shadows:
    """At most one shadow per task, loaded beside the classifier that serves.

    Args:
        runs: Says which adapter is on trial.
        tasks: What every review is scored for.
        load: Makes a classifier from a registered adapter's version.
        serving: What serves now; an adapter that serves is no shadow of itself.
        measures: Where it says what is on trial, and what could not be loaded.
    """

    def __init__(
        self,
        runs: ShadowRuns,
        tasks: Sequence[str],
        load: Callable[[str], Classifier],
        serving: Callable[[], Sequence[Classifier]],
        measures: Measures | None = None,
    ) -> None:
        self._runs = runs
        self._tasks = tuple(tasks)
        self._load = load
        self._serving = serving
        self._measures = measures or Measures()
        self._current: dict[int, Shadow | None] = {}  # by the trial's id; None: it could not be loaded

    def current(self) -> tuple[Shadow, ...]:
        """What scores beside the classifiers that serve."""
        return tuple(shadow for shadow in self._current.values() if shadow is not None)

    def refresh(self) -> None:
        """Take up what was begun, and let go of what was ended or serves by now.

        Raises:
            Unavailable: If the database does not answer; the shadows stay as they are.
        """
        serving = {classifier.adapter_version for classifier in self._serving()}
        runs = [run for task in self._tasks if (run := self._runs.running(task)) is not None]
        self._current = {
            run.id: self._current[run.id] if run.id in self._current else self._begin(run)
            for run in runs
            if run.version not in serving
        }
        self._measures.shadows = {
            shadow.classifier.task: shadow.classifier.adapter_version for shadow in self.current()
        }

    def _begin(self, run: ShadowRun) -> Shadow | None:
        try:
            classifier = self._load(run.version)
        except Unavailable:
            raise  # another attempt may help
        except Exception as err:  # noqa: BLE001  an adapter on trial may be broken in any way
            self._measures.shadow_failed(run.task)
            log.error("shadow_refused", task=run.task, adapter=run.version, error=str(err))  # noqa: TRY400  a refusal with its reason, not a crash
            return None
        log.info("shadow_began", task=run.task, adapter=run.version, share=run.share)
        return Shadow(classifier, run.share)
