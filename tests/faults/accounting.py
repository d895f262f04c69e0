"""The promise itself, checked: what is stored of a partition is what was published there, each once."""

import json
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import make_url

from reviews.errors import InvalidMessage
from reviews.message import parse_review
from reviews.record_id import OFFSET_BITS
from tests.faults.fake_classifier import POISON, predict

UNSTORABLE = "this text cannot be stored"
"""What the text of a record begins with that a test makes the database refuse."""

Truth = dict[int, dict[int, bytes | None]]
"""What Kafka delivers: the value by partition and offset."""


@dataclass
class Account:
    """What the database holds of one stream.

    Attributes:
        partition_id: Its stored id.
        topic_id: Of the topic.
        partition: Its number.
        start: Where reading began.
        next: The first offset that is not stored yet.
        gaps: [first, next) of what was lost to retention or skipped by hand.
        reviews: Text by offset.
        predictions: (label, confidence, adapter version) by offset; a list, to see doubles.
        dead_letters: Raw value by offset.
    """

    partition_id: int
    topic_id: str
    partition: int
    start: int
    next: int
    gaps: list[tuple[int, int]] = field(default_factory=list)
    reviews: dict[int, str] = field(default_factory=dict, repr=False)
    predictions: dict[int, list[tuple[str, float, str]]] = field(default_factory=dict, repr=False)
    dead_letters: dict[int, bytes | None] = field(default_factory=dict, repr=False)

    def check(self, published: dict[int, bytes | None]) -> None:
        """Compare with what was published (I1 to I6).

        Raises:
            AssertionError: With the offsets that differ.
        """
        where = f"partition {self.partition} (stream {self.partition_id})"
        due = {
            offset
            for offset in published
            if self.start <= offset < self.next and not any(a <= offset < b for a, b in self.gaps)
        }
        both = self.reviews.keys() & self.dead_letters.keys()
        stored = self.reviews.keys() | self.dead_letters.keys()
        assert not both, f"{where}: {sorted(both)} are reviews and dead letters"
        assert not due - stored, f"{where}: lost {sorted(due - stored)} of [{self.start}, {self.next})"
        assert not stored - due, f"{where}: {sorted(stored - due)} outside [{self.start}, {self.next})"
        assert self.predictions.keys() == self.reviews.keys(), f"{where}: reviews and predictions differ"
        for offset in sorted(stored):
            self._check_record(offset, published[offset], f"{where} offset {offset}")

    def records_in_gaps(self, published: dict[int, bytes | None]) -> int:
        """How many of the published records lie in a gap."""
        return sum(any(a <= offset < b for a, b in self.gaps) for offset in published)

    def _check_record(self, offset: int, value: bytes | None, where: str) -> None:
        if not becomes_review(value):
            assert offset in self.dead_letters, f"{where}: {value!r} became a review"
            assert self.dead_letters[offset] == value, f"{where}: another raw value"
            return
        assert offset in self.reviews, f"{where}: {value!r} became a dead letter"
        text = json.loads(value)["text"]
        assert self.reviews[offset] == text, f"{where}: another text"
        assert len(self.predictions[offset]) == 1, f"{where}: {len(self.predictions[offset])} predictions"
        label, confidence, version = self.predictions[offset][0]
        said = predict(text, version)
        assert label == said.label, f"{where}: {version} did not say that"
        assert abs(confidence - said.confidence) < 1e-5, f"{where}: {version} did not say that"


def becomes_review(value: bytes | None) -> bool:
    """Whether a published value must end as a review; else as a dead letter."""
    try:
        text = parse_review(value).text
        return POISON not in text and not text.startswith(UNSTORABLE)
    except InvalidMessage:
        return False


def read_accounts(database_url: str, topic: str) -> list[Account]:
    """Every stream of a topic by that name, all from one snapshot of the database."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows = connection.execute(
            "SELECT id, topic_id, partition, start_offset, next_offset FROM stream_partition "
            "WHERE topic = %s ORDER BY id",
            [topic],
        )
        accounts = {row[0]: Account(*row) for row in rows}
        for account, offset, text in _records(connection, accounts, "review", "t.text"):
            account.reviews[offset] = text
        for account, offset, raw in _records(connection, accounts, "dead_letter", "t.raw"):
            account.dead_letters[offset] = raw
        said = "t.label, t.confidence, (SELECT version FROM adapter WHERE id = t.adapter_id)"
        for account, offset, *answer in _records(connection, accounts, "prediction", said):
            account.predictions.setdefault(offset, []).append(tuple(answer))
        for stream, first, behind in connection.execute(
            "SELECT stream_partition_id, first_offset, next_offset FROM stream_gap ORDER BY first_offset"
        ):
            if stream in accounts:
                accounts[stream].gaps.append((first, behind))
        return list(accounts.values())


def _records(connection, accounts: dict[int, Account], table: str, columns: str):
    query = f"SELECT t.record, {columns} FROM {table} t"
    for record, *rest in connection.execute(query):
        account = accounts.get(record >> OFFSET_BITS)
        if account is not None:
            yield account, record & ((1 << OFFSET_BITS) - 1), *rest
