"""The automatic rollback on a real PostgreSQL: audit labels, both adapters' answers, one decision."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.slices import SliceShares, slice_of
from reviews.stream_records import PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.queue_contents import QueueContents
from storage.learning.audits import audit_answers
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.integration.in_process import InProcess, Stream
from tests.scored import scored_review
from trainer.gate.rollback import roll_back_if_worse, should_roll_back
from trainer.settings import GateSettings

Run = Callable[..., str]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb"
SHARES = SliceShares()
AUDITED = [name for number in range(4000) if slice_of(name := f"r{number}", SHARES) == "audit"][:60]
OTHERS = [name for number in range(100) if slice_of(name := f"r{number}", SHARES) != "audit"][:20]


@pytest.fixture
def made(stream: Stream) -> InProcess:
    """A then B were activated; B scored everything, and is wrong; A, which was a shadow on half, is right."""
    made = stream()
    adapters = AdapterStore(made.database)
    for number, name in enumerate((A, B)):
        adapter = AdapterVersion(name, "sentiment", ("bad", "good"), "none", None, str(number) * 64)
        adapters.add(adapter, {"a": b""})
        adapters.activate(adapter, expected=adapters.active("sentiment"), decided_by="test", reason="test")
    PartitionStore(made.database).register("cluster", "reviews", "topic", 0, 0)
    reviews = [
        scored_review(
            offset, name, f"text of {name}", None, None, None, NOW, NOW, (_said(B, (0.9, 0.1)),),
            shadows=(_said(A, (0.2, 0.8)),) if offset % 2 else (),
        )
        for offset, name in enumerate(AUDITED + OTHERS)
    ]  # fmt: skip
    ReviewWriter(made.database).write([PartitionRange(1, 0, len(reviews), reviews)])
    return made


def _said(version: str, probabilities: tuple[float, float]) -> Prediction:
    label = "good" if probabilities[1] > probabilities[0] else "bad"
    return Prediction("sentiment", label, max(probabilities), probabilities, 0.6, 0.5, False, version)


def _label(
    database: Database, name: str, label: str | None, *, annotator: str = "ann", at: str = "now()"
) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO label (record, task, label, annotator, source, labelled_at, received_at) "
                f"SELECT record, 'sentiment', :label, :annotator, 'test', now(), {at} FROM review "
                "WHERE review_id = :name"
            ),
            {"label": label, "annotator": annotator, "name": name},
        )


def _draw(made: InProcess, names: Sequence[str]) -> None:
    """Queue reviews as the audit's own draw does."""
    records = made.sql("SELECT record FROM review WHERE review_id = ANY(%s)", list(names))
    drawn = [NewItem(record, "sentiment", "audit", "audit", 1.0, draw_weight=0.5) for (record,) in records]
    QueueContents(made.database).add(drawn)


def _answers(made: InProcess):
    def answers(task: str, active: str, previous: str, since: datetime):
        return audit_answers(
            made.database, task, active=active, previous=previous, since=since, shares=SHARES
        )

    return answers


class Loaded:
    """Answers as A would."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def predict(self, texts):
        self._asked += texts
        return [_said(A, (0.2, 0.8)) for _ in texts]


def _look(made: InProcess, load: Callable):
    def judge(truth, active, previous, draw_weights):
        return should_roll_back(truth, active, previous, draw_weights, GateSettings())

    return roll_back_if_worse("sentiment", AdapterStore(made.database), _answers(made), load, judge)


def test_only_drawn_reviews_that_people_agreed_on_since_the_activation_are_evidence(made: InProcess):
    early, tied, unsure, fine, half, unasked = AUDITED[:6]
    _draw(made, [*AUDITED[:5], OTHERS[0]])
    _label(made.database, early, "good", at="now() - interval '1 day'")
    _label(made.database, early, "good", annotator="bob")
    _label(made.database, tied, "good")
    _label(made.database, tied, "bad", annotator="bob")
    _label(made.database, unsure, None)
    for name in (fine, half, unasked, OTHERS[0]):
        _label(made.database, name, "good")
    since = AdapterStore(made.database).active("sentiment").activated_at
    found = _answers(made)("sentiment", B, A, since)
    assert [(row.text, row.label) for row in found] == [(f"text of {name}", "good") for name in (fine, half)]
    assert [row.active for row in found] == [pytest.approx((0.9, 0.1))] * 2
    assert [row.draw_weight for row in found] == [0.5, 0.5]
    assert [row.previous for row in found] == [pytest.approx((0.2, 0.8)), None]
    with made.database.begin() as connection:
        connection.execute(text("UPDATE prediction_history SET reason = 'replaced'"))
    assert _answers(made)("sentiment", B, A, since) == found
    assert _answers(made)("tone", B, A, since) == []


def test_labels_of_the_audit_slice_bring_the_better_predecessor_back_once(made: InProcess):
    asked: list[str] = []
    few = _look(made, lambda _: Loaded(asked))
    assert (few.outcome, asked) == ("stays", [])
    _draw(made, AUDITED)
    for name in AUDITED:
        _label(made.database, name, "good")

    found = _look(made, lambda _: Loaded(asked))

    assert (found.outcome, found.active, found.previous) == ("rolled_back", B, A)
    assert sorted(asked) == sorted(f"text of {name}" for name in AUDITED[::2])
    latest = AdapterStore(made.database).history("sentiment")[0]
    assert (latest.version, latest.replaced, latest.decided_by) == (A, B, "audit")
    assert "60 audit reviews" in latest.reason
    assert _look(made, lambda _: Loaded(asked)).outcome == "nothing_before"


def test_the_command_looks_with_the_gates_rule_and_says_what_it_found(
    made: InProcess, run: Callable[..., str]
):
    assert run(made, "adapters", "watch").startswith(f"{B} stays. On 0 audit reviews")
    with pytest.raises(WrongUse, match="There is no task 'tone'"):
        run(made, "adapters", "watch", "--task", "tone")
