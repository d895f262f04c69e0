"""Windows of the scored stream in bounded memory: sums in SQL, samples, new rows."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from reviews.drift import ActiveAdapter, Course, Span, StoredReview
from reviews.record_id import OFFSET_BITS
from storage.database import Database

Positions = dict[int, int]
"""The record that comes next, by the id of its partition."""

_LONG_READ_SECONDS = 600  # a report over millions of rows may take longer than the usual statement
_BEHIND = timedelta(microseconds=1)
_ALL_DRAWN = 1 << 20

_ACTIVE = text(
    "SELECT task, adapter_id, version, labels, activated_at FROM active_adapter WHERE task = :task"
)
# What was scored anew is no part of the stream since the promotion, however lately that happened.
_LIVE = """p.adapter_id = :adapter_id AND p.task = :task
   AND NOT EXISTS (SELECT FROM prediction_history h
                    WHERE h.record = p.record AND h.task = p.task AND h.reason = 'replaced')"""
_SINCE = f"{_LIVE} AND p.scored_at >= :since"
_IN_SPAN = f"{_SINCE} AND p.scored_at < :until"
# When the adapter scored its nth review, its last one, the nth before the end of a span; how many in a span.
_NTH = text(f"SELECT p.scored_at FROM prediction p WHERE {_SINCE} ORDER BY p.scored_at OFFSET :nth LIMIT 1")  # noqa: S608
_LAST = text(f"SELECT max(p.scored_at) FROM prediction p WHERE {_SINCE}")  # noqa: S608
_NTH_LAST = text(
    f"SELECT p.scored_at FROM prediction p WHERE {_IN_SPAN} ORDER BY p.scored_at DESC OFFSET :nth LIMIT 1"  # noqa: S608
)
_COUNT = text(f"SELECT count(*) FROM prediction p WHERE {_IN_SPAN}")  # noqa: S608
# A hash of the record, or of its run, draws the sample: the same rows each time, whatever the plan. Knuth's
# multiplier; 20 bits of an offset are enough, and nothing overflows.
_DRAWN = "((p.record >> :run_bits & 1048575) * 2654435761 >> 12 & 1048575) < :share"
# Only what the audit drew is audit truth: labels that came by themselves say nothing of the stream.
_BY_AUDIT = (
    "EXISTS (SELECT FROM label_task q WHERE q.record = p.record AND q.task = p.task AND q.reason = 'audit')"
)
_COLUMNS = f"""
SELECT p.record, r.review_id, r.text, r.product, r.source, r.published_at, p.scored_at, p.probabilities,
       (SELECT c.label FROM label_consensus c WHERE c.record = p.record AND c.task = p.task AND {_BY_AUDIT}),
       e.vector, e.reason
  FROM prediction p JOIN published_review r ON r.record = p.record
  LEFT JOIN embedding e ON e.record = p.record AND e.task = p.task AND e.adapter_id = p.adapter_id
"""  # noqa: S608  made of this module's own constants
_SAMPLE = text(f"{_COLUMNS} WHERE {_IN_SPAN} AND {_DRAWN} ORDER BY p.scored_at, p.record")
_NEW = text(f"""{_COLUMNS}
 WHERE {_LIVE} AND p.record >= :first AND p.record < :next ORDER BY p.record LIMIT :limit
""")
_BY_RECORD = text(f"{_COLUMNS} WHERE p.task = :task AND p.record = ANY(:records)")
_COURSE = text(f"""
SELECT date_bin(:width, p.scored_at, :since) AS starts_at, p.label, count(*), avg(p.confidence),
       avg(char_length(r.text))
  FROM prediction p JOIN published_review r ON r.record = p.record
 WHERE {_IN_SPAN}
 GROUP BY 1, 2 ORDER BY 1, 2
""")  # noqa: S608  made of this module's own constants
# The audit's few items lead to their labels and predictions, however many of those there are.
_AUDITED = text("""
SELECT truth, predicted, count(*)
  FROM (SELECT (SELECT c.label FROM label_consensus c WHERE c.record = q.record AND c.task = q.task) AS truth,
               p.label AS predicted
          FROM label_task q
          JOIN prediction p ON p.record = q.record AND p.task = q.task
          JOIN adapter a ON a.id = p.adapter_id AND a.version = :version
         WHERE q.task = :task AND q.reason = 'audit'
           AND p.scored_at >= :since AND p.scored_at < :until) audited
 WHERE truth IS NOT NULL GROUP BY 1, 2
""")
# For each partition the record behind the last one that was scored for a task before a moment.
_POSITIONS = text("""
SELECT s.id, coalesce((SELECT max(p.record) + 1 FROM prediction p
                        WHERE p.record >= s.id::bigint << :bits AND p.record < (s.id + 1)::bigint << :bits
                          AND p.task = :task AND p.scored_at < :until), s.id::bigint << :bits)
  FROM stream_partition s
""")
# For each partition the record that will be stored next.
_ENDS = text("SELECT id, id::bigint << :bits | next_offset FROM stream_partition")


class WindowStore:
    """Reads what was scored.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def active(self, task: str) -> ActiveAdapter | None:
        """The active adapter of a task; None before the first."""
        row = self._database.fetch_one(_ACTIVE, {"task": task})
        return ActiveAdapter(row[0], row[1], row[2], tuple(row[3]), row[4]) if row else None

    def first_reviews(self, adapter: ActiveAdapter, reviews: int, season: timedelta = timedelta(0)) -> Span:
        """From the promotion to the end of its first so many reviews, or of all where there are fewer.

        Args:
            adapter: Which one.
            reviews: How many.
            season: How long the span is at least.
        """
        values = {**_since_promotion(adapter), "nth": reviews - 1}
        end = self._database.fetch_value(_NTH, values) or self.last_scored(adapter)
        since = adapter.activated_at
        until = max(since + season, since if end is None else end + _BEHIND)
        return Span(adapter.task, adapter.adapter_id, since, until)

    def last_scored(self, adapter: ActiveAdapter) -> datetime | None:
        """When the adapter scored last; None where it did not yet."""
        found: datetime | None = self._database.fetch_value(_LAST, _since_promotion(adapter))
        return found

    def last_reviews(self, span: Span, reviews: int) -> datetime | None:
        """When the last so many reviews of a span begin; None where it has fewer."""
        found: datetime | None = self._database.fetch_value(_NTH_LAST, {**_values(span), "nth": reviews - 1})
        return found

    def count(self, span: Span) -> int:
        """How many reviews were scored in a span."""
        return int(self._database.fetch_value(_COUNT, _values(span)))

    def sample(self, span: Span, reviews: int, run_bits: int = 0) -> Iterator[StoredReview]:
        """About so many reviews of a span in the order of scoring, or all where there are fewer.

        Drawn by a hash of their records: always the same ones, and each as likely as another.

        Args:
            span: Of which span.
            reviews: How many.
            run_bits: Neighbours whose offsets differ in their last bits only, so many of them, are drawn
                together in every partition: the sample then has the bursts of the stream.
        """
        count = self.count(span)
        share = _ALL_DRAWN if count <= reviews else int(_ALL_DRAWN * reviews / count)
        with self._database.begin() as connection:
            _allow_long_read(connection)
            values = {**_values(span), "share": share, "run_bits": run_bits}
            rows = connection.execute(_SAMPLE, values, execution_options={"yield_per": 1000})
            for row in rows:
                yield StoredReview(*row)

    def course(self, span: Span, width: timedelta) -> list[Course]:
        """Sums over every review of a span, by stretches of time and label."""
        with self._database.begin() as connection:
            _allow_long_read(connection)
            rows = connection.execute(_COURSE, {**_values(span), "width": width})
            return [Course(row[0], row[1], int(row[2]), float(row[3]), float(row[4])) for row in rows]

    def audit_counts(
        self, task: str, version: str, since: datetime, until: datetime
    ) -> dict[tuple[str, str], int]:
        """How many labelled audit reviews have each pair of labels: what people say, what was predicted.

        Args:
            task: The task.
            version: The adapter that predicted.
            since: Scored since this moment.
            until: Scored before this moment.
        """
        values = {"task": task, "version": version, "since": since, "until": until}
        return {
            (truth, predicted): count for truth, predicted, count in self._database.fetch(_AUDITED, values)
        }

    def by_record(self, task: str, records: Iterable[int]) -> dict[int, StoredReview]:
        """These reviews; those that are not there are left out."""
        rows = self._database.fetch(_BY_RECORD, {"task": task, "records": list(records)})
        return {row[0]: StoredReview(*row) for row in rows}

    def positions(self, span: Span) -> Positions:
        """For each partition the record behind the last one of a span: where what is new begins."""
        given = {"bits": OFFSET_BITS, "task": span.task, "until": span.until}
        return {row[0]: row[1] for row in self._database.fetch(_POSITIONS, given)}

    def ends(self) -> Positions:
        """For each partition the record that will be stored next."""
        return {row[0]: row[1] for row in self._database.fetch(_ENDS, {"bits": OFFSET_BITS})}

    def new_reviews(
        self, adapter: ActiveAdapter, positions: Mapping[int, int], limit: int
    ) -> tuple[list[StoredReview], Positions]:
        """What the adapter scored since these positions, in the order of scoring, and where that ends.

        A partition's rows become visible in the order of their offsets, so that nothing is passed over,
        whatever the clocks of the workers say.

        Args:
            adapter: Which one.
            positions: The record that comes next, by partition; partitions that are not named are read from
                their beginning.
            limit: At most so many reviews of each partition.
        """
        reached: Positions = {}
        found: list[StoredReview] = []
        ends = self.ends()
        given = {"adapter_id": adapter.adapter_id, "task": adapter.task, "limit": limit}
        with self._database.begin() as connection:
            for partition, end in sorted(ends.items()):
                first = positions.get(partition, partition << OFFSET_BITS)
                rows = connection.execute(_NEW, {**given, "first": first, "next": end})
                part = [StoredReview(*row) for row in rows]
                reached[partition] = part[-1].record + 1 if len(part) == limit else end
                found += part
        found.sort(key=lambda review: (review.scored_at, review.record))
        return found, reached


def _since_promotion(adapter: ActiveAdapter) -> dict[str, object]:
    return {"adapter_id": adapter.adapter_id, "task": adapter.task, "since": adapter.activated_at}


def _values(span: Span) -> dict[str, object]:
    return {"adapter_id": span.adapter_id, "task": span.task, "since": span.since, "until": span.until}


def _allow_long_read(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL statement_timeout = '{_LONG_READ_SECONDS}s'"))
