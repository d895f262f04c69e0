"""Windows of the scored stream: sums, samples and new rows, at a price that does not grow with the table.

A span of up to 200,000 reviews is read by the index on times of scoring, exactly. Of a longer one a sample is
read, by the numbers of its records: records are numbered in the order of their arrival, so that halving by
time of receipt finds where a stretch of time begins, and how many records it has
(`storage/record_ranges.py`).
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Executable, text

from reviews.drift import ActiveAdapter, AuditedPrediction, Course, PredictedLabel, Span, StoredReview
from reviews.label_set import called_now
from reviews.record_id import MAX_OFFSET, OFFSET_BITS
from storage.database import AnyRow, Database
from storage.labels.vocabulary import read_label_sets
from storage.plans import BY_INDEX
from storage.record_ranges import RecordRange, draw_records, drawn, received, stored_ranges, total

Positions = dict[int, int]
"""The record that comes next, by the id of its partition."""

MOST_READ = 200_000
"""A span of so many reviews or more is not read whole: a sample speaks for it."""
MOST_AUDITED = 10_000
"""Audit labels are read of so many of the latest items of the audit."""
MOST_REPLAYED = 200_000
"""So many records are read again at most by who begins to follow the stream."""
_COURSE_SAMPLE = 500  # records of each stretch of a long course
_ESTIMATED_BY = 4_000  # records tell how many of a long span are reviews that the adapter scored
_NEIGHBOURS = 5  # records of sums that are drawn together: a page of the disk holds about 20
_AT_ONCE = 2_000
_MOST_PASSED = 20  # records that are passed over for each one that is read
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
_LAST = text(f"SELECT p.scored_at FROM prediction p WHERE {_SINCE} ORDER BY p.scored_at DESC LIMIT 1")  # noqa: S608
_NTH_LAST = text(
    f"SELECT p.scored_at FROM prediction p WHERE {_IN_SPAN} ORDER BY p.scored_at DESC OFFSET :nth LIMIT 1"  # noqa: S608
)
_COUNT = text(f"SELECT count(*) FROM (SELECT FROM prediction p WHERE {_IN_SPAN} LIMIT :most) c")  # noqa: S608
_COUNT_OF = text(f"SELECT count(*) FROM prediction p WHERE p.record = ANY(:records) AND {_IN_SPAN}")  # noqa: S608
# A hash of the record, or of its run, draws the sample: the same rows each time, whatever the plan. Knuth's
# multiplier; 20 bits of an offset are enough, and nothing overflows.
_DRAWN = "((p.record >> :run_bits & 1048575) * 2654435761 >> 12 & 1048575) < :share"
# Only what the audit drew is audit truth: labels that came by themselves say nothing of the stream.
_ASKED_BY_AUDIT = "label_task q WHERE q.record = p.record AND q.task = p.task AND q.reason = 'audit'"
_COLUMNS = f"""
SELECT p.record, r.review_id, r.text, r.product, r.source, r.published_at, p.scored_at, p.probabilities,
       (SELECT c.label FROM label_consensus c
         WHERE c.record = p.record AND c.task = p.task AND EXISTS (SELECT FROM {_ASKED_BY_AUDIT})),
       e.vector, e.reason, coalesce((SELECT q.draw_weight FROM {_ASKED_BY_AUDIT}), 1)
  FROM prediction p JOIN published_review r ON r.record = p.record
  LEFT JOIN embedding e ON e.record = p.record AND e.task = p.task AND e.adapter_id = p.adapter_id
"""  # noqa: S608  made of this module's own constants
_SAMPLE = text(f"{_COLUMNS} WHERE {_IN_SPAN} AND {_DRAWN} ORDER BY p.scored_at, p.record")
_SAMPLE_OF = text(f"{_COLUMNS} WHERE p.record = ANY(:records) AND {_IN_SPAN}")
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
_COURSE_OF = text(f"""
SELECT p.label, count(*), avg(p.confidence), avg(char_length(r.text))
  FROM prediction p JOIN review r ON r.record = p.record
 WHERE p.record = ANY(:records) AND {_IN_SPAN} GROUP BY 1 ORDER BY 1
""")  # noqa: S608  the same
# The audit's few items lead to their labels and predictions, however many of those there are.
_AUDITED = text("""
SELECT truth, predicted, probabilities, draw_weight, scored_at
  FROM (SELECT (SELECT c.label FROM label_consensus c WHERE c.record = q.record AND c.task = q.task) AS truth,
               p.record, p.label AS predicted, p.probabilities, coalesce(q.draw_weight, 1) AS draw_weight,
               p.scored_at
          FROM (SELECT record, task, draw_weight FROM label_task
                 WHERE task = :task AND reason = 'audit' ORDER BY state_changed_at DESC LIMIT :most) q
          JOIN prediction p ON p.record = q.record AND p.task = q.task
          JOIN adapter a ON a.id = p.adapter_id AND a.version = :version
         WHERE p.scored_at >= :since AND p.scored_at < :until) audited
 WHERE truth IS NOT NULL ORDER BY record
""")
_ADAPTER = text("SELECT id FROM adapter WHERE version = :version")
_PREDICTED = text(f"SELECT p.label, p.probabilities FROM prediction p WHERE {_IN_SPAN} AND {_DRAWN}")  # noqa: S608
_PREDICTED_OF = text(
    f"SELECT p.label, p.probabilities FROM prediction p WHERE p.record = ANY(:records) AND {_IN_SPAN}"  # noqa: S608
)
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
        if row is None:
            return None
        with self._database.begin() as connection:
            label_set = read_label_sets(connection, task).get(task)
        labels = tuple(row[3])
        return ActiveAdapter(row[0], row[1], row[2], labels, row[4], called_now(labels, label_set))

    def first_reviews(self, adapter: ActiveAdapter, reviews: int, season: timedelta = timedelta(0)) -> Span:
        """From the promotion to the end of its first so many reviews, or of all where there are fewer.

        Args:
            adapter: Which one.
            reviews: How many.
            season: How long the span is at least.
        """
        values = {**_since_promotion(adapter), "nth": reviews - 1}
        end = self._moment(_NTH, values) or self.last_scored(adapter)
        since = adapter.activated_at
        until = max(since + season, since if end is None else end + _BEHIND)
        return Span(adapter.task, adapter.adapter_id, since, until)

    def last_scored(self, adapter: ActiveAdapter) -> datetime | None:
        """When the adapter scored last; None where it did not yet."""
        return self._moment(_LAST, _since_promotion(adapter))

    def last_reviews(self, span: Span, reviews: int) -> datetime | None:
        """When the last so many reviews of a span begin; None where it has fewer."""
        return self._moment(_NTH_LAST, {**_values(span), "nth": reviews - 1})

    def count(self, span: Span) -> int:
        """How many reviews were scored in a span; from :data:`MOST_READ` on an estimate."""
        count = self._count(span, MOST_READ)
        return count if count < MOST_READ else self._estimate(span)

    def sample(self, span: Span, reviews: int, run_bits: int = 0) -> Iterator[StoredReview]:
        """About so many reviews of a span in the order of scoring, or all where there are fewer.

        Drawn by the numbers of their records: always the same ones, and each as likely as another.

        Args:
            span: Of which span.
            reviews: How many.
            run_bits: Neighbours whose offsets differ in their last bits only, so many of them, are drawn
                together in every partition: the sample then has the bursts of the stream.
        """
        count = self._count(span, MOST_READ)
        if count == MOST_READ:
            yield from self._sample_of_many(span, reviews, run_bits)
            return
        share = _ALL_DRAWN if count <= reviews else int(_ALL_DRAWN * reviews / count)
        values = {**_values(span), "share": share, "run_bits": run_bits}
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            rows = connection.execute(_SAMPLE, values, execution_options={"yield_per": 1000})
            for row in rows:
                yield StoredReview(*row)

    def course(self, span: Span, width: timedelta) -> list[Course]:
        """Sums over the reviews of a span, by stretches of time and label; of a long span, estimates."""
        if self._count(span, MOST_READ) == MOST_READ:
            return list(self._course_of_many(span, width))
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            rows = connection.execute(_COURSE, {**_values(span), "width": width})
            return [Course(row[0], row[1], int(row[2]), float(row[3]), float(row[4])) for row in rows]

    def _count(self, span: Span, most: int) -> int:
        """How many reviews were scored in a span, counted no further than so many."""
        return int(self._rows(_COUNT, {**_values(span), "most": most})[0][0])

    def _estimate(self, span: Span) -> int:
        """From the number of records that were received in a span, and a sample of them."""
        ranges = self._received([span.since, span.until])[0]
        records = _draw_neighbours(ranges, _ESTIMATED_BY)
        found = sum(int(self._read(_COUNT_OF, span, some)[0][0]) for some in _batches(records))
        return round(total(ranges) * found / max(1, len(records)))

    def _sample_of_many(self, span: Span, reviews: int, run_bits: int) -> Iterator[StoredReview]:
        ranges = self._received([span.since, span.until])[0]
        records = draw_runs(ranges, reviews, run_bits, 0)
        rows = [
            StoredReview(*row) for some in _batches(records) for row in self._read(_SAMPLE_OF, span, some)
        ]
        yield from sorted(rows, key=lambda row: (row.scored_at, row.record))

    def _predicted_of_many(self, span: Span, reviews: int) -> list[PredictedLabel]:
        records = draw_runs(self._received([span.since, span.until])[0], reviews, 0, 0)
        return [
            PredictedLabel(*row)
            for some in _batches(records)
            for row in self._read(_PREDICTED_OF, span, some)
        ]

    def _course_of_many(self, span: Span, width: timedelta) -> Iterator[Course]:
        count = -(-(span.until - span.since) // width)
        moments = [span.since + number * width for number in range(count)]
        for starts_at, ranges in zip(moments, self._received([*moments, span.until]), strict=True):
            records = _draw_neighbours(ranges, _COURSE_SAMPLE)
            if not records:
                continue
            share = total(ranges) / len(records)
            for label, found, confidence, characters in self._read(_COURSE_OF, span, records):
                reviews = max(1, round(found * share))
                yield Course(starts_at, label, reviews, float(confidence), float(characters))

    def _received(self, moments: Sequence[datetime]) -> list[list[RecordRange]]:
        """The records that were received between each of some moments, in order, and the next one."""
        stored = stored_ranges(self._database)
        places = received(self._database, stored, moments)
        return [
            [RecordRange(places[since][partition], places[until][partition]) for partition in stored]
            for since, until in pairwise(moments)
        ]

    def _read(self, statement: Executable, span: Span, records: Sequence[int]) -> Sequence[AnyRow]:
        return self._rows(statement, {**_values(span), "records": list(records)})

    def _moment(self, statement: Executable, values: Mapping[str, object]) -> datetime | None:
        rows = self._rows(statement, values)
        return rows[0][0] if rows else None

    def _rows(self, statement: Executable, values: Mapping[str, object]) -> Sequence[AnyRow]:
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            return connection.execute(statement, values).all()

    def span(self, task: str, version: str, since: datetime, until: datetime) -> Span | None:
        """What an adapter scored between two moments; None where there is no such adapter any more."""
        row = self._database.fetch_one(_ADAPTER, {"version": version})
        return Span(task, row[0], since, until) if row else None

    def predicted(self, span: Span, reviews: int) -> list[PredictedLabel]:
        """What was predicted of about so many reviews of a span, or of all where there are fewer.

        Args:
            span: Of which span.
            reviews: How many; drawn as in :meth:`sample`.
        """
        count = self._count(span, MOST_READ)
        if count == MOST_READ:
            return self._predicted_of_many(span, reviews)
        share = _ALL_DRAWN if count <= reviews else int(_ALL_DRAWN * reviews / count)
        rows = self._rows(_PREDICTED, {**_values(span), "share": share, "run_bits": 0})
        return [PredictedLabel(*row) for row in rows]

    def audited(self, task: str, version: str, since: datetime, until: datetime) -> list[AuditedPrediction]:
        """The audit reviews that people agree on, and what was predicted of them, in order of record.

        Among the latest :data:`MOST_AUDITED` items of the audit.

        Args:
            task: The task.
            version: The adapter that predicted.
            since: Scored since this moment.
            until: Scored before this moment.
        """
        values = {"task": task, "version": version, "since": since, "until": until, "most": MOST_AUDITED}
        return [AuditedPrediction(*row) for row in self._rows(_AUDITED, values)]

    def by_record(self, task: str, records: Iterable[int]) -> dict[int, StoredReview]:
        """These reviews; those that are not there are left out."""
        rows = self._rows(_BY_RECORD, {"task": task, "records": list(records)})
        return {row[0]: StoredReview(*row) for row in rows}

    def positions(self, span: Span) -> Positions:
        """For each partition the first record that was received behind a span: where what is new begins.

        Where that is very much already, only the last :data:`MOST_REPLAYED` records of all partitions
        together.
        """
        stored = stored_ranges(self._database)
        first = received(self._database, stored, [span.until])[span.until]
        new = sum(one.next - first[partition] for partition, one in stored.items())
        share = min(1.0, MOST_REPLAYED / max(1, new))
        last = {
            partition: one.next - round((one.next - first[partition]) * share)
            for partition, one in stored.items()
        }
        return {**self.ends(), **last}

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
            connection.execute(BY_INDEX)
            for partition, end in sorted(ends.items()):
                first = positions.get(partition, partition << OFFSET_BITS)
                until = min(end, first + _MOST_PASSED * limit)
                rows = connection.execute(_NEW, {**given, "first": first, "next": until})
                part = [StoredReview(*row) for row in rows]
                reached[partition] = part[-1].record + 1 if len(part) == limit else until
                found += part
        found.sort(key=lambda review: (review.scored_at, review.record))
        return found, reached


def _since_promotion(adapter: ActiveAdapter) -> dict[str, object]:
    return {"adapter_id": adapter.adapter_id, "task": adapter.task, "since": adapter.activated_at}


def _values(span: Span) -> dict[str, object]:
    return {"adapter_id": span.adapter_id, "task": span.task, "since": span.since, "until": span.until}


def draw_runs(ranges: Sequence[RecordRange], records: int, run_bits: int, seed: int) -> list[int]:
    """About so many records out of ranges, each as likely as another; all where there are not more.

    Args:
        ranges: Of different partitions.
        records: How many.
        run_bits: Records whose offsets differ in their last bits only, so many of them, are drawn together,
            and in every partition that has these offsets.
        seed: Makes the draw the same each time.
    """
    if total(ranges) <= records:
        return [record for one in ranges for record in range(one.first, one.next)]
    if run_bits == 0:
        return draw_records(ranges, records, seed)
    offsets = [(one.first & MAX_OFFSET, one.next & MAX_OFFSET) for one in ranges if one.records]
    first, last = (min(low for low, _ in offsets) >> run_bits, max(high for _, high in offsets) >> run_bits)
    wanted = max(1, round((last + 1 - first) * records / total(ranges)))
    random_ = random.Random(seed)  # noqa: S311  a sample is no secret
    runs = sorted(random_.sample(range(first, last + 1), min(wanted, last + 1 - first)))
    found = list[int]()
    for one in ranges:
        base = one.first & ~MAX_OFFSET
        for run in runs:
            begins, ends = base + (run << run_bits), base + (run + 1 << run_bits)
            found += range(max(one.first, begins), min(one.next, ends))
    return found


def _draw_neighbours(ranges: Sequence[RecordRange], records: int) -> list[int]:
    """About so many records, each as likely as another; all where there are not more."""
    stretches = drawn(ranges, records, 0, stretch=_NEIGHBOURS)
    return [record for one in stretches for record in range(one.first, one.next)]


def _batches(records: Sequence[int]) -> Iterator[Sequence[int]]:
    for place in range(0, len(records), _AT_ONCE):
        yield records[place : place + _AT_ONCE]
