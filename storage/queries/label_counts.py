"""How many current reviews carry each label: few are counted, of very many a random part."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Executable, func, select

from reviews.record_id import OFFSET_BITS
from storage.database import Database
from storage.plans import BY_INDEX, FOR_A_FEW
from storage.queries.filters import ReviewFilter, conditions
from storage.record_ranges import RecordRange, drawn, steps, total
from storage.schema.views import scored_reviews

COUNTED_AT_ONCE = 200_000
"""So many rows are counted by one statement."""
LOOKED_AT = 1_000_000
"""Of more records than that a random part is counted, unless an exact number is asked for."""
_DRAWN_TOGETHER = 2_000
_STEP_RECORDS = 20_000
_SEED = 0


class LabelCount(NamedTuple):
    """How many current reviews carry a label of a task."""

    task: str
    label: str
    reviews: int


class LabelCounts(NamedTuple):
    """How many current reviews carry each label.

    Attributes:
        counts: Task by task, the most frequent label first.
        share: Of the records, how many were looked at, in (0, 1]; below 1 the counts are estimates.
    """

    counts: list[LabelCount]
    share: float


def count_labels(
    database: Database,
    wanted: ReviewFilter,
    *,
    exact: bool = False,
    report: Callable[[float], None] = lambda _: None,
) -> LabelCounts:
    """How many current reviews that match carry each label.

    A review has an answer for each task, so that the counts of one task add up, and those of two do not. Few
    reviews are counted at once, many range after range of their records; of more than a million records,
    ranges drawn at random are counted, unless all shall be.

    Args:
        database: Where.
        wanted: Which reviews.
        exact: Count all, however long it takes.
        report: Called after each range, with the share of the work that is done.
    """
    where = conditions(database, wanted)
    if wanted.text is None:  # else it may match nothing, which takes a look at every text
        few = count_matching(database, FOR_A_FEW, where, COUNTED_AT_ONCE)
        if few.total() < COUNTED_AT_ONCE:
            return LabelCounts(_in_order(few), 1.0)
    ranges = _ranges(database)
    pieces = steps(ranges if exact else drawn(ranges, LOOKED_AT, _SEED, _DRAWN_TOGETHER), _STEP_RECORDS)
    found, record = Counter[tuple[str, str]](), scored_reviews.c.record
    for number, piece in enumerate(pieces, 1):
        within = [*where, record >= piece.first, record < piece.next]
        found += count_matching(database, BY_INDEX, within, None)
        report(number / len(pieces))
    share = total(pieces) / max(1, total(ranges))
    whole = Counter({key: round(number / share) for key, number in found.items()})
    return LabelCounts(_in_order(whole), share)


def count_matching(
    database: Database, plan: Executable, where: Sequence[ColumnElement[bool]], most: int | None
) -> Counter[tuple[str, str]]:
    """How many reviews match, by task and label, counted no further than so many."""
    columns = scored_reviews.c
    rows = select(columns.task, columns.label).where(*where).limit(most).subquery()
    query = select(rows.c.task, rows.c.label, func.count()).group_by(rows.c.task, rows.c.label)
    with database.begin() as connection:
        connection.execute(plan)
        return Counter({(row[0], row[1]): row[2] for row in connection.execute(query)})


def _in_order(counts: Counter[tuple[str, str]]) -> list[LabelCount]:
    rows = [LabelCount(task, label, number) for (task, label), number in counts.items()]
    return sorted(rows, key=lambda row: (row.task, -row.reviews, row.label))


def _ranges(database: Database) -> list[RecordRange]:
    """From the first to the last scored review of each partition, by the view: a reader sees no more."""
    record, ranges = scored_reviews.c.record, list[RecordRange]()
    behind = 0
    while True:
        first = database.fetch_value(select(record).where(record >= behind).order_by(record).limit(1))
        if first is None:
            return ranges
        behind = ((first >> OFFSET_BITS) + 1) << OFFSET_BITS
        last = database.fetch_value(select(record).where(record < behind).order_by(record.desc()).limit(1))
        ranges.append(RecordRange(first, last + 1))
