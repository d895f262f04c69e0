"""Runs of the trainer: everything about one is written in a transaction that holds the run's lease.

So a trainer that lost its lease can neither promote nor change what its successor wrote about it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, text, update

from reviews.adapter import Activation, AdapterVersion
from reviews.errors import WrongUse
from reviews.training_run import TrainingItem, TrainingRun
from storage.adapters.registry import activation, insert_activation
from storage.database import Database
from storage.learning.leases import Lease, require_held
from storage.learning.run_requests import begin
from storage.lifecycle.seen import require_unseen
from storage.schema.learning import training_item, training_run

Decision = Literal["kept", "waiting"]
MOST_NEW_LABELS = 100_000
"""New answers are counted up to this number: it is looked at every minute."""

# The holder of the lease is alone: an unfinished run of the task is one whose process ended. A run that had
# decided already keeps its state, and what it decided.
_ABANDON = text(
    "UPDATE training_run SET state = CASE state WHEN 'running' THEN 'failed' ELSE state END, "
    "error = coalesce(error, 'The process ended or lost its lease in the stage ''' || stage || '''.'), "
    "finished_at = clock_timestamp() WHERE task = :task AND finished_at IS NULL"
)
_FAIL = text(
    "UPDATE training_run SET state = CASE state WHEN 'running' THEN 'failed' ELSE state END, "
    "error = :error, finished_at = clock_timestamp() WHERE id = :run"
)
# The check that a verdict holds when it compared two adapters: each such look at the test rows counts.
_ATTEMPTS = text("""
SELECT count(*) FROM training_run
 WHERE task = :task AND jsonb_path_exists(verdict, CAST(:compared AS jsonpath))
   AND id > coalesce((SELECT max(id) FROM training_run WHERE task = :task AND state = 'promoted'), 0)
""")
FIRST_REVIEWS = 1_000
# What came in since the last run of a task began: answers of people, drift of the active adapter, and the
# first reviews of a zero-shot one.
_PENDING = text("""
SELECT (SELECT count(*) FROM (SELECT FROM label l WHERE l.task = :task AND l.received_at > last.began
                                  AND NOT starts_with(l.annotator, 'model:')
                               LIMIT :most) newest) AS new_labels,
       EXISTS (SELECT FROM drift_report d
                WHERE d.task = :task AND d.verdict = 'drift' AND d.wants_training
                  AND d.created_at > last.began
                  AND d.measures ->> 'adapter' = (
                      SELECT version FROM active_adapter WHERE task = :task)) AS is_drifting,
       EXISTS (SELECT FROM active_adapter a JOIN adapter d ON d.version = a.version
                WHERE a.task = :task AND d.origin = 'zero-shot' AND a.activated_at > last.began)
       AND (SELECT count(*) FROM (SELECT FROM prediction WHERE task = :task LIMIT :enough) first)
           >= :enough AS has_first_reviews
  FROM (SELECT coalesce(max(started_at), '-infinity') AS began FROM training_run WHERE task = :task) last
""")
_MOST_PARENTS = 100
# A circle of parents, which no fit makes, ends there as well.
_TRAINED_ON = text("""
WITH RECURSIVE line (version, place) AS (
    SELECT CAST(:adapter AS text), 0
    UNION
    SELECT a.parent, line.place + 1
      FROM line JOIN adapter a ON a.version = line.version
     WHERE a.parent IS NOT NULL AND line.place < :most)
SELECT DISTINCT i.record
  FROM training_item i
 WHERE i.run_id = ANY (ARRAY(
           SELECT r.id FROM training_run r WHERE r.candidate_adapter IN (SELECT version FROM line)))
   AND i.slice IN ('train', 'validation')
""")
_COLUMNS = [training_run.c[name] for name in TrainingRun.__dataclass_fields__]


class TrainingRunStore:
    """Records runs as they go, and reads them.

    Raises:
        LeaseLost: From every method that takes a lease, if it is not held any more; nothing was changed.
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        task: str,
        trigger: str,
        lease: Lease,
        config: Mapping[str, Any],
        active_version: str | None,
        *,
        request: int | None = None,
    ) -> int:
        """A new run's number; unfinished runs of the task are marked failed, for their process is gone.

        A second call under the same lease returns the number of the run that the first one began.

        Args:
            task: Whose adapter is trained.
            trigger: What started the run.
            lease: Held by the caller.
            config: Settings and seed.
            active_version: Of the active adapter; None before the first.
            request: The request that becomes this run.

        Raises:
            WrongUse: If the request is not open any more; nothing was begun.
        """
        statement = insert(training_run).values(
            task=task,
            trigger=trigger,
            lease_token=lease.token,
            config=dict(config),
            active_adapter=active_version,
        )
        begun = select(training_run.c.id).where(
            training_run.c.task == task,
            training_run.c.lease_token == lease.token,
            training_run.c.finished_at.is_(None),
        )
        with self._holding(lease) as connection:
            number: int | None = connection.execute(begun).scalar()
            if number is None:
                connection.execute(_ABANDON, {"task": task})
                number = int(connection.execute(statement.returning(training_run.c.id)).scalar_one())
                if request is not None:
                    begin(connection, request, task, number)
        return number

    def reach(self, run: int, lease: Lease, stage: str) -> None:
        """Record that a run has reached a stage."""
        with self._holding(lease) as connection:
            _write(connection, run, stage=stage)

    def keep_dataset(
        self, run: int, lease: Lease, items: Sequence[TrainingItem], manifest: Mapping[str, Any]
    ) -> None:
        """Keep a run's dataset, in place of one kept before: records, slices, labels and weights."""
        rows = [{"run_id": run, **item._asdict()} for item in items]
        with self._holding(lease) as connection:
            connection.execute(delete(training_item).where(training_item.c.run_id == run))
            if rows:
                connection.execute(insert(training_item), rows)
            _write(connection, run, manifest=dict(manifest))

    def note_progress(self, run: int, lease: Lease, progress: Mapping[str, Any]) -> None:
        """Keep how far the fits of a run are."""
        with self._holding(lease) as connection:
            _write(connection, run, progress=dict(progress))

    def decide(
        self,
        run: int,
        lease: Lease,
        state: Decision,
        *,
        verdict: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        candidate: str | None = None,
    ) -> None:
        """Record how a run ends where nothing is promoted; it may have work left to do."""
        with self._holding(lease) as connection:
            _write(
                connection,
                run,
                state=state,
                verdict=None if verdict is None else dict(verdict),
                metrics=None if metrics is None else dict(metrics),
                candidate_adapter=candidate,
            )

    def promote(
        self,
        run: int,
        lease: Lease,
        candidate: AdapterVersion,
        *,
        expected: Activation | None,
        reason: str,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> Activation:
        """Let a run's adapter take over, and record that it did, in one transaction (I7).

        A second call changes nothing: a run promotes once.

        Args:
            run: Which.
            lease: Held by the caller.
            candidate: A registered adapter.
            expected: The activation that the run began with.
            reason: In a sentence.
            verdict: The gate's report.
            metrics: What was measured.

        Raises:
            ActivationConflict: If another adapter took over meanwhile; nothing was changed.
            AdapterError: If a review of the run's dataset was erased meanwhile.
        """
        with self._holding(lease) as connection:
            before = connection.execute(
                select(training_run.c.activation_id).where(training_run.c.id == run)
            ).scalar()
            if before is not None:
                return activation(connection, before)
            require_unseen(connection, candidate.version, run)
            done = insert_activation(
                connection, candidate, expected=expected, decided_by=f"training run {run}", reason=reason
            )
            _write(
                connection, run, state="promoted", verdict=dict(verdict), metrics=dict(metrics),
                candidate_adapter=candidate.version, activation_id=done.id,
            )  # fmt: skip
        return done

    def close(self, run: int, lease: Lease) -> None:
        """Record that nothing is left to do."""
        with self._holding(lease) as connection:
            _write(connection, run, stage="done")
            connection.execute(
                text("UPDATE training_run SET finished_at = clock_timestamp() WHERE id = :run"), {"run": run}
            )

    def fail(self, run: int, lease: Lease, error: str) -> None:
        """Record why a run ended early; what it had decided before stays decided."""
        with self._holding(lease) as connection:
            connection.execute(_FAIL, {"run": run, "error": error})

    def comparisons(self, task: str, check: str) -> int:
        """How many runs since the last promotion compared their candidate with the active adapter.

        Args:
            task: Whose adapters.
            check: The name of the check that compares, in the verdict's ``checks``.
        """
        compared = f'$.checks[*].name ? (@ == "{check}")'
        return int(self._database.fetch_value(_ATTEMPTS, {"task": task, "compared": compared}))

    def history(
        self, task: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[TrainingRun]:
        """Runs, newest first; ``before``: only those with smaller numbers."""
        query = select(*_COLUMNS).order_by(training_run.c.id.desc()).limit(limit)
        if task is not None:
            query = query.where(training_run.c.task == task)
        if before is not None:
            query = query.where(training_run.c.id < before)
        return [TrainingRun(*row) for row in self._database.fetch(query)]

    def last_began(self, task: str) -> datetime | None:
        """When the last run of a task began, however it ended; None before the first."""
        query = select(func.max(training_run.c.started_at)).where(training_run.c.task == task)
        moment: datetime | None = self._database.fetch_value(query)
        return moment

    def show(self, run: int) -> TrainingRun:
        """One run.

        Raises:
            WrongUse: If there is none of that number.
        """
        row = self._database.fetch_one(select(*_COLUMNS).where(training_run.c.id == run))
        if row is None:
            raise WrongUse(f"There is no training run {run}: 'reviewloop trainer history' shows them.")
        return TrainingRun(*row)

    def makers(self, versions: Sequence[str]) -> dict[str, int]:
        """The training run that made each adapter, by version; the others are left out."""
        query = select(training_run.c.candidate_adapter, func.max(training_run.c.id))
        made = query.where(training_run.c.candidate_adapter.in_(versions)).group_by(
            training_run.c.candidate_adapter
        )
        return {row[0]: row[1] for row in self._database.fetch(made)}

    def items(self, run: int) -> list[TrainingItem]:
        """The frozen dataset of a run, by record."""
        columns = [training_item.c[name] for name in TrainingItem._fields]
        query = select(*columns).where(training_item.c.run_id == run).order_by(training_item.c.record)
        return [TrainingItem(*row) for row in self._database.fetch(query)]

    def trained_on(self, adapter: str) -> frozenset[int]:
        """The records that an adapter was trained on, or chosen by; none where no run made it.

        A head alone may be trained on the validation rows, and what LoRA keeps is chosen by them. What it
        continues from was trained as well: the adapters before it count, back to the 100th.
        """
        given = {"adapter": adapter, "most": _MOST_PARENTS}
        return frozenset(self._database.fetch_values(_TRAINED_ON, given))

    @contextmanager
    def _holding(self, lease: Lease) -> Iterator[Connection]:
        with self._database.begin() as connection:
            require_held(connection, lease)
            yield connection


def _write(connection: Connection, run: int, **values: Any) -> None:
    """Change what is given; None leaves a column as it is."""
    given = {name: value for name, value in values.items() if value is not None}
    connection.execute(update(training_run).where(training_run.c.id == run).values(given))


@dataclass(frozen=True, slots=True)
class Pending:
    """What came in since the last run of a task, however that run ended.

    Attributes:
        new_labels: Answers of people since it began, up to :data:`MOST_NEW_LABELS`.
        is_drifting: Whether a drift report of the active adapter asked for a run since. What a run
            reports itself asks for no other, or drift that stays would train without an end.
        has_first_reviews: Whether a zero-shot adapter that no run has seen yet has scored
            :data:`FIRST_REVIEWS` reviews: enough to standardise it on, and to ask the first questions.
    """

    new_labels: int
    is_drifting: bool
    has_first_reviews: bool = False


def read_pending(database: Database, task: str) -> Pending:
    """What came in since the last run of a task."""
    given = {"task": task, "most": MOST_NEW_LABELS, "enough": FIRST_REVIEWS}
    row = database.fetch(_PENDING, given)[0]
    return Pending(row.new_labels, row.is_drifting, row.has_first_reviews)
