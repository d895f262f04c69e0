"""Shadow trials: which adapters are on trial, and how often they disagree with the active ones."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from reviews.adapter import Activation, AdapterVersion, ShadowRun
from reviews.errors import ReviewLoopError, WrongUse
from reviews.label_set import same_pairs
from storage.adapters.registry import adapter_id, require_files
from storage.adapters.same_answers import SAYS_THE_SAME, same_answers
from storage.database import Database
from storage.labels.vocabulary import read_label_sets
from storage.plans import BY_INDEX
from storage.schema.adapters import adapter as adapter_table
from storage.schema.adapters import adapter_shadow

LATEST_ANSWERS = 50_000
"""A trial is judged by so many of the latest answers of shadows."""

_LATEST = f"""
  FROM (SELECT record, task, adapter_id, label, confidence FROM prediction_history
         WHERE reason = 'shadow' AND kept_at >= :since AND kept_at <= :until
         ORDER BY kept_at DESC LIMIT {LATEST_ANSWERS}) h"""  # noqa: S608  a number
# How often both agreed. The active adapter's answer is the current row, unless that is the shadow's own by
# now: it would only agree with itself.
_AGREEMENT = text(f"""
SELECT count(*), count(p.record), count(*) FILTER (WHERE {SAYS_THE_SAME}) {_LATEST}
  LEFT JOIN prediction p ON p.record = h.record AND p.task = h.task AND p.adapter_id <> h.adapter_id
 WHERE h.task = :task
   AND h.adapter_id = (SELECT id FROM adapter WHERE version = :version)
""")  # noqa: S608  the constant above
# The reviews of a trial that the shadow calls something else, the latest first.
_DISPUTED = text(f"""
SELECT r.review_id, r.text, served.version, p.label, p.confidence, h.label, h.confidence {_LATEST}
  JOIN prediction p ON p.record = h.record AND p.task = h.task AND p.adapter_id <> h.adapter_id
  JOIN published_review r ON r.record = h.record
  JOIN adapter served ON served.id = p.adapter_id
 WHERE h.task = :task
   AND h.adapter_id = (SELECT id FROM adapter WHERE version = :version)
   AND NOT {SAYS_THE_SAME}
 ORDER BY h.record DESC
 LIMIT :limit
""")  # noqa: S608  the constant above


class TrialConflict(ReviewLoopError):
    """Another trial of the task began meanwhile: look at it and decide again."""


def require_trial(adapter: AdapterVersion, share: float, active: Activation | None) -> None:
    """Refuse what is no trial.

    Args:
        adapter: The adapter on trial.
        share: Of the reviews.
        active: Of the adapter's task.

    Raises:
        WrongUse: If the adapter is active, or the share is none.
    """
    if not 0 < share <= 1:
        raise WrongUse(f"{share:g} is not a share: give more than 0 and at most 1.")
    if active is not None and active.version == adapter.version:
        raise WrongUse(f"{adapter.version} is active already: there is nothing to compare it with.")


def overtaken(task: str, running: ShadowRun | None) -> str:
    """What became of the trials of a task since somebody looked, in a sentence.

    Args:
        task: The task.
        running: The trial that runs now.
    """
    if running is None:
        return f"The trial of the task '{task}' has ended meanwhile: nothing was changed. Look again."
    return (
        f"{running.decided_by} began a trial of {running.version} for the task '{task}' at "
        f"{running.started_at:%Y-%m-%d %H:%M:%S} UTC: nothing was changed. Look at it and decide again."
    )


class Agreement(NamedTuple):
    """How a trial went so far, by its latest answers.

    Attributes:
        rows: Reviews that the shadow scored, up to :data:`LATEST_ANSWERS`.
        compared: Those of them whose current prediction is another adapter's.
        agreed: Those of these where both say the same label.
    """

    rows: int
    compared: int
    agreed: int

    @property
    def share(self) -> float | None:
        """How much of what was compared agrees, in [0, 1]; None before anything was."""
        return self.agreed / self.compared if self.compared else None


class DisputedReview(NamedTuple):
    """A review of a trial that the shadow calls something else, as a person reads it.

    Attributes:
        review_id: The publisher's id.
        text: The review.
        served_by: The adapter whose answer is shown.
        label: Its label.
        confidence: Its calibrated probability.
        shadow_label: The label of the adapter on trial.
        shadow_confidence: Its calibrated probability.
    """

    review_id: str
    text: str
    served_by: str
    label: str
    confidence: float
    shadow_label: str
    shadow_confidence: float


class ShadowStore:
    """Begins, ends and judges trials.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        adapter: AdapterVersion,
        share: float,
        decided_by: str,
        reason: str = "",
        *,
        instead_of: ShadowRun | None = None,
    ) -> ShadowRun:
        """Let an adapter score this share of the live reviews of its task.

        Args:
            adapter: The adapter on trial.
            share: Of the reviews, in (0, 1].
            decided_by: Who decided.
            reason: Why, in a sentence.
            instead_of: The running trial that the caller saw, which this one ends; None: there was none.

        Raises:
            TrialConflict: If another trial runs than the one that was seen; nothing was changed.
            AdapterError: If it was rejected and has no files any more.
        """
        with self._database.begin() as connection:
            if instead_of is not None:
                connection.execute(_end(instead_of, decided_by, f"Made way for {adapter.version}."))
            number = adapter_id(connection, adapter.version)
            if adapter.is_rejected:
                require_files(connection, adapter.version)
            values = {"task": adapter.task, "adapter_id": number, "share": share, "decided_by": decided_by}
            statement = insert(adapter_shadow).values(**values, reason=reason).returning(adapter_shadow.c.id)
            try:  # the unique key on the task of running trials is the compare-and-set
                run_id = connection.execute(statement).scalar_one()
            except IntegrityError as err:
                raise TrialConflict(overtaken(adapter.task, self.running(adapter.task))) from err
            row = connection.execute(_runs().where(adapter_shadow.c.id == run_id)).one()
        return ShadowRun(*row)

    def stop(self, run: ShadowRun, decided_by: str = "", reason: str = "") -> bool:
        """End a trial; False where it had ended already."""
        return self._database.execute(_end(run, decided_by, reason)) == 1

    def running(self, task: str) -> ShadowRun | None:
        """The trial of a task; None where there is none."""
        query = _runs().where(adapter_shadow.c.task == task, adapter_shadow.c.ended_at.is_(None))
        row = self._database.fetch_one(query)
        return ShadowRun(*row) if row else None

    def latest(self, task: str | None = None, limit: int = 10) -> list[ShadowRun]:
        """The latest trials, ended or not, newest first."""
        query = _runs().order_by(adapter_shadow.c.id.desc()).limit(limit)
        if task is not None:
            query = query.where(adapter_shadow.c.task == task)
        return [ShadowRun(*row) for row in self._database.fetch(query)]

    def of_adapter(self, version: str, limit: int = 10) -> list[ShadowRun]:
        """The latest trials of an adapter, newest first."""
        query = _runs().where(adapter_table.c.version == version).order_by(adapter_shadow.c.id.desc())
        return [ShadowRun(*row) for row in self._database.fetch(query.limit(limit))]

    def same_labels(self, run: ShadowRun, served: Sequence[str]) -> frozenset[tuple[str, str]]:
        """Pairs of different labels, of adapters that serve and of the one on trial, that mean the same.

        There are some while the labels of a task change.

        Args:
            run: The trial.
            served: Versions of the adapters that serve its task.
        """
        with self._database.begin() as connection:
            label_set = read_label_sets(connection, run.task).get(run.task)
            if label_set is None:
                return frozenset()
            query = select(adapter_table.c.version, adapter_table.c.labels)
            rows = connection.execute(query.where(adapter_table.c.version.in_([run.version, *served])))
            labels_of = {row.version: row.labels for row in rows}
        return frozenset(
            pair
            for version in served
            for pair in same_pairs(labels_of[version], labels_of[run.version], label_set)
        )

    def agreement(self, run: ShadowRun) -> Agreement:
        """How often the shadow agreed with the active adapter, whatever names both have for the same."""
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            given = {**_span(run), **same_answers(connection, run.task)}
            return Agreement(*connection.execute(_AGREEMENT, given).one())

    def disputed(self, run: ShadowRun, limit: int | None = None) -> list[DisputedReview]:
        """Reviews of a trial that the shadow calls something else, among the latest, the latest first.

        Args:
            run: The trial.
            limit: At most so many; None for all.
        """
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            given = {**_span(run), **same_answers(connection, run.task), "limit": limit}
            found = connection.execute(_DISPUTED, given).all()
        return [DisputedReview(*row) for row in found]


def _span(run: ShadowRun) -> dict[str, Any]:
    return {
        "task": run.task,
        "version": run.version,
        "since": run.started_at,
        "until": run.ended_at or datetime.max.replace(tzinfo=run.started_at.tzinfo),
    }


def _runs() -> Select[Any]:
    return select(
        adapter_shadow.c.id,
        adapter_shadow.c.task,
        adapter_table.c.version,
        adapter_shadow.c.share,
        adapter_shadow.c.started_at,
        adapter_shadow.c.ended_at,
        adapter_shadow.c.decided_by,
        adapter_shadow.c.reason,
        adapter_shadow.c.ended_by,
        adapter_shadow.c.end_reason,
    ).join(adapter_table, adapter_table.c.id == adapter_shadow.c.adapter_id)


def _end(run: ShadowRun, decided_by: str, reason: str) -> Any:
    return (
        update(adapter_shadow)
        .where(adapter_shadow.c.id == run.id, adapter_shadow.c.ended_at.is_(None))
        .values(ended_at=func.now(), ended_by=decided_by, end_reason=reason)
    )
