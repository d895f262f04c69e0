"""What workers and sinks send."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from benchmarks.every_statement.call import TASK, Call
from reviews.dead_letter import DeadLetter, Replay
from reviews.label import Label, LabelMessage, UnpinnedLabel
from reviews.message import ReviewMessage
from reviews.prediction import Prediction
from reviews.scored_row import ScoredRow
from reviews.stream_records import (
    AcceptedLabel,
    AcceptedReview,
    AcceptedWithdrawal,
    KeptEmbedding,
    PartitionRange,
    ScoredReview,
)
from reviews.withdrawal import Withdrawal
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.labels.waiting import pin_waiting
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.label_writer import LabelWriter
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from storage.stream.sinks import SinkStore, mark_erased, mark_rescored, remove_sink, unpublished_from


def streaming(database: Database) -> Iterator[Call]:
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


def publishing(database: Database) -> Iterator[Call]:
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
