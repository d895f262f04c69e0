"""Ranges of records: what is stored, what was received when, and a bounded part of very much.

The records of a partition are numbered in the order of their arrival. So a moment is a place in each
partition that halving finds, and a part of the stream is a list of ranges: each is read by the primary key,
however much is stored beside it.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.record_id import OFFSET_BITS
from storage.database import Database

STRETCH = 256
"""So many neighbouring records are drawn together: they lie side by side on disk."""

_STORED = text(f"""
SELECT s.id, (SELECT r.record FROM review r
               WHERE r.record >= s.id::bigint << {OFFSET_BITS}
                 AND r.record < (s.id + 1)::bigint << {OFFSET_BITS}
               ORDER BY r.record LIMIT 1) AS first,
       s.id::bigint << {OFFSET_BITS} | s.next_offset AS next
  FROM stream_partition s ORDER BY s.id
""")  # noqa: S608  nothing but numbers
# The first record of each range that was received at a moment or later. A worker receives a partition's
# records in their order, so that halving the range finds it; each step reads one row.
_RECEIVED = text("""
WITH RECURSIVE search AS (
    SELECT s.id, given.moment, s.low, s.high
      FROM unnest(CAST(:ids AS integer[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]))
               AS s (id, low, high),
           unnest(CAST(:moments AS timestamptz[])) AS given (moment)
  UNION ALL
    SELECT half.id, half.moment,
           CASE WHEN probe.received_at < half.moment THEN probe.record + 1 ELSE half.low END,
           CASE WHEN probe.received_at < half.moment THEN half.high ELSE half.middle END
      FROM (SELECT search.*, low + (high - low) / 2 AS middle FROM search WHERE low < high) half
      LEFT JOIN LATERAL (SELECT r.record, r.received_at FROM review r
                          WHERE r.record >= half.middle AND r.record < half.high
                          ORDER BY r.record LIMIT 1) probe ON true)
SELECT moment, id, low FROM search WHERE low >= high
""")


class RecordRange(NamedTuple):
    """Records of one partition.

    Attributes:
        first: The first one's number.
        next: The number behind the last one.
    """

    first: int
    next: int

    @property
    def records(self) -> int:
        """How many numbers it has."""
        return self.next - self.first


Ranges = Mapping[int, RecordRange]
"""A range of each partition, by the partition's stored id."""


def stored_ranges(database: Database) -> dict[int, RecordRange]:
    """From the first stored review of each partition to its end; partitions without a review are left out."""
    rows = database.fetch(_STORED)
    return {row.id: RecordRange(row.first, row.next) for row in rows if row.first is not None}


def received(
    database: Database, ranges: Ranges, moments: Sequence[datetime]
) -> dict[datetime, dict[int, int]]:
    """For each moment the first record of each range that was received then or later, or the end."""
    given = {
        "ids": list(ranges),
        "lows": [one.first for one in ranges.values()],
        "highs": [one.next for one in ranges.values()],
        "moments": list(dict.fromkeys(moments)),
    }
    found: dict[datetime, dict[int, int]] = {moment: {} for moment in moments}
    for moment, partition, record in database.fetch(_RECEIVED, given):
        found[moment][partition] = record
    return found


def total(ranges: Sequence[RecordRange]) -> int:
    """How many numbers ranges have together."""
    return sum(one.records for one in ranges)


def steps(ranges: Sequence[RecordRange], records: int) -> list[RecordRange]:
    """The same ranges, cut into pieces of at most so many records, each partition from its beginning."""
    return [
        RecordRange(first, min(first + records, one.next))
        for one in ranges
        for first in range(one.first, one.next, records)
    ]


def latest_and_drawn(ranges: Sequence[RecordRange], most: int, seed: int) -> list[RecordRange]:
    """All of the ranges; of very many records the latest, and others drawn from all before.

    The latest are taken from all partitions alike, in proportion to what each has. The others are stretches
    of :data:`STRETCH` neighbours, each as likely as another.

    Args:
        ranges: What there is.
        most: About so many records at most.
        seed: Makes the draw the same each time.
    """
    if total(ranges) <= most:
        return list(ranges)
    share = most / 2 / total(ranges)
    ends = [RecordRange(one.next - round(one.records * share), one.next) for one in ranges]
    before = [RecordRange(one.first, end.first) for one, end in zip(ranges, ends, strict=True)]
    return [*drawn(before, most // 2, seed), *(end for end in ends if end.records)]


def draw_records(ranges: Sequence[RecordRange], most: int, seed: int | str) -> list[int]:
    """Numbers out of ranges, each as likely as another, at most so many; always the same of one seed."""
    return [one.first for one in drawn(ranges, most, seed, stretch=1)]


def drawn(
    ranges: Sequence[RecordRange], most: int, seed: int | str, stretch: int | None = None
) -> list[RecordRange]:
    """Stretches of neighbours out of ranges, each as likely as another; all where there are not more.

    Args:
        ranges: What there is.
        most: About so many records at most.
        seed: Makes the draw the same each time.
        stretch: How many neighbours are drawn together; None: :data:`STRETCH`.
    """
    stretch = stretch or STRETCH
    if total(ranges) <= most:
        return steps(ranges, stretch)
    pieces = [-(-one.records // stretch) for one in ranges]
    count, wanted = sum(pieces), max(1, most // stretch)
    random_ = random.Random(seed)  # noqa: S311  a sample is no secret
    chosen = sorted(random_.sample(range(count), wanted)) if count > wanted else range(count)
    found, behind, place = [], 0, 0
    for number in chosen:
        while number - behind >= pieces[place]:
            behind += pieces[place]
            place += 1
        first = ranges[place].first + (number - behind) * stretch
        found.append(RecordRange(first, min(first + stretch, ranges[place].next)))
    return found
