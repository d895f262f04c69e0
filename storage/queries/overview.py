"""What the overview asks of the database: each statement is bounded, however much is stored.

Exact numbers come from positions: the records of a partition are numbered without a gap, and halving by time
of receipt finds where a day begins (`storage/record_ranges.py`). What needs every row otherwise, such as the
mix of labels of a day, comes from a sample of record numbers, or from the latest rows by an index.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.queue_item import AUDIT, LABEL_SET_SOURCE, UNDO_SOURCE
from reviews.record_id import OFFSET_BITS
from storage.database import Database
from storage.record_ranges import RecordRange, received
from storage.schema.labels import BY_PEOPLE

LATEST_PREDICTIONS = 5_000
"""The rate is counted over at most so many predictions."""
LATEST_REVIEWS = 500
"""The time from publishing to the row is measured over so many reviews."""
LATEST_AUDITED = 1_000
"""Quality is measured on so many of the latest audited reviews."""
LATEST_ANSWERS = 2_000
"""Agreement is measured on so many of the latest answers."""
MOST_COUNTED = 10_000
"""Open items, answers of a day, and gaps are counted up to this number."""

# What was stored of every topic but that of the labels: each of its records is a review or a dead letter.
_STREAMS = text(f"""
SELECT s.id, s.id::bigint << {OFFSET_BITS} | s.start_offset AS first,
       s.id::bigint << {OFFSET_BITS} | s.next_offset AS next
  FROM stream_partition s WHERE s.topic <> :labels_topic
""")  # noqa: S608  nothing but the constants above
# A partitioned table has no rows of its own: the estimates are those of its partitions.
_ROWS = """(SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
   FROM pg_partition_tree('{table}') part JOIN pg_class c ON c.oid = part.relid WHERE part.isleaf)"""
_TOTALS = text(f"""
SELECT coalesce(sum(s.next_offset - s.start_offset), 0)::bigint AS records,
       {_ROWS.format(table="review")} AS reviews, {_ROWS.format(table="dead_letter")} AS dead_letters,
       pg_database_size(current_database()) AS database_bytes,
       min((SELECT r.received_at FROM review r
             WHERE r.record >= s.id::bigint << {OFFSET_BITS}
               AND r.record < (s.id + 1)::bigint << {OFFSET_BITS}
             ORDER BY r.record LIMIT 1)) AS oldest
  FROM stream_partition s WHERE s.topic <> :labels_topic
""")  # noqa: S608  the same
# Predictions of the last so many seconds, and since when, where they are more than are counted.
_RATE = text(f"""
SELECT count(*), min(scored_at), max(scored_at), now() FROM (
    SELECT p.scored_at FROM prediction p
     WHERE p.scored_at > now() - make_interval(secs => :seconds)
     ORDER BY p.scored_at DESC LIMIT {LATEST_PREDICTIONS}) latest
""")  # noqa: S608  the same
_DELAYS = text(f"""
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds), count(*) FROM (
    SELECT extract(epoch FROM p.scored_at) - r.timestamp_ms / 1000.0 AS seconds
      FROM (SELECT record, scored_at FROM prediction
             WHERE scored_at > now() - make_interval(secs => :seconds)
             ORDER BY scored_at DESC LIMIT {LATEST_REVIEWS}) p
      JOIN review r ON r.record = p.record
     WHERE r.timestamp_ms >= 0) delays
""")  # noqa: S608  the same
_LAST_STORED = text("SELECT max(scored_at) FROM prediction")
_GAPS = text(f"""
SELECT count(*), coalesce(sum(next_offset - first_offset), 0)::bigint, max(found_at)
  FROM (SELECT first_offset, next_offset, found_at FROM stream_gap
         ORDER BY found_at DESC LIMIT {MOST_COUNTED}) gaps
""")  # noqa: S608  the same
_SAMPLE = text("""
SELECT p.record, a.version, p.label, p.probabilities
  FROM unnest(CAST(:records AS bigint[])) AS given (record)
  JOIN prediction p ON p.record = given.record AND p.task = :task
  JOIN adapter a ON a.id = p.adapter_id
""")
# What the audit asked about and people agree on, with the prediction that is stored now.
_AUDITED = text(f"""
SELECT p.record, a.version, p.label, p.probabilities,
       (SELECT c.label FROM label_consensus c WHERE c.record = q.record AND c.task = q.task), r.received_at,
       coalesce(q.draw_weight, 1)
  FROM (SELECT record, task, draw_weight FROM label_task
         WHERE task = :task AND reason = '{AUDIT}'
         ORDER BY state_changed_at DESC LIMIT {LATEST_AUDITED}) q
  JOIN prediction p ON p.record = q.record AND p.task = q.task
  JOIN review r ON r.record = q.record
  JOIN adapter a ON a.id = p.adapter_id
 ORDER BY r.received_at
""")  # noqa: S608  the same
_QUEUE = text(f"""
SELECT (SELECT count(*) FROM (SELECT FROM label_task WHERE task = :task AND state = 'open'
                               LIMIT {MOST_COUNTED}) items) AS open_items,
       (SELECT count(*) FROM (SELECT FROM label
                               WHERE task = :task AND received_at >= :since
                                 AND source NOT IN ('{UNDO_SOURCE}', '{LABEL_SET_SOURCE}')
                                 AND {BY_PEOPLE}
                               LIMIT {MOST_COUNTED}) answers) AS answers
""")  # noqa: S608  the same
# Pairs of people whose latest answers to one review name a label, and how many name the same one.
_AGREEMENT = text(f"""
WITH latest AS (
    SELECT DISTINCT ON (l.record, l.annotator) l.record, l.annotator, l.label
      FROM (SELECT id, record, annotator, label, labelled_at FROM label
             WHERE task = :task AND {BY_PEOPLE} ORDER BY received_at DESC LIMIT {LATEST_ANSWERS}) l
     ORDER BY l.record, l.annotator, l.labelled_at DESC, l.id DESC)
SELECT count(*), count(*) FILTER (WHERE one.label = other.label)
  FROM latest one JOIN latest other ON other.record = one.record AND other.annotator > one.annotator
 WHERE one.label IS NOT NULL AND other.label IS NOT NULL
""")  # noqa: S608  the same

Positions = Mapping[int, int]
"""The first record that was received at a moment or later, by the id of its partition."""


class StoredTotals(NamedTuple):
    """How much is stored.

    Attributes:
        records: Records read from Kafka so far, exactly: each is a review or a dead letter.
        reviews: Rows of reviews, versions included, as PostgreSQL's statistics estimate them.
        dead_letters: Rows of dead letters, estimated as well.
        database_bytes: Size of the database on disk.
        oldest: When the oldest stored review was received (UTC); None before the first.
    """

    records: int
    reviews: int
    dead_letters: int
    database_bytes: int
    oldest: datetime | None


class StoringRate(NamedTuple):
    """How fast reviews were stored of late.

    Attributes:
        per_second: Predictions a second.
        last_stored: When the last review ever was scored (UTC); None before the first.
        now: The database's clock (UTC).
    """

    per_second: float
    last_stored: datetime | None
    now: datetime


class StoringDelays(NamedTuple):
    """The time from Kafka's timestamp to the row, of the latest reviews.

    Attributes:
        median_seconds: None where there were none.
        p95_seconds: None where there were none.
        reviews: Of how many.
    """

    median_seconds: float | None
    p95_seconds: float | None
    reviews: int


class LostOffsets(NamedTuple):
    """Offsets that were never read.

    Attributes:
        gaps: How many ranges.
        records: How many offsets.
        latest: When the last one was found (UTC).
    """

    gaps: int
    records: int
    latest: datetime | None


class SampledPrediction(NamedTuple):
    """One prediction of a sample.

    Attributes:
        record: Of which record.
        version: By which adapter.
        label: The label it gave.
        probabilities: In the order of that adapter's labels.
    """

    record: int
    version: str
    label: str
    probabilities: Sequence[float]


class AuditedReview(NamedTuple):
    """One review that the audit drew and people agree on.

    Attributes:
        record: Which.
        version: The adapter whose prediction is stored.
        label: The label that it gave.
        probabilities: In the order of that adapter's labels.
        truth: What people agree on.
        received_at: When the review came (UTC).
        draw_weight: How much it counts, in (0, 1]: what was drawn with a greater chance counts less.
    """

    record: int
    version: str
    label: str
    probabilities: Sequence[float]
    truth: str
    received_at: datetime
    draw_weight: float = 1.0


class QueueState(NamedTuple):
    """The annotation queue of a task.

    Attributes:
        open_items: Up to :data:`MOST_COUNTED`.
        answers: Since a moment, up to :data:`MOST_COUNTED`.
        pairs: Pairs of answers of two annotators to one review, among the latest answers.
        agreeing: How many of these pairs name the same label.
    """

    open_items: int
    answers: int
    pairs: int
    agreeing: int


class OverviewStore:
    """Reads the overview's numbers.

    Args:
        database: Where from.
        labels_topic: The topic of the labels, whose records are no reviews.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, labels_topic: str) -> None:
        self._database = database
        self._topic = {"labels_topic": labels_topic}

    def totals(self) -> StoredTotals:
        """How much is stored."""
        return StoredTotals(*self._database.fetch(_TOTALS, self._topic)[0])

    def positions(self, moments: Sequence[datetime]) -> dict[datetime, dict[int, int]]:
        """For each moment the first record of each partition that was received then or later."""
        ranges = {
            row.id: RecordRange(row.first, row.next) for row in self._database.fetch(_STREAMS, self._topic)
        }
        return received(self._database, ranges, moments)

    def rate(self, seconds: float) -> StoringRate:
        """How fast reviews were stored within the last so many seconds."""
        count, first, last, now = self._database.fetch(_RATE, {"seconds": seconds})[0]
        if not count:
            return StoringRate(0.0, self._database.fetch_value(_LAST_STORED), now)
        span = (now - first).total_seconds() if count == LATEST_PREDICTIONS else seconds
        return StoringRate(count / max(span, 1e-3), last, now)

    def delays(self, seconds: float) -> StoringDelays:
        """The time from publishing to the row, of the latest reviews within the last so many seconds."""
        shares, reviews = self._database.fetch(_DELAYS, {"seconds": seconds})[0]
        median, p95 = shares or (None, None)
        return StoringDelays(median, p95, reviews)

    def gaps(self) -> LostOffsets:
        """Offsets that were never read."""
        return LostOffsets(*self._database.fetch(_GAPS)[0])

    def sample(self, task: str, records: Sequence[int]) -> list[SampledPrediction]:
        """The predictions of these records; dead letters among them are left out."""
        rows = self._database.fetch(_SAMPLE, {"task": task, "records": list(records)})
        return [SampledPrediction(*row) for row in rows]

    def audited(self, task: str) -> list[AuditedReview]:
        """The latest audited reviews that people agree on, in order of arrival."""
        rows = self._database.fetch(_AUDITED, {"task": task})
        return [AuditedReview(*row) for row in rows if row[4] is not None]

    def queue(self, task: str, since: datetime) -> QueueState:
        """The queue of a task, with the answers since a moment."""
        row = self._database.fetch(_QUEUE, {"task": task, "since": since})[0]
        pairs, agreeing = self._database.fetch(_AGREEMENT, {"task": task})[0]
        return QueueState(row.open_items, row.answers, pairs, agreeing)
