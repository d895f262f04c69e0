"""Rescoring jobs: ranges of records that workers share, and the replacement of their predictions.

A range moves on (`done_record`) in the transaction that writes its rows, under the lock of its own row and
for the holder of its token alone. So a worker may be killed or frozen at any moment: the next one goes on
where the last commit ended.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.rescoring import Claim, RangeLost, Rescored, RescoreJob, RescoreProgress, StoredText
from storage.adapters.registry import adapter_id
from storage.copying import RESCORED_COPY, RESCORED_TYPES, copy_rows, prediction_values
from storage.database import Database
from storage.schema.adapters import adapter as adapter_table
from storage.schema.adapters import rescore_job
from storage.stream.sinks import mark_rescored

# The ranges end at the stored offsets of now: later records are scored by the adapter that is active then.
_MAKE_RANGES = text("""
INSERT INTO rescore_range (job_id, first_record, next_record, done_record)
SELECT :job, first, LEAST(first + :size, (id::bigint << 40) + next_offset), first
  FROM stream_partition,
       generate_series((id::bigint << 40) + start_offset, (id::bigint << 40) + next_offset - 1, :size)
           AS first
 WHERE CAST(:topics AS text[]) IS NULL OR topic = ANY(CAST(:topics AS text[]))
""")
# Who held the range before, and was frozen or killed, has a lesser token and writes nothing any more.
_CLAIM = text("""
UPDATE rescore_range
   SET holder = :holder, lease_token = lease_token + 1, lease_expires_at = now() + :seconds * interval '1 s'
 WHERE job_id = :job
   AND EXISTS (SELECT FROM rescore_job WHERE id = :job AND state = 'running')
   AND first_record = (
         SELECT first_record FROM rescore_range
          WHERE job_id = :job AND finished_at IS NULL
            AND (lease_expires_at IS NULL OR lease_expires_at < now() OR holder = :holder)
          ORDER BY first_record LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING job_id, first_record, next_record, done_record, lease_token
""")
# Reviews after the bound of bytes never leave the server; the first one does however long it is.
_READ = text("""
WITH next AS (
SELECT r.record, r.review_id, r.text, p.adapter_id
  FROM published_review r
  LEFT JOIN prediction p ON p.record = r.record AND p.task = :task
 WHERE r.record >= :done AND r.record < :next
   AND (CAST(:since AS timestamptz) IS NULL OR r.received_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR r.received_at < :until)
   AND p.adapter_id IS DISTINCT FROM (SELECT id FROM adapter WHERE version = :version)
 ORDER BY r.record LIMIT :limit)
SELECT record, review_id, text, adapter_id
  FROM (SELECT *, sum(octet_length(text)) OVER (ORDER BY record) AS bytes FROM next) AS summed
 WHERE bytes <= :max_bytes OR bytes = octet_length(text)
 ORDER BY record
""")
# Locks the range and its job, if the claim still holds: how far the range is.
_FENCE = text("""
SELECT g.done_record FROM rescore_range g JOIN rescore_job j ON j.id = g.job_id
 WHERE g.job_id = :job AND g.first_record = :first AND g.lease_token = :token AND j.state = 'running'
   FOR UPDATE OF g FOR SHARE OF j
""")
# The compare-and-set: only where the adapter that was read is still the current one. What an adapter said
# before is in the history once, however often it comes and goes.
_MOVE_TO_HISTORY = text("""
WITH taken AS (
    DELETE FROM prediction p
     USING unnest(CAST(:records AS bigint[]), CAST(:adapters AS integer[])) AS expected (record, adapter_id)
     WHERE p.record = expected.record AND p.task = :task AND p.adapter_id = expected.adapter_id
 RETURNING p.*)
INSERT INTO prediction_history (record, task, adapter_id, reason, label, confidence, probabilities, margin,
                                entropy, truncated, scored_at)
SELECT record, task, adapter_id, 'replaced', label, confidence, probabilities, margin, entropy, truncated,
       scored_at
  FROM taken
    ON CONFLICT (record, task, adapter_id) DO UPDATE
   SET reason = 'replaced', label = EXCLUDED.label, confidence = EXCLUDED.confidence,
       probabilities = EXCLUDED.probabilities, margin = EXCLUDED.margin, entropy = EXCLUDED.entropy,
       truncated = EXCLUDED.truncated, scored_at = EXCLUDED.scored_at, kept_at = now()
RETURNING record
""")
# A record has one embedding for a task: the one by the adapter of its prediction.
_KEEP_EMBEDDING = text("""
INSERT INTO embedding (record, task, adapter_id, reason, vector)
VALUES (:record, :task, :adapter, :reason, :vector)
    ON CONFLICT (record, task) DO UPDATE
   SET adapter_id = EXCLUDED.adapter_id, reason = EXCLUDED.reason, vector = EXCLUDED.vector
""")
# The range goes on behind what was done, and its lease begins anew.
_MOVE_ON = text("""
UPDATE rescore_range
   SET done_record = :done, replaced = replaced + :replaced, refused = refused + :refused,
       lease_expires_at = now() + :seconds * interval '1 s',
       finished_at = CASE WHEN :done = next_record THEN now() END
 WHERE job_id = :job AND first_record = :first
""")
_RELEASE = text("""
UPDATE rescore_range SET lease_expires_at = NULL
 WHERE job_id = :job AND first_record = :first AND lease_token = :token
""")
# A job whose ranges are all finished is done.
_FINISH = text("""
UPDATE rescore_job SET state = 'done', finished_at = now()
 WHERE id = :job AND state = 'running'
   AND NOT EXISTS (SELECT FROM rescore_range WHERE job_id = :job AND finished_at IS NULL)
""")
# Records in all, records done, predictions replaced, texts refused, ranges in all, ranges left.
_PROGRESS = text("""
SELECT COALESCE(sum(next_record - first_record), 0), COALESCE(sum(done_record - first_record), 0),
       COALESCE(sum(replaced), 0), COALESCE(sum(refused), 0), count(*),
       count(*) FILTER (WHERE finished_at IS NULL)
  FROM rescore_range WHERE job_id = :job
""")


class RescoreStore:
    """Makes jobs, hands out their ranges, and writes what became of them.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, lease_seconds: float = 60) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    def create(
        self,
        adapter: AdapterVersion,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        range_records: int = 10_000,
        topics: Collection[str] | None = None,
    ) -> RescoreJob:
        """A job over everything that is stored now.

        Args:
            adapter: The adapter that the reviews get.
            since: Only those received at or after this moment.
            until: Only those received before this moment.
            range_records: Offsets in a range, which one worker works on at a time.
            topics: Only what came from these; None: from any.

        Raises:
            WrongUse: If a job of the task runs already.
        """
        with self._database.begin() as connection:
            number = adapter_id(connection, adapter.version)
            values = {"task": adapter.task, "adapter_id": number, "since": since, "until": until}
            try:
                job_id = connection.execute(
                    insert(rescore_job).values(values).returning(rescore_job.c.id)
                ).scalar_one()
            except IntegrityError as err:
                raise WrongUse(
                    f"Reviews of the task '{adapter.task}' are being rescored already: join in by "
                    "'reviewloop rescore --resume JOB' ('--status' shows it), or end that by '--cancel'."
                ) from err
            given = {"job": job_id, "size": range_records, "topics": None if topics is None else list(topics)}
            connection.execute(_MAKE_RANGES, given)
            return _find(connection, job_id)

    def find(self, job_id: int) -> RescoreJob:
        """One job.

        Raises:
            WrongUse: If there is none with this number.
        """
        with self._database.begin() as connection:
            return _find(connection, job_id)

    def latest(self, task: str | None = None, limit: int = 10) -> list[RescoreJob]:
        """The latest jobs, newest first."""
        query = _jobs().order_by(rescore_job.c.id.desc()).limit(limit)
        if task is not None:
            query = query.where(rescore_job.c.task == task)
        return [RescoreJob(*row) for row in self._database.fetch(query)]

    def cancel(self, task: str) -> RescoreJob | None:
        """End the running job of a task; what it did stays. None: none runs."""
        statement = (
            update(rescore_job)
            .where(rescore_job.c.task == task, rescore_job.c.state == "running")
            .values(state="cancelled", finished_at=text("now()"))
            .returning(rescore_job.c.id)
        )
        with self._database.begin() as connection:
            job_id = connection.execute(statement).scalar()
            return None if job_id is None else _find(connection, job_id)

    def claim(self, job: RescoreJob, holder: str) -> Claim | None:
        """A range that nobody works on, from where it is; None: all are finished, held or cancelled."""
        values = {"job": job.id, "holder": holder, "seconds": self._lease_seconds}
        row = self._database.fetch_one(_CLAIM, values)
        return Claim(*row) if row else None

    def read(self, job: RescoreJob, claim: Claim, limit: int, max_bytes: int) -> list[StoredText]:
        """The next reviews of a range that have no prediction of the job's adapter, in order of record.

        Args:
            job: The job.
            claim: The range.
            limit: At most so many reviews.
            max_bytes: Their texts have at most so many bytes of UTF-8 together; one may have more alone.
        """
        values = {
            "task": job.task,
            "version": job.version,
            "since": job.since,
            "until": job.until,
            "done": claim.done_record,
            "next": claim.next_record,
            "limit": limit,
            "max_bytes": max_bytes,
        }
        return [StoredText(*row) for row in self._database.fetch(_READ, values)]

    def commit(
        self, job: RescoreJob, claim: Claim, done_record: int, rescored: Sequence[Rescored], refused: int
    ) -> Claim:
        """Exchange predictions and move the range on, in one transaction.

        Args:
            job: The job.
            claim: As it was when the reviews were read.
            done_record: Everything before it is done by this.
            rescored: What the reviews get.
            refused: How many the model failed on.

        Returns:
            The claim from here on.

        Raises:
            RangeLost: If somebody else claimed the range or moved it on, or the job was cancelled.
            Unavailable: If the database does not answer; the transaction may have been committed all the
                same, which a repeated call finds out: it raises RangeLost.
        """
        place = {"job": claim.job_id, "first": claim.first_record, "token": claim.token}
        with self._database.begin() as connection:
            if connection.execute(_FENCE, place).scalar() != claim.done_record:
                raise RangeLost(f"The range at record {claim.first_record} is in other hands: it is left.")
            replaced = _exchange(connection, job, rescored)
            moved = {"done": done_record, "replaced": replaced, "refused": refused}
            connection.execute(_MOVE_ON, place | moved | {"seconds": self._lease_seconds})
        return claim._replace(done_record=done_record)

    def release(self, claim: Claim) -> None:
        """Let others take the range at once."""
        values = {"job": claim.job_id, "first": claim.first_record, "token": claim.token}
        self._database.execute(_RELEASE, values)

    def finish(self, job: RescoreJob) -> RescoreJob:
        """Mark the job done if all of its ranges are; the job as it is now."""
        with self._database.begin() as connection:
            connection.execute(_FINISH, {"job": job.id})
            return _find(connection, job.id)

    def progress(self, job: RescoreJob) -> RescoreProgress:
        """How far the job is, by all its workers together."""
        row = self._database.fetch(_PROGRESS, {"job": job.id})[0]
        return RescoreProgress(*map(int, row))


def _exchange(connection: Connection, job: RescoreJob, rescored: Sequence[Rescored]) -> int:
    """Put new predictions in the place of those that were read; how many became current."""
    old = [item for item in rescored if item.replaces is not None]
    values = {
        "task": job.task,
        "records": [item.record for item in old],
        "adapters": [item.replaces for item in old],
    }
    free = set(connection.execute(_MOVE_TO_HISTORY, values).scalars()) if old else set()
    free |= {item.record for item in rescored if item.replaces is None}
    number = adapter_id(connection, job.version)
    current, scored_at = [item for item in rescored if item.record in free], datetime.now(UTC)
    copy_rows(
        connection,
        RESCORED_COPY,
        RESCORED_TYPES,
        ((*prediction_values(item.record, number, item.prediction, scored_at), job.id) for item in current),
    )
    mark_rescored(connection, job.task, [item.record for item in current])
    kept = [
        {"record": item.record, "task": job.task, "adapter": number}
        | {"reason": item.kept.reason, "vector": item.kept.vector}
        for item in current
        if item.kept is not None
    ]
    if kept:
        connection.execute(_KEEP_EMBEDDING, kept)
    return len(current)


def _jobs() -> Select[Any]:
    return select(
        rescore_job.c.id,
        rescore_job.c.task,
        adapter_table.c.version,
        rescore_job.c.since,
        rescore_job.c.until,
        rescore_job.c.state,
        rescore_job.c.created_at,
        rescore_job.c.finished_at,
    ).join(adapter_table, adapter_table.c.id == rescore_job.c.adapter_id)


def _find(connection: Connection, job_id: int) -> RescoreJob:
    row = connection.execute(_jobs().where(rescore_job.c.id == job_id)).one_or_none()
    if row is None:
        raise WrongUse(f"There is no rescoring job {job_id}: 'reviewloop rescore --status' shows them.")
    return RescoreJob(*row)
