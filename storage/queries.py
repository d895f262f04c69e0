"""Queries of scored reviews and dead letters; filters become bound parameters.

An optional index finds parts of texts by a plain server's own means: every three letters in a row. It changes
no answer, only how soon it comes: a text that contains the asked-for part contains all of the part's
trigrams, and what the index finds is compared as before. It is made on request, because each new review then
costs the server several times as much.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    ScalarSelect,
    Select,
    Text,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from reviews.errors import ReviewLoopError, WrongUse
from reviews.fields import MODEL_PREFIX
from reviews.record_id import OFFSET_BITS
from storage.database import Database, without_transaction
from storage.record_ranges import BY_INDEX, RecordRange, drawn, steps, total
from storage.schema.adapters import adapter
from storage.schema.labels import label
from storage.schema.predictions import UNCERTAIN_MARGIN
from storage.schema.views import dead_letters, label_consensus, scored_reviews

INDEX = "review_text_idx"
SHORTEST_CHARACTERS = 3

# Distinct trigrams in small letters; NULL, which no index holds, where there are fewer than three letters.
_FUNCTION = """
CREATE OR REPLACE FUNCTION review_trigrams(content text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg(DISTINCT first || second || third)
      FROM (SELECT letter AS first, lead(letter) OVER following AS second,
                   lead(letter, 2) OVER following AS third
              FROM string_to_table(lower(content), NULL) WITH ORDINALITY AS letters (letter, place)
            WINDOW following AS (ORDER BY place)) AS triples
     WHERE third IS NOT NULL
$$
"""
# Beside running workers: the index is built without stopping their transactions.
_CREATE = f"CREATE INDEX CONCURRENTLY {INDEX} ON review USING gin (review_trigrams(text))"
_DROP = f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}"
_LEFT = (
    f"The index on texts was not finished ({{reason}}). What is there of it, {INDEX}, makes new reviews as "
    "slow as all of it would: remove it with 'reviewloop db index-text --drop'."
)
_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"

# Rare and frequent values need different plans. Helpers take longer to start than such a query takes. Rows
# here and there, in memory or on a disk without a moving head, are cheaper than the planner expects.
FOR_A_FEW = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), "
    "set_config('max_parallel_workers_per_gather', '0', true), "
    "set_config('random_page_cost', '1.1', true)"
)
_NEWEST = 2_000
SEARCHED_AT_ONCE = 50_000
"""So many texts are read in one step where no index finds a part of them."""
SEARCHED_AT_MOST = 2_000_000
"""The latest so many texts are read, unless all shall be."""
_NEVER, _EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
PUBLIC_COLUMNS = [column for column in scored_reviews.c if column.name not in {"adapter_id", "record"}]
LATEST_ANSWERS = 1_000
"""Reviews that people labelled are looked for among so many of the latest answers."""

COUNTED_AT_ONCE = 200_000
"""So many reviews are counted by one statement."""
LOOKED_AT = 1_000_000
"""Of more records than that a random part is counted, unless an exact number is asked for."""
_DRAWN_TOGETHER = 2_000
_STEP_RECORDS = 20_000
_SEED = 0

HumanFilter = Literal["labelled", "differs"]
"""Reviews that people labelled; or only those where they agree on another label than the model's."""


MOST_ATTRIBUTES = 10
"""So many attributes may be asked for at once."""


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which scored reviews to return; None means any.

    Attributes:
        task: The task that was decided.
        label: The model's label.
        product: The product, exactly.
        source: The source, exactly.
        since: Scored at or after this moment.
        until: Scored before this moment.
        min_confidence: Least confidence, in [0, 1].
        uncertain: Only predictions whose two best labels are less than 0.2 apart.
        adapter: The adapter's version.
        text: A part of the text, in any case of letters.
        review_id: The publisher's id.
        human: What people said, among the latest answers.
        attributes: Names and values of attributes that it has; a value is a text, or a number, true or false
            that is written so.
        limit: At most so many, the latest scored first; None for all of them.
    """

    task: str | None = None
    label: str | None = None
    product: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_confidence: float | None = None
    uncertain: bool = False
    adapter: str | None = None
    text: str | None = None
    review_id: str | None = None
    human: HumanFilter | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    limit: int | None = 20


def parse_attributes(written: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values of attributes from ``NAME=VALUE``.

    Raises:
        WrongUse: If one is not written so, or there are too many.
    """
    if len(written) > MOST_ATTRIBUTES:
        raise WrongUse(f"{len(written)} attributes are asked for; at most {MOST_ATTRIBUTES} can be.")
    found = []
    for pair in written:
        name, equals, value = pair.partition("=")
        if not name or not equals or "\x00" in pair:
            raise WrongUse("Write an attribute as NAME=VALUE, such as market=de.")
        found.append((name, value))
    return tuple(found)


def find_reviews(
    database: Database, wanted: ReviewFilter, *, given_up: Callable[[datetime], None] | None = None
) -> Iterator[dict[str, Any]]:
    """The current scored reviews that match, the latest scored first.

    Args:
        database: Where.
        wanted: Which reviews.
        given_up: Where no index finds a part of a text, every text has to be read. If this is set, only the
            latest :data:`SEARCHED_AT_MOST` are, and where there are more, it is told the moment since which
            all were searched.

    Yields:
        One mapping per review and task with the columns of the view ``scored_reviews``.
    """
    query = select(*PUBLIC_COLUMNS).where(*conditions(database, wanted))
    by_index = index_conditions(database, wanted)
    if wanted.limit is not None and by_index is not None:
        yield from _find_by_index(database, query, by_index, wanted.limit)
    elif wanted.text is not None and _is_long(database, wanted):
        yield from _search(database, query, wanted, given_up)
    else:
        yield from _stream(database, query.order_by(scored_reviews.c.scored_at.desc()), wanted.limit)


def _find_by_index(
    database: Database, query: Select[Any], by_index: list[ColumnElement[bool]], limit: int
) -> list[dict[str, Any]]:
    """Frequent values are in the newest reviews, rare ones in the index; the planner cannot tell which."""
    newest = query.where(scored_reviews.c.scored_at >= start_of_newest(database))
    found = list(_stream(database, newest.order_by(scored_reviews.c.scored_at.desc()), limit))
    if len(found) == limit:
        return found
    # A sum is in no index's order, so that PostgreSQL does not walk back in time for what is rare.
    latest_first = (scored_reviews.c.scored_at + timedelta(0)).desc()
    return list(_stream(database, query.where(*by_index).order_by(latest_first), limit))


def _is_long(database: Database, wanted: ReviewFilter) -> bool:
    """Whether the texts of very many reviews have to be read."""
    others = conditions(database, replace(wanted, text=None))
    return _count(database, FOR_A_FEW, others, COUNTED_AT_ONCE).total() == COUNTED_AT_ONCE


def _search(
    database: Database,
    query: Select[Any],
    wanted: ReviewFilter,
    given_up: Callable[[datetime], None] | None,
) -> Iterator[dict[str, Any]]:
    """Back in time, so many texts in each step, until there are enough matches."""
    scored_at, left = scored_reviews.c.scored_at, wanted.limit
    before, first = wanted.until or _EVER, wanted.since or _NEVER
    searched = 0
    while before > first and left != 0:
        if given_up is not None and searched >= SEARCHED_AT_MOST:
            given_up(before)
            return
        searched += SEARCHED_AT_ONCE
        start = max(first, start_of_newest(database, before, SEARCHED_AT_ONCE))
        step = query.where(scored_at >= start, scored_at < before).order_by(scored_at.desc())
        for row in _stream(database, step, 2 * SEARCHED_AT_ONCE if left is None else left):
            left = None if left is None else left - 1
            yield row
        before = start


def start_of_newest(database: Database, before: datetime | None = None, newest: int = _NEWEST) -> datetime:
    """When the newest few began. Asked apart, so that the planner knows how few reviews come after it.

    And asked of the view: a reader may not look behind it.

    Args:
        database: Where.
        before: Of those that were scored until then; None for all.
        newest: How many.
    """
    query = select(scored_reviews.c.scored_at).order_by(scored_reviews.c.scored_at.desc())
    if before is not None:
        query = query.where(scored_reviews.c.scored_at <= before)
    with database.begin() as connection:
        connection.execute(FOR_A_FEW)
        found: datetime | None = connection.execute(query.offset(newest).limit(1)).scalar()
    return found or _NEVER


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
        few = _count(database, FOR_A_FEW, where, COUNTED_AT_ONCE)
        if few.total() < COUNTED_AT_ONCE:
            return LabelCounts(_in_order(few), 1.0)
    ranges = _ranges(database)
    pieces = steps(ranges if exact else drawn(ranges, LOOKED_AT, _SEED, _DRAWN_TOGETHER), _STEP_RECORDS)
    found, record = Counter[tuple[str, str]](), scored_reviews.c.record
    for number, piece in enumerate(pieces, 1):
        found += _count(database, BY_INDEX, [*where, record >= piece.first, record < piece.next], None)
        report(number / len(pieces))
    share = total(pieces) / max(1, total(ranges))
    whole = Counter({key: round(number / share) for key, number in found.items()})
    return LabelCounts(_in_order(whole), share)


def _count(
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


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters to return; None means any.

    Attributes:
        error: The reason.
        stage: Where it failed: ``parse``, ``score`` or ``label``.
        topic: The topic that it came from.
        since: Received at or after this moment.
        until: Received before this moment.
        state: ``waiting``, ``replayed``, ``discarded`` or ``superseded``.
        place: Its (topic, partition, offset).
        limit: At most so many, the latest received first; None for all of them.
    """

    error: str | None = None
    stage: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: str | None = "waiting"
    place: tuple[str, int, int] | None = None
    limit: int | None = 20


def find_dead_letters(
    database: Database, wanted: LetterFilter, *, with_raw: bool = False
) -> Iterator[dict[str, Any]]:
    """The dead letters that match, the latest received first.

    Args:
        database: Where from.
        wanted: Which.
        with_raw: Whether value, key and headers are read as well, which may be megabytes.

    Yields:
        One mapping per dead letter with the columns of the view ``dead_letters``.
    """
    columns = [one for one in dead_letters.c if with_raw or one.name not in {"raw", "key", "headers"}]
    query = select(*columns).where(*_letter_conditions(wanted))
    yield from _stream(database, query.order_by(dead_letters.c.received_at.desc()), wanted.limit)


def count_dead_letters(database: Database, wanted: LetterFilter) -> dict[str, int]:
    """How many dead letters that match have each reason, the most frequent first, up to 200,000."""
    rows = select(dead_letters.c.error).where(*_letter_conditions(wanted)).limit(COUNTED_AT_ONCE).subquery()
    number = func.count()
    query = select(rows.c.error, number).group_by(rows.c.error).order_by(number.desc(), rows.c.error)
    with database.begin() as connection:
        connection.execute(FOR_A_FEW)
        return {row[0]: row[1] for row in connection.execute(query)}


def _stream(database: Database, query: Select[Any], limit: int | None) -> Iterator[dict[str, Any]]:
    if limit is None:
        rows = database.stream(query)
    else:
        # No cursor: PostgreSQL plans a cursor to have its first tenth soon, and may scan everything for what
        # an index finds at once. And nothing is held while somebody reads.
        with database.begin() as connection:
            connection.execute(FOR_A_FEW)
            rows = iter(connection.execute(query.limit(limit)).all())
    for row in rows:
        yield row._asdict()


def may_use_text_index(database: Database, wanted: ReviewFilter) -> bool:
    """Whether the index on texts is there, and finds a part as long as this one."""
    if wanted.text is None or len(wanted.text) < SHORTEST_CHARACTERS:
        return False
    with database.begin() as connection:
        return has_text_index(connection)


def index_conditions(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]] | None:
    """What an index has to be asked beside :func:`conditions`; None where none finds what is wanted.

    There is always one of attributes, and one of texts on request.
    """
    if may_use_text_index(database, wanted):
        return [holds_trigrams(wanted.text or "")]
    return [] if wanted.attributes and wanted.text is None else None


def _by_adapter(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """Task and adapter as numbers: by their names, PostgreSQL cannot follow an index in its order."""
    if wanted.task is None and wanted.adapter is None:
        return []
    query = select(adapter.c.id)
    if wanted.task is not None:
        query = query.where(adapter.c.task == wanted.task)
    if wanted.adapter is not None:
        query = query.where(adapter.c.version == wanted.adapter)
    ids = database.fetch_values(query)
    return [scored_reviews.c.adapter_id.in_(ids)]


def conditions(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """What a filter asks of the view ``scored_reviews``, but for its limit."""
    columns = scored_reviews.c
    equal = {
        columns.label: wanted.label,
        columns.product: wanted.product,
        columns.source: wanted.source,
        columns.review_id: wanted.review_id,
    }
    found = matching(equal, columns.scored_at, wanted.since, wanted.until)
    if wanted.min_confidence is not None:
        found.append(columns.confidence >= wanted.min_confidence)
    if wanted.uncertain:
        found.append(columns.margin < UNCERTAIN_MARGIN)
    if wanted.human is not None:
        found += _by_human(wanted)
    if wanted.text is not None:
        found.append(columns.text.icontains(wanted.text, autoescape=True))
    found += attribute_conditions(columns.attributes, wanted)
    return found + _by_adapter(database, wanted)


def attribute_conditions(column: ColumnElement[Any], wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """That a column of attributes has those that are wanted."""
    return [
        or_(*(column.contains({name: meant}) for meant in _meanings(value)))
        for name, value in wanted.attributes
    ]


def _meanings(value: str) -> list[Any]:
    """What a written value may mean: the text, and a number, true or false."""
    try:
        read = json.loads(value, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        read = None
    return [value, read] if isinstance(read, bool | int | float) else [value]


def _by_human(wanted: ReviewFilter) -> Iterator[ColumnElement[bool]]:
    columns = scored_reviews.c
    by_people = ~func.starts_with(label.c.annotator, MODEL_PREFIX)
    latest = select(label.c.record).where(by_people)
    latest = latest.order_by(label.c.received_at.desc()).limit(LATEST_ANSWERS)
    if wanted.task is not None:
        latest = latest.where(label.c.task == wanted.task)
    agreed = agreed_label()
    yield columns.record.in_(latest)
    yield agreed != columns.label if wanted.human == "differs" else agreed.is_not(None)


def agreed_label() -> ScalarSelect[Any]:
    """What people agree on about a row of ``scored_reviews``: the same as its column ``human_label``.

    The view asks first whether there is a label at all, which PostgreSQL answers for more than a few reviews
    by reading all labels.
    """
    return (
        select(label_consensus.c.label)
        .where(
            label_consensus.c.record == scored_reviews.c.record,
            label_consensus.c.task == scored_reviews.c.task,
        )
        .scalar_subquery()
    )


def _letter_conditions(wanted: LetterFilter) -> list[ColumnElement[bool]]:
    columns = dead_letters.c
    topic, partition, offset = wanted.place or (wanted.topic, None, None)
    equal = {
        columns.error: wanted.error,
        columns.stage: wanted.stage,
        columns.state: wanted.state,
        columns.kafka_topic: topic,
        columns.kafka_partition: partition,
        columns.kafka_offset: offset,
    }
    return matching(equal, columns.received_at, wanted.since, wanted.until)


def matching(
    equal: Mapping[Column[Any], Any],
    moment: ColumnElement[datetime],
    since: datetime | None,
    until: datetime | None,
) -> list[ColumnElement[bool]]:
    """That columns have these values and a moment is in [since, until); None means any."""
    conditions = [column == value for column, value in equal.items() if value is not None]
    if since is not None:
        conditions.append(moment >= since)
    if until is not None:
        conditions.append(moment < until)
    return conditions


def create_text_index(database: Database) -> bool:
    """Make the index where there is none; whether it was made now. Takes minutes per million reviews.

    It waits for every transaction that began before, however long that lasts.

    Raises:
        ReviewLoopError: If the schema is missing, or the user may not do this; if part of an index is left.
    """
    with without_transaction(database, waits=True) as connection:
        if has_text_index(connection):
            return False
        connection.execute(text(_DROP))  # what a killed attempt left
        connection.execute(text(_FUNCTION))
    with _finished_or_removed(database), without_transaction(database, waits=True) as connection:
        connection.execute(text(_CREATE))
        connection.execute(text("ANALYZE review"))
    return True


def drop_text_index(database: Database) -> None:
    """Remove the index, or what an attempt left of it; harmless where there is none."""
    with without_transaction(database, waits=True) as connection:
        connection.execute(text(_DROP))


def has_text_index(connection: Connection) -> bool:
    """Whether the index is there and complete."""
    return bool(connection.execute(text(_IS_VALID), {"name": INDEX}).scalar())


def holds_trigrams(part: str) -> ColumnElement[bool]:
    """That a text has every trigram of this part, which has to have three letters at least."""
    trigrams = func.review_trigrams(scored_reviews.c.text, type_=ARRAY(Text))
    return trigrams.contains(func.review_trigrams(literal(part, Text), type_=ARRAY(Text)))


@contextmanager
def _finished_or_removed(database: Database) -> Iterator[None]:
    """Leave nothing where the block fails: PostgreSQL keeps what it has of an index, at its full price."""
    try:
        yield
    except BaseException as err:  # an interrupt too
        try:
            with without_transaction(database, waits=False) as connection:
                if not has_text_index(connection):
                    connection.execute(text(_DROP))
        except ReviewLoopError:
            reason = str(err).rstrip(".") or "interrupted"
            raise ReviewLoopError(_LEFT.format(reason=reason)) from err
        raise
