"""Every statement that the product can send, each by the call that sends it, over a filled database.

Only ``storage`` has SQL. `benchmarks/sent_statements.py` finds the lines of it that none of these calls
reaches.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from sqlalchemy import text

from reviews.account import Role
from reviews.adapter import AdapterVersion, ShadowRun
from reviews.dead_letter import DeadLetter, Replay
from reviews.drift import DriftReport, Windows
from reviews.erasure import ErasureFinding
from reviews.errors import ReviewLoopError
from reviews.label import Label, LabelMessage, UnpinnedLabel
from reviews.label_set import LabelChange
from reviews.label_studio import GivenAnnotation
from reviews.message import ReviewMessage
from reviews.prediction import Prediction
from reviews.queue_item import Action, NewItem
from reviews.rescoring import Rescored
from reviews.scored_row import ScoredRow
from reviews.slices import SliceShares
from reviews.stream_records import (
    AcceptedLabel,
    AcceptedReview,
    AcceptedWithdrawal,
    KeptEmbedding,
    PartitionRange,
    ScoredReview,
)
from reviews.training_run import TrainingItem
from reviews.withdrawal import Withdrawal
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import LinkPurpose, SessionStore, TokenStore
from storage.accounts.users import AttemptStore, UserStore
from storage.adapters.comparison import side_by_side
from storage.adapters.promotion import propose_promotion
from storage.adapters.registry import AdapterStore
from storage.adapters.rejected import prune_rejected, why_rejected
from storage.adapters.rescoring import RescoreStore
from storage.adapters.shadows import ShadowStore
from storage.arrow import open_arrow
from storage.database import Database
from storage.drift_reports import DriftReportStore
from storage.exporting import ExportSource, exclusive
from storage.labels import progress
from storage.labels.actions import done_actions
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.annotations import AnnotationStore
from storage.labels.guidelines import GuidelineStore
from storage.labels.label_sets import LabelSetStore, follow_newest
from storage.labels.models import model_agreement
from storage.labels.queue_contents import QueueContents, queued_records
from storage.labels.store import ItemFilter, LabelStore, find_items
from storage.labels.time_spent import time_spent, timed_answers
from storage.labels.waiting import pin_waiting
from storage.learning import pool
from storage.learning.audits import audit_answers
from storage.learning.leases import LeaseStore, schedule_lease, training_lease
from storage.learning.mlflow_outbox import MlflowOutbox
from storage.learning.run_requests import RunRequestStore
from storage.learning.runs import TrainingRunStore, read_pending
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.exported import ExportErasures
from storage.lifecycle.past_erasures import PastErasureStore
from storage.lifecycle.receipts import ReceiptStore
from storage.lifecycle.retention import Retention
from storage.lifecycle.settings import RetentionSettings
from storage.lifecycle.subjects import ids_with
from storage.queries.dead_letters import LetterFilter, count_dead_letters, find_dead_letters
from storage.queries.filters import ReviewFilter
from storage.queries.label_counts import count_labels
from storage.queries.overview import OverviewStore
from storage.queries.review_history import find_history
from storage.queries.review_pages import find_page
from storage.queries.reviews import find_reviews
from storage.queries.similar import find_similar
from storage.queries.text_index import create_text_index, drop_text_index
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.label_writer import LabelWriter
from storage.stream.letters_by_reason import count_reasons, find_attempts, find_letter, list_letters
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from storage.stream.sinks import SinkStore, mark_erased, mark_rescored, remove_sink, unpublished_from
from storage.windows import WindowStore

TASK = "sentiment"
_SHARES = SliceShares()
_DAY = timedelta(days=1)


class Call(NamedTuple):
    """A call that sends statements.

    Attributes:
        name: What it does.
        run: Does it.
        seconds: It may take so long, however much is stored.
    """

    name: str
    run: Callable[[], object]
    seconds: float = 1.0


def walk(database: Database, *, keeps: bool = True) -> Iterator[tuple[Call, float]]:
    """Do every call once; each with the seconds that it took.

    Args:
        database: Filled by :func:`benchmarks.console_data.fill_console`; it gets some more rows.
        keeps: Whether aged rows are deleted as well, and tables shrunk: jobs that take their time.
    """
    groups = (_reading, _streaming, _labelling, _learning, _deciding, _publishing, _administering, _exporting)
    for group in (*groups, *((_keeping,) if keeps else ())):
        for call in group(database):
            began = time.perf_counter()
            found = call.run()
            if isinstance(found, Iterator):
                list(found)
            yield call, time.perf_counter() - began


def _exporting(database: Database) -> Iterator[Call]:
    """What an export reads: of each partition the last records, and everything that was not exported yet."""
    with open_arrow(database) as arrow, exclusive(database, f"walk-{uuid4()}") as lock:
        source = ExportSource(database, arrow)
        ends = [end for end in source.ends() if end.next_offset > end.start_offset]
        first = [max(end.start_offset, end.next_offset - 1_000) for end in ends]
        yield Call("export: lock", lock.require_held)
        yield Call("export: database", lambda: (source.identity(), source.adapters(), source.ended_jobs()))
        yield Call("export: settled labels", lambda: source.settled_transaction(0))
        for name, read in (("reviews", source.reviews), ("withdrawals", source.withdrawals)):
            yield Call(
                f"export: {name}",
                lambda read=read: [list(read(*at)) for at in zip(ends, first, strict=True)],
                2,
            )
        yield Call(
            "export: predictions",
            lambda: [list(source.predictions(*at, [1])) for at in zip(ends, first, strict=True)],
            2,
        )
        yield Call(
            "export: rescored",
            lambda: [
                list(source.rescored(end._replace(start_offset=at), 1))
                for end, at in zip(ends, first, strict=True)
            ],
            2,
        )
        yield Call("export: labels", lambda: list(source.labels(0, 0, 1 << 62)), 60)


def _reading(database: Database) -> Iterator[Call]:
    """What people look at, without changing anything."""
    now, some = datetime.now(UTC), {"task": TASK, "limit": 50}
    adapters = AdapterStore(database)
    active = adapters.active(TASK)
    version = active.version if active else ""
    filters: dict[str, dict[str, Any]] = {
        "newest": {}, "label": {"label": "negative"}, "product": {"product": "product-0001"},
        "source": {"source": "web"}, "since": {"since": now - _DAY}, "until": {"until": now - 200 * _DAY},
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
    yield Call("query --count --since 1d", lambda: count_labels(database, ReviewFilter(since=now - _DAY)), 10)
    yield Call("query --count", lambda: count_labels(database, ReviewFilter()), 20)
    yield Call("query --count --text", lambda: count_labels(database, ReviewFilter(text="love")), 20)
    yield Call(
        "query --limit 0: its first rows", lambda: _first(find_reviews(database, ReviewFilter(limit=None)))
    )
    history = find_page(database, ReviewFilter(limit=1)).rows
    review_id, record = (history[0]["review_id"], history[0]["record"]) if history else ("", 0)
    yield Call("review", lambda: find_history(database, review_id))
    embedded = _value(database, "SELECT max(record) FROM embedding")
    yield Call("similar reviews", lambda: find_similar(database, TASK, embedded or 0, unlabelled=True))
    yield Call("zero-shot: first texts", lambda: pool.read_first_texts(database, 1_000), 2)
    yield from _overviews(database, now, record)
    yield from _letters(database)
    yield from _drift(database, now)


def _two_pages(database: Database, wanted: ReviewFilter) -> None:
    page = find_page(database, wanted)
    if page.end is not None:
        find_page(database, wanted, page.end)


def _first(rows: Iterator[Any]) -> None:
    for _ in range(100):
        next(rows, None)
    rows.close()  # type: ignore[attr-defined]  # a generator


def _value(database: Database, statement: str) -> Any:
    with database.engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar()


def _overviews(database: Database, now: datetime, record: int) -> Iterator[Call]:
    store = OverviewStore(database, "review-labels")
    yield Call("overview: totals", store.totals)
    yield Call("overview: days", lambda: store.positions([now - day * _DAY for day in range(14)]))
    yield Call("overview: rate", lambda: (store.rate(1e-6), store.rate(1e9)))
    yield Call("overview: delays", lambda: store.delays(86_400))
    yield Call("overview: gaps", store.gaps)
    yield Call("overview: sample", lambda: store.sample(TASK, list(range(record - 400, record))))
    yield Call("overview: audited", lambda: store.audited(TASK))
    yield Call("overview: queue", lambda: store.queue(TASK, now - _DAY))
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
        "dead-letters list --limit 0: its first", lambda: _first(find_dead_letters(database, everything))
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
    span = windows.first_reviews(active, 5_000, 7 * _DAY)
    whole = span.__class__(TASK, active.adapter_id, active.activated_at, now)
    yield Call("drift: reference", lambda: windows.first_reviews(active, 5_000, 7 * _DAY))
    yield Call("drift: last scored", lambda: windows.last_scored(active))
    yield Call("drift: beginning of a window", lambda: windows.last_reviews(whole, 200))
    yield Call("drift: count", lambda: windows.count(whole), 5)
    yield Call("drift: sample", lambda: windows.sample(whole, 20_000), 10)
    yield Call("drift: course", lambda: windows.course(whole, 7 * _DAY), 10)
    yield Call("drift: sample of many", lambda: windows._sample_of_many(whole, 20_000, 6), 10)
    yield Call("drift: course of many", lambda: windows._course_of_many(whole, 7 * _DAY), 10)
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
    report = DriftReport(Windows(TASK, span.since, span.until, now - _DAY, now), 1, "drift", wants_alert=True)
    yield Call("drift: store a report", lambda: reports.add(report))
    yield Call("drift: find a report", lambda: reports.find(report.windows))
    yield Call("drift reports", lambda: reports.latest(TASK, "drift", before=10**6))
    yield Call("drift report", lambda: reports.get(1))
    yield Call("drift: announce", lambda: reports.announce(lambda _: None))


def _streaming(database: Database) -> Iterator[Call]:
    """What workers do."""
    now = datetime.now(UTC)
    partitions = PartitionStore(database)
    active = AdapterStore(database).active(TASK)
    version = active.version if active else ""
    topic = f"topic-{uuid4()}"
    position = partitions.register("walk", "reviews", topic, 0, 0)
    yield Call("register a partition", lambda: partitions.register("walk", "reviews", topic, 1, 0))
    yield Call(
        "offsets of a topic",
        lambda: (
            partitions.find("walk", topic),
            partitions.next_offsets("walk", topic),
            partitions.other_streams("walk", "reviews", "x"),
        ),
    )
    yield Call("record a gap", lambda: partitions.record_gap(position.partition_id, 0, 4))
    said = Prediction(TASK, "positive", 0.9, (0.04, 0.06, 0.9), 0.84, 0.39, False, version)
    kept = KeptEmbedding(TASK, version, "sample", bytes(16))
    other = next(one.version for one in AdapterStore(database).newest(TASK, 2) if one.version != version)
    scored = [
        ScoredReview(_accepted(number, now), (said,), (kept,), (said._replace(adapter_version=other),))
        for number in (5, 6)
    ]
    letter = DeadLetter(7, "parse", "not_json", "It is no JSON.", b"{", None, now)
    again = letter._replace(offset=8, replay=Replay(topic, 0, 7))
    writer = ReviewWriter(database, forward_dead_letters=True)
    taken = AcceptedWithdrawal(4, Withdrawal(id="walk-0"), now, now, b"{}", None, arrived_ms=1)
    part = PartitionRange(position.partition_id, 4, 9, scored, [letter, again], [taken])
    yield Call("store a batch", lambda: writer.write([part]))
    late = _accepted(9, now)._replace(replay=Replay(topic, 0, 7))
    late = late._replace(message=late.message.model_copy(update={"id": f"late-{topic}"}))
    early = UnpinnedLabel(f"late-{topic}", TASK, "positive", "walker", "import", now, None)
    yield Call("a label before its review", lambda: LabelStore(database).add([early]))
    replayed = PartitionRange(position.partition_id, 9, 10, [ScoredReview(late, (said,))])
    yield Call("store a replay", lambda: writer.write([replayed]))
    letters = DeadLetterStore(database)
    yield Call("forward dead letters", lambda: letters.forward(lambda _: None))
    choices = {
        "oldest": Choice(limit=100),
        "reason": Choice(error="not_json", limit=100),
        "place": Choice((("reviews", 0, 7),)),
    }
    for name, choice in choices.items():
        yield Call(f"choose dead letters: {name}", lambda choice=choice: letters.choose(choice), 2)
    chosen = letters.choose(Choice(limit=2))
    yield Call("read dead letters", lambda: letters.read(chosen))
    yield Call("discard dead letters", lambda: letters.discard([one.record for one in chosen], "walked"))
    labels = partitions.register("walk", "review-labels", f"labels-{topic}", 0, 0)
    messages = [_label(number, now) for number in range(2)]
    yield Call(
        "store labels of the topic",
        lambda: LabelWriter(database).write([PartitionRange(labels.partition_id, 0, 2, messages)]),
    )
    yield Call("look for reviews of waiting labels", lambda: pin_waiting(database), 5)
    yield Call(
        "look for all of them, and give up", lambda: pin_waiting(database, timedelta(0), everything=True), 600
    )


def _accepted(number: int, now: datetime) -> AcceptedReview:
    message = ReviewMessage(id=f"walk-{number}", text="Walked.")
    return AcceptedReview(number, message, now, now, b"{}", None)


def _label(number: int, now: datetime) -> AcceptedLabel:
    name = f"walk-{5 if number == 0 else uuid4()}"
    message = LabelMessage(review_id=name, label="positive", annotator="walker", labelled_at=now)
    return AcceptedLabel(number, message, now, now, b"{}", None)


def _labelling(database: Database) -> Iterator[Call]:
    """What annotators do."""
    now, me = datetime.now(UTC), f"walker-{uuid4()}"
    queue, contents = AnnotationQueue(database), QueueContents(database)
    labels, guidelines = LabelStore(database), GuidelineStore(database)
    records = [row["record"] for row in find_page(database, ReviewFilter(task=TASK, limit=20)).rows]
    items = [NewItem(record, TASK, "uncertain", "walk", 2.0) for record in records]
    yield Call("queue items", lambda: contents.add(items))
    yield Call("queue: counts", lambda: (contents.counts(TASK), contents.counts(TASK, "open")), 2)
    yield Call("queue: top", lambda: contents.top(TASK, 10))
    yield Call("queue: left for me", lambda: queue.left_for(TASK, me, 1_000))
    yield Call("queued records", lambda: queued_records(database, TASK, records))
    held = queue.lease_several(TASK, me, 60, 5)
    yield Call("lease items", lambda: queue.lease_several(TASK, me, 60, 1))
    yield Call("renew a lease", lambda: queue.renew(held[0], me, 60))
    yield Call("the item that I have", lambda: queue.held(TASK, held[0].record, me))
    yield Call("answer", lambda: queue.answer(held[0], "positive", me, action=Action(uuid4())))
    yield Call("skip", lambda: queue.skip(held[1], me))
    yield Call("undo an answer", lambda: queue.undo(held[0], me, 60))
    yield Call("undo a skip", lambda: queue.undo(held[1], me, 60))
    yield Call("give back", lambda: queue.give_back(held[2]))
    yield Call("release", lambda: contents.release(me))
    yield Call("expire items", lambda: contents.expire(TASK, 3_000), 10)
    yield Call("close answered items", lambda: contents.close_answered(TASK), 30)
    yield Call("actions of late", lambda: done_actions(database, TASK, me, seconds=3600, most=10))
    yield Call("my answers of today", lambda: progress.answered_since(database, TASK, me, now - _DAY))
    yield Call("agreement with myself", lambda: progress.consistency(database, TASK, "ann"))
    yield Call("labelled by slice", lambda: progress.labelled_by_slice(database, TASK, _SHARES, 2_000))
    yield Call("ties", lambda: progress.queue_ties(database, TASK))
    yield Call("guesses", lambda: progress.guesses(database, TASK, records))
    yield Call("newest scored", lambda: progress.newest_scored(database, TASK, 500))
    yield Call("write guidelines", lambda: guidelines.write(TASK, "# W", me, replaces=_version(guidelines)))
    yield Call("guidelines", lambda: guidelines.history(TASK))
    answer = Label(records[0], TASK, "positive", me, "import", now, -1)
    waits = UnpinnedLabel(f"nobody-{uuid4()}", TASK, "positive", me, "import", now, None)
    yield Call("add labels", lambda: labels.add([answer, waits]))
    yield from _label_sets(database, records, me, now)
    yield from _models(database, records)
    yield Call("set a label", lambda: labels.answer("walk-5", TASK, "positive", me))
    yield Call("answers to records", lambda: labels.answers(TASK, records))
    yield Call("latest answers", lambda: labels.latest_answers(TASK), 10)
    yield Call("latest answers of labels", lambda: labels.latest_of([answer, waits]))
    yield Call("unknown records", lambda: labels.unknown_records(records))
    yield Call("the version that was judged", lambda: labels.judged("walk-5", now))
    yield Call("annotations of Label Studio", lambda: _annotate(database, records[3], me, now))
    yield Call("vocabulary", lambda: labels.vocabulary(TASK))
    yield Call("consensus", lambda: labels.consensus(TASK, records))
    yield Call("labels export --answers: its first", lambda: _first(labels.all_answers(TASK)))
    for wanted in (
        ItemFilter(TASK, limit=50),
        ItemFilter(TASK, queued=True, limit=50),
        ItemFilter(TASK, unlabelled=True, uncertain=True, limit=50),
    ):
        yield Call("items to label", lambda wanted=wanted: find_items(database, wanted))
    yield Call("all items: the first", lambda: _first(find_items(database, ItemFilter(TASK))))


def _label_sets(database: Database, records: list[int], me: str, now: datetime) -> Iterator[Call]:
    """Labels that change: of a task of its own, and counted only of the one that serves."""
    sets, task = LabelSetStore(database), f"walk-{uuid4()}"
    LabelStore(database).add(
        [Label(record, task, "ab"[number % 2], me, "import", now) for number, record in enumerate(records)]
    )
    split = LabelChange("split", ("positive",), ("glad", "content"))
    yield Call("labels of a task", lambda: (sets.current(task), sets.declared(task), sets.history(task)))
    yield Call("count a split", lambda: sets.declare(TASK, split, me, ask_again=100, dry_run=True), 30)
    yield Call("rename a label", lambda: sets.declare(task, LabelChange("rename", ("a",), ("c",)), me), 30)
    yield Call("ask again", lambda: sets.ask_again(task, ["c"], 10), 10)
    yield Call("night: answers under old names", lambda: follow_newest(database, task), 10)
    trial = ShadowRun(0, task, "walk", 1.0, now, None, me)
    yield Call("labels that mean the same", lambda: ShadowStore(database).same_labels(trial, []))
    yield Call("disagreements of it", lambda: pool.disagreements(database, task, now - _DAY, _SHARES, 10), 10)


def _models(database: Database, records: list[int]) -> Iterator[Call]:
    """What models answered, and what answers took."""
    contents, labels, now = QueueContents(database), LabelStore(database), datetime.now(UTC)
    of_model = [Label(record, TASK, "positive", "model:walker", "import", now) for record in records]
    yield Call("add answers of a model", lambda: labels.add(of_model))
    yield Call("models beside people", lambda: model_agreement(database, TASK), 10)
    yield Call("close what models answered", lambda: contents.close_answered_by_models(TASK, _SHARES), 30)
    yield Call("seconds of mine", lambda: progress.median_seconds(database, TASK, "ann"))
    yield Call("what answers took", lambda: (time_spent(database, TASK), timed_answers(database, TASK)), 10)


def _annotate(database: Database, record: int, me: str, now: datetime) -> None:
    """Two annotations of one person, of which the later one is deleted; and a skip."""
    store, project = AnnotationStore(database), f"walk-{uuid4()}"
    first = GivenAnnotation(project, 1, 1, record, me, now, {TASK: "negative"})
    store.store(first)
    store.store(first._replace(number=2, changed_at=now + timedelta(seconds=1), answers={TASK: "positive"}))
    store.standing(project, [1])
    store.delete(project, [2])
    skipped = {"changed_at": now + timedelta(seconds=2), "answers": {}, "passed_on": (TASK,)}
    store.store(first._replace(**skipped))


def _version(guidelines: GuidelineStore) -> int:
    current = guidelines.current(TASK)
    return 0 if current is None else current.version


def _learning(database: Database) -> Iterator[Call]:
    """What a nightly run does."""
    now = datetime.now(UTC)
    labels, leases, runs = LabelStore(database), LeaseStore(database), TrainingRunStore(database)
    requests, adapters = RunRequestStore(database), AdapterStore(database)
    yield Call("night: labelled reviews", lambda: labels.labelled(TASK), 30)
    yield Call("night: what only models answered", lambda: labels.labelled_by_models(TASK), 30)
    yield Call("night: labels without a text", lambda: labels.without_text(TASK), 10)
    yield Call("night: edited reviews", lambda: labels.edited_since_label(TASK), 30)
    yield Call("night: pool", lambda: pool.read_pool(database, TASK, _SHARES, with_lengths=True), 60)
    yield Call("night: audit pool", lambda: pool.read_audit_pool(database, TASK, _SHARES, now - 7 * _DAY), 30)
    embedded = _value(database, "SELECT max(record) FROM embedding") or 0
    own = _value(database, f"SELECT adapter_id FROM embedding WHERE record = {embedded}")
    yield Call(
        "night: embeddings",
        lambda: pool.read_embeddings(database, TASK, own, np.arange(embedded - 50_000, embedded + 1)),
        10,
    )
    records = [row["record"] for row in find_page(database, ReviewFilter(task=TASK, limit=20)).rows]
    yield Call("night: texts", lambda: pool.read_texts(database, np.array(records, np.int64)))
    yield Call("night: known texts", lambda: pool.read_known_texts(database, TASK, 2_000), 2)
    yield Call(
        "night: disagreements", lambda: pool.disagreements(database, TASK, now - 7 * _DAY, _SHARES, 150), 10
    )
    yield Call("schedule: what is new", lambda: read_pending(database, TASK))
    yield Call("ask for a run", lambda: requests.ask(TASK, "walker", "to see"))
    yield Call("requests of late", lambda: (requests.latest(TASK), requests.of_run(1)))
    yield Call("give a request time", lambda: requests.give_time((TASK,), "walker"))
    asked = requests.take((TASK,), "walker")
    yield Call("take a request", lambda: requests.take((TASK,), "walker"))
    lease = leases.take(training_lease(TASK), f"walker-{uuid4()}", 3600)
    if lease is None:
        raise RuntimeError("Somebody trains on this database.")
    yield Call(
        "lease",
        lambda: (
            leases.renew(lease, 3600),
            leases.holder(lease.name),
            leases.take(schedule_lease("walk"), "w", 0),
        ),
    )
    active = adapters.active(TASK)
    if asked is None or active is None:
        raise RuntimeError("The request was taken by somebody else.")
    run = runs.start(TASK, "walk", lease, {}, active.version, request=asked.id)
    items = [TrainingItem(record, "train", "positive", 1.0) for record in records]
    yield Call("run: stage", lambda: runs.reach(run, lease, "collect"))
    yield Call("run: dataset", lambda: runs.keep_dataset(run, lease, items, {}))
    yield Call("run: progress", lambda: runs.note_progress(run, lease, {"step": 1}))
    yield Call("run: decision", lambda: runs.decide(run, lease, "kept", verdict={"checks": []}))
    candidate = adapters.find(active.version)
    yield Call(
        "run: promotion",
        lambda: runs.promote(run, lease, candidate, expected=active, reason="walk", verdict={}, metrics={}),
    )
    yield Call("run: end", lambda: runs.close(run, lease))
    yield Call("run: failure", lambda: runs.fail(run, lease, "walked"))
    yield Call("run: end of the lease", lambda: leases.release(lease))
    outbox = MlflowOutbox(database, f"walk-{uuid4()}")
    yield Call("MLflow: runs, adapters and activations", lambda: _outbox(outbox))
    yield Call("request: failure", lambda: requests.fail(asked.id, "walked"))
    yield Call("runs", lambda: (runs.history(TASK, before=10**6), runs.last_began(TASK), runs.show(run)))
    yield Call(
        "run: items",
        lambda: (runs.items(run), runs.trained_on(active.version), runs.makers([active.version])),
    )
    yield Call("comparisons so far", lambda: runs.comparisons(TASK, "improves"))
    previous = next(one.version for one in adapters.newest(TASK, 2) if one.version != active.version)
    yield Call(
        "audit of an adapter",
        lambda: audit_answers(
            database, TASK, active=active.version, previous=previous, since=now - 365 * _DAY, shares=_SHARES
        ),
        10,
    )
    yield from _rescoring(database, active.version, previous)


def _prune(database: Database, shadows: ShadowStore, refused: AdapterVersion) -> None:
    """One that was on trial, which keeps its record, and one that was not."""
    running = shadows.running(TASK)
    trial = shadows.start(refused, 0.1, "walker", "to see", instead_of=running)
    shadows.stop(trial, "walker", "seen")
    other = replace(refused, version=f"{refused.version}x", content_hash=f"{refused.content_hash[:-1]}x")
    AdapterStore(database).add(other, {"adapter_config.json": b"{}"})
    prune_rejected(database, 0)


def _overrule(adapters: AdapterStore, refused: AdapterVersion) -> None:
    """Let an adapter that was rejected take over, and go back."""
    before = adapters.active(TASK)
    if before is None:
        raise RuntimeError("No adapter is active.")
    chosen = replace(refused, version=f"{refused.version}y", content_hash=f"{refused.content_hash[:-1]}y")
    adapters.add(chosen, {"adapter_config.json": b"{}"})
    took = adapters.activate(chosen, expected=before, decided_by="walker", reason="to see")
    back = adapters.find(before.version)
    adapters.activate(back, expected=took, decided_by="walker", reason="seen", restores=before)


def _outbox(outbox: MlflowOutbox) -> None:
    outbox.runs(5)
    for adapter in outbox.adapters(5):
        outbox.note("adapter", adapter.version, "1")
    outbox.activations()


def _rescoring(database: Database, active: str, other: str) -> Iterator[Call]:
    store, adapters = RescoreStore(database), AdapterStore(database)
    store.cancel(TASK)
    job = store.create(adapters.find(other))
    yield Call("rescoring: find", lambda: (store.find(job.id), store.latest(TASK)))
    claim = store.claim(job, "walker")
    if claim is None:
        return
    yield Call("rescoring: claim", lambda: store.claim(job, "another"))
    texts = store.read(job, claim, 100, 1_000_000)
    yield Call("rescoring: read", lambda: store.read(job, claim, 100, 1_000_000))
    said = Prediction(TASK, "positive", 0.9, (0.04, 0.06, 0.9), 0.84, 0.39, False, other)
    kept = KeptEmbedding(TASK, other, "sample", bytes(16))
    rows = [Rescored(one.record, one.adapter_id, said, kept) for one in texts[:5]]
    done = rows[-1].record + 1 if rows else claim.done_record
    yield Call("rescoring: commit", lambda: store.commit(job, claim, done, rows, 0))
    yield Call("rescoring: progress", lambda: (store.progress(job), store.finish(job)))
    yield Call("rescoring: release", lambda: store.release(claim))
    yield Call(
        "rescoring: begin and end",
        lambda: (store.cancel(TASK), store.create(adapters.find(active)), store.cancel(TASK)),
        5,
    )


def _deciding(database: Database) -> Iterator[Call]:
    """What operators decide, and what they look at for it."""
    adapters, shadows = AdapterStore(database), ShadowStore(database)
    newest = adapters.newest(TASK, 2)
    first, second = newest[0], newest[1]
    made = f"{uuid4().hex}{uuid4().hex}"
    walked = AdapterVersion(
        f"{TASK}-{made[:12]}", TASK, ("negative", "neutral", "positive"), "none", None, made
    )
    yield Call("adapters add", lambda: adapters.add(walked, {"adapter_config.json": b"{}"}))
    refused = replace(walked, version=f"{TASK}-{made[12:24]}", content_hash=made[::-1], state="rejected")
    adapters.add(refused, {"adapter_config.json": b"{}"})
    yield Call("a rejected adapter", lambda: adapters.reject(refused.version))
    yield Call("why it was rejected", lambda: why_rejected(database, refused.version))
    yield Call("prune rejected adapters", lambda: _prune(database, shadows, refused))
    yield Call("promotion of a rejected adapter", lambda: _overrule(adapters, refused))
    yield Call(
        "adapters list", lambda: (adapters.list_versions(TASK), adapters.newest(TASK), adapters.history(TASK))
    )
    yield Call(
        "adapter",
        lambda: (
            adapters.registered([first.version]),
            adapters.size(first.version),
            adapters.manifest(first.version),
            adapters.files(second.version),
        ),
    )
    yield Call("promotion: what it means", lambda: propose_promotion(database, walked.version), 10)
    active = adapters.active(TASK)
    again = adapters.find(active.version if active else first.version)
    yield Call(
        "promotion", lambda: adapters.activate(again, expected=active, decided_by="walker", reason="to see")
    )
    yield Call("two adapters", lambda: side_by_side(database, TASK, first.version, second.version), 2)
    yield Call("shadow: end", lambda: [shadows.stop(one) for one in shadows.latest(TASK, 1)])
    trial = shadows.start(second, 0.1, "walker", "to see")
    yield Call("shadow: another", lambda: shadows.start(second, 0.2, "walker", "to see", instead_of=trial))
    yield Call(
        "shadow: trials",
        lambda: (shadows.running(TASK), shadows.latest(TASK), shadows.of_adapter(second.version)),
    )
    old = trial.__class__(
        **{**_fields(trial), "version": first.version, "started_at": datetime.now(UTC) - 900 * _DAY}
    )
    yield Call("shadow: agreement", lambda: shadows.agreement(old), 5)
    yield Call("shadow: disagreements", lambda: shadows.disputed(old, 20), 5)
    yield Call("shadow: stop", lambda: [shadows.stop(one) for one in shadows.latest(TASK, 1)])


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _publishing(database: Database) -> Iterator[Call]:
    """What a sink does."""
    topic, published = f"sink-{uuid4()}", list[ScoredRow]()
    store = SinkStore(database, topic, "review-labels", "earliest")
    yield Call("sink: set up", store.open, 5)
    yield Call("sink: publish rows", lambda: store.forward(published.extend), 2)

    def change() -> None:
        record, moment = published[0].record, datetime.now(UTC)
        LabelStore(database).add([Label(record, TASK, "positive", "walker", "import", moment)])
        with database.begin() as connection:
            mark_rescored(connection, TASK, [row.record for row in published[:100]])
            mark_erased(connection, {record: published[0].review_id})
            unpublished_from(connection)

    yield Call("sink: mark changes", change)
    yield Call("sink: publish changes", lambda: [store.forward(lambda _: None) for _ in range(20)], 20)
    yield Call("sink: lag", store.lag)
    yield Call("sink: remove", lambda: remove_sink(database, topic))


def _keeping(database: Database) -> Iterator[Call]:
    """Retention and erasure: what goes, and what is looked for before."""
    days: dict[str, Any] = {name: 360.0 for name in RetentionSettings.model_fields if name.endswith("_days")}
    for wanted in (RetentionSettings(**days), RetentionSettings(texts_days=200)):
        retention = Retention(database, wanted, wait=lambda _: False)
        yield Call("data retain --dry-run", retention.rehearse, 30)
        yield Call("data retain", retention.run, 120)
    keeping = Retention(database, RetentionSettings(), wait=lambda _: False)
    yield Call("data retain --shrink", keeping.shrink, 600)
    erasures, receipts, writer = ErasureStore(database), ReceiptStore(database), ReviewWriter(database)
    ids = list(database.fetch_values(text("SELECT review_id FROM review ORDER BY record LIMIT 3")))
    partitions = PartitionStore(database)

    def erase() -> None:
        number = erasures.request(ids, "walker", "walked", {1: 10})
        erasures.unfinished()
        erasures.withdrawn(only_tombstones=True)
        erasures.proceed(number)
        receipts.add_finding(number, ErasureFinding("elsewhere", 0, "open", ""))
        receipts.receipts(5)
        receipts.open_places([number])
        erasures.days(number)
        lake = ExportErasures(database, "lake")
        lake.can_note()
        lake.to_apply(())
        lake.note(number, "reviews/day=2026-05-01", 1)
        lake.settle([number])
        receipts.close_all()
        with suppress(ReviewLoopError):
            receipts.receipt(10**9)

    yield Call("forget", erase, 60)

    def erase_again() -> None:
        past = PastErasureStore(database)
        _, listed = past.list_all()
        past.unknown(listed)
        past.repeat([one.model_copy(update={"requested_at": datetime.now(UTC)}) for one in listed])
        erasures.proceed(erasures.unfinished()[0])

    yield Call("restore --erasures-only", erase_again, 600)
    yield Call("forget --attribute", lambda: ids_with(database, "author", "nobody"), 60)
    new = partitions.register("walk", "reviews", f"topic of {uuid4()}", 0, 0)
    letter = DeadLetter(0, "parse", "walked", "Walked.", b'{"id": "q"}', None, datetime.now(UTC))
    part = PartitionRange[Any](new.partition_id, 0, 1, [], [letter])
    yield Call("store a batch that may be erased", lambda: writer.write([part]))
    yield Call("adapter: has seen an erased review", lambda: AdapterStore(database).has_seen_erased("none"))


def _administering(database: Database) -> Iterator[Call]:
    """Accounts, and what is done to the schema."""
    users, sessions, tokens = UserStore(database), SessionStore(database), TokenStore(database)
    attempts, log, name = AttemptStore(database), AuditLog(database), f"walker{uuid4().hex[:8]}"
    user = users.add(name, Role.OWNER, "walk")
    yield Call("users", lambda: (users.all(), users.get(name), users.find(name), users.anybody()))
    yield Call("user: role", lambda: users.set_role(name, Role.OWNER))
    link = sessions.make_link(user, LinkPurpose.LOG_IN, _DAY)
    yield Call(
        "link",
        lambda: (sessions.find_link(link, LinkPurpose.LOG_IN), sessions.use_link(link, LinkPurpose.LOG_IN)),
    )
    yield Call("session", lambda: _session(sessions, user))
    token = tokens.add(name, user, Role.OWNER, _DAY)
    yield Call("token", lambda: (tokens.find(token), tokens.all(), tokens.revoke(name)))
    yield Call("attempt", lambda: attempts.succeed(attempts.begin(name, "::1") or 0))
    yield Call("user: password", lambda: users.set_password(name, None))
    yield Call("user: end", lambda: _end(users, name))
    yield Call("audit log", lambda: _decide(log))


def _session(sessions: SessionStore, user: Any) -> None:
    secret = sessions.begin(user, "link", _DAY)
    sessions.find(secret)
    sessions.end(secret)


def _end(users: UserStore, name: str) -> None:
    with suppress(ReviewLoopError):  # the only owner stays
        users.disable(name)
    users.enable(name)


def _decide(log: AuditLog) -> None:
    with log.decision("walker", "walk", "nothing"):
        pass
    log.entries(before=10**9)


def text_index(database: Database) -> None:
    """Make the index on texts and remove it: a job by itself, which takes minutes a million reviews."""
    create_text_index(database)
    try:
        list(find_reviews(database, ReviewFilter(text="zzzz")))
        find_page(database, ReviewFilter(text="zzzz"))
    finally:
        drop_text_index(database)
