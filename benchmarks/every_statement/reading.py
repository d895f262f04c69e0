"""What people look at: reviews, dead letters, drift, the overview."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from benchmarks.every_statement.call import DAY, TASK, Call, first_rows, value_of
from reviews.drift import DriftReport, Windows
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.drift_reports import DriftReportStore
from storage.learning.texts import read_first_texts
from storage.queries.dead_letters import LetterFilter, count_dead_letters, find_dead_letters
from storage.queries.filters import ReviewFilter
from storage.queries.label_counts import count_labels
from storage.queries.overview import OverviewStore
from storage.queries.review_history import find_history
from storage.queries.review_pages import find_page
from storage.queries.reviews import find_reviews
from storage.queries.similar import find_similar
from storage.queries.text_index import create_text_index, drop_text_index
from storage.stream.letters_by_reason import count_reasons, find_attempts, find_letter, list_letters
from storage.stream.partitions import PartitionStore
from storage.windows import WindowStore


def reading(database: Database) -> Iterator[Call]:
    """What people look at, without changing anything."""
    now, some = datetime.now(UTC), {"task": TASK, "limit": 50}
    adapters = AdapterStore(database)
    active = adapters.active(TASK)
    version = active.version if active else ""
    filters: dict[str, dict[str, Any]] = {
        "newest": {}, "label": {"label": "negative"}, "product": {"product": "product-0001"},
        "source": {"source": "web"}, "since": {"since": now - DAY}, "until": {"until": now - 200 * DAY},
        "uncertain": {"uncertain": True}, "confidence": {"min_confidence": 0.99},
        "adapter": {"adapter": version}, "id": {"review_id": "r00000001"}, "text": {"text": "love"},
        "rare text": {"text": "zzzz"}, "labelled": {"human": "labelled"}, "differs": {"human": "differs"},
    }  # fmt: skip
    for name, values in filters.items():
        wanted = ReviewFilter(**{**some, **values})
        yield Call(f"page of reviews: {name}", lambda wanted=wanted: _two_pages(database, wanted))
        if "human" not in values:
            yield Call(
                f"query: {name}",
                lambda wanted=wanted: find_reviews(database, wanted, given_up=lambda _: None),
                60 if "text" in values else 1,
            )
    yield Call("query --count --since 1d", lambda: count_labels(database, ReviewFilter(since=now - DAY)), 10)
    yield Call("query --count", lambda: count_labels(database, ReviewFilter()), 20)
    yield Call("query --count --text", lambda: count_labels(database, ReviewFilter(text="love")), 20)
    yield Call(
        "query --limit 0: its first rows",
        lambda: first_rows(find_reviews(database, ReviewFilter(limit=None))),
    )
    history = find_page(database, ReviewFilter(limit=1)).rows
    review_id, record = (history[0]["review_id"], history[0]["record"]) if history else ("", 0)
    yield Call("review", lambda: find_history(database, review_id))
    embedded = value_of(database, "SELECT max(record) FROM embedding")
    yield Call("similar reviews", lambda: find_similar(database, TASK, embedded or 0, unlabelled=True))
    yield Call("zero-shot: first texts", lambda: read_first_texts(database, 1_000), 2)
    yield from _overviews(database, now, record)
    yield from _letters(database)
    yield from _drift(database, now)


def _two_pages(database: Database, wanted: ReviewFilter) -> None:
    page = find_page(database, wanted)
    if page.end is not None:
        find_page(database, wanted, page.end)


def _overviews(database: Database, now: datetime, record: int) -> Iterator[Call]:
    store = OverviewStore(database, "review-labels")
    yield Call("overview: totals", store.totals)
    yield Call("overview: days", lambda: store.positions([now - day * DAY for day in range(14)]))
    yield Call("overview: rate", lambda: (store.rate(1e-6), store.rate(1e9)))
    yield Call("overview: delays", lambda: store.delays(86_400))
    yield Call("overview: gaps", store.gaps)
    yield Call("overview: sample", lambda: store.sample(TASK, list(range(record - 400, record))))
    yield Call("overview: audited", lambda: store.audited(TASK))
    yield Call("overview: queue", lambda: store.queue(TASK, now - DAY))
    partitions = PartitionStore(database)
    yield Call("offsets show", partitions.list_positions)
    yield Call("offsets show --gaps", partitions.list_gaps)


def _letters(database: Database) -> Iterator[Call]:
    for state in ("waiting", "discarded", None):
        wanted = LetterFilter(state=state)
        yield Call(f"dead-letters list: {state}", lambda wanted=wanted: find_dead_letters(database, wanted))
    yield Call("dead-letters list --count", lambda: count_dead_letters(database, LetterFilter()), 5)
    everything = LetterFilter(limit=None)
    yield Call(
        "dead-letters list --limit 0: its first", lambda: first_rows(find_dead_letters(database, everything))
    )
    yield Call("dead letters by reason", lambda: count_reasons(database), 2)
    yield Call("page of dead letters", lambda: list_letters(database))
    letter = list_letters(database, limit=1)
    if letter:
        yield Call("dead letter", lambda: find_letter(database, letter[0].record))
        yield Call("attempts at a dead letter", lambda: find_attempts(database, letter[0]))


def _drift(database: Database, now: datetime) -> Iterator[Call]:
    windows = WindowStore(database)
    active = windows.active(TASK)
    if active is None:
        return
    span = windows.first_reviews(active, 5_000, 7 * DAY)
    whole = span.__class__(TASK, active.adapter_id, active.activated_at, now)
    yield Call("drift: reference", lambda: windows.first_reviews(active, 5_000, 7 * DAY))
    yield Call("drift: last scored", lambda: windows.last_scored(active))
    yield Call("drift: beginning of a window", lambda: windows.last_reviews(whole, 200))
    yield Call("drift: count", lambda: windows.count(whole), 5)
    yield Call("drift: sample", lambda: windows.sample(whole, 20_000), 10)
    yield Call("drift: course", lambda: windows.course(whole, 7 * DAY), 10)
    yield Call("drift: sample of many", lambda: windows._sample_of_many(whole, 20_000, 6), 10)
    yield Call("drift: course of many", lambda: windows._course_of_many(whole, 7 * DAY), 10)
    yield Call("drift: count of many", lambda: windows._estimate(whole), 5)
    yield Call("drift: audit", lambda: windows.audited(TASK, active.version, span.since, now), 2)
    yield Call("drift: window of an adapter", lambda: windows.span(TASK, active.version, span.since, now))
    yield Call("drift: predicted", lambda: windows.predicted(whole, 2_000), 10)
    yield Call("drift: predicted of many", lambda: windows._predicted_of_many(whole, 2_000), 10)
    positions = windows.positions(span)
    yield Call("drift watch: where it begins", lambda: windows.positions(span))
    yield Call("drift watch: new reviews", lambda: windows.new_reviews(active, positions, 500), 2)
    yield Call("drift: by record", lambda: windows.by_record(TASK, list(positions.values())))
    reports = DriftReportStore(database)
    report = DriftReport(Windows(TASK, span.since, span.until, now - DAY, now), 1, "drift", wants_alert=True)
    yield Call("drift: store a report", lambda: reports.add(report))
    yield Call("drift: find a report", lambda: reports.find(report.windows))
    yield Call("drift reports", lambda: reports.latest(TASK, "drift", before=10**6))
    yield Call("drift report", lambda: reports.get(1))
    yield Call("drift: announce", lambda: reports.announce(lambda _: None))


def text_index(database: Database) -> None:
    """Make the index on texts and remove it: a job by itself, which takes minutes a million reviews."""
    create_text_index(database)
    try:
        list(find_reviews(database, ReviewFilter(text="zzzz")))
        find_page(database, ReviewFilter(text="zzzz"))
    finally:
        drop_text_index(database)
