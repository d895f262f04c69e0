"""What labelling sends: the queue, labels, their sets, answers of models."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from benchmarks.every_statement.call import DAY, SHARES, TASK, Call, first_rows
from reviews.adapter import ShadowRun
from reviews.label import Label, UnpinnedLabel
from reviews.label_set import LabelChange
from reviews.label_studio import GivenAnnotation
from reviews.queue_item import Action, NewItem
from storage.adapters.shadows import ShadowStore
from storage.database import Database
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
from storage.learning.disagreements import disagreements
from storage.queries.filters import ReviewFilter
from storage.queries.review_pages import find_page


def labelling(database: Database) -> Iterator[Call]:
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
    yield Call("my answers of today", lambda: progress.answered_since(database, TASK, me, now - DAY))
    yield Call("agreement with myself", lambda: progress.consistency(database, TASK, "ann"))
    yield Call("labelled by slice", lambda: progress.labelled_by_slice(database, TASK, SHARES, 2_000))
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
    yield Call("labels export --answers: its first", lambda: first_rows(labels.all_answers(TASK)))
    for wanted in (
        ItemFilter(TASK, limit=50),
        ItemFilter(TASK, queued=True, limit=50),
        ItemFilter(TASK, unlabelled=True, uncertain=True, limit=50),
    ):
        yield Call("items to label", lambda wanted=wanted: find_items(database, wanted))
    yield Call("all items: the first", lambda: first_rows(find_items(database, ItemFilter(TASK))))


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
    yield Call("disagreements of it", lambda: disagreements(database, task, now - DAY, SHARES, 10), 10)


def _models(database: Database, records: list[int]) -> Iterator[Call]:
    """What models answered, and what answers took."""
    contents, labels, now = QueueContents(database), LabelStore(database), datetime.now(UTC)
    of_model = [Label(record, TASK, "positive", "model:walker", "import", now) for record in records]
    yield Call("add answers of a model", lambda: labels.add(of_model))
    yield Call("models beside people", lambda: model_agreement(database, TASK), 10)
    yield Call("close what models answered", lambda: contents.close_answered_by_models(TASK, SHARES), 30)
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
