"""Raw records in, one outcome each out: an accepted review or label, or a dead letter, never nothing (I4).

A record of a source may also withdraw a review, or be left out by the source's settings.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from broker.subscription import Record
from consumer.settings import ConsumerSettings
from reviews.dead_letter import DeadLetter, DeadLetterStage, Replay, read_replay
from reviews.errors import InvalidMessage, Undecodable
from reviews.label import labelled_in_future, parse_label
from reviews.message import ReviewMessage, parse_review
from reviews.sources.mapping import SourceMapping
from reviews.sources.record_parts import RecordPlace
from reviews.sources.topics import TopicMappings
from reviews.stream_records import (
    AcceptedLabel,
    AcceptedReview,
    AcceptedWithdrawal,
    FilteredOut,
    Origin,
)
from reviews.withdrawal import Withdrawal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_Item = TypeVar("_Item")

ReviewOutcome = AcceptedReview | AcceptedWithdrawal | FilteredOut | DeadLetter


class ReviewParser:
    """Reads reviews: of each topic by the rules of its source, and as the message format where it has none.

    Args:
        mappings: The rules.
    """

    def __init__(self, mappings: TopicMappings) -> None:
        self._mappings = mappings

    def __call__(
        self,
        records: Iterable[Record],
        received_at: datetime,
        settings: ConsumerSettings,
        origin: Origin,
    ) -> Sequence[ReviewOutcome]:
        """One outcome per record, in order.

        Args:
            records: As delivered.
            received_at: When they were (UTC).
            settings: Longer messages than they allow are dead letters. A review that was published later
                than Kafka had it, by more than clocks may differ, gets Kafka's time.
            origin: The partition that they are from.

        Raises:
            Unavailable: If a schema registry does not answer; no record of these has an outcome then.
        """
        mapping = self._mappings.of(origin.topic)
        if mapping is None:
            return parse_reviews(records, received_at, settings)
        clock = _ArrivalClock(received_at, settings)
        return _outcomes("map", partial(_accept_mapped, mapping, origin), records, clock)


def parse_reviews(
    records: Iterable[Record],
    received_at: datetime,
    settings: ConsumerSettings,
    _origin: Origin | None = None,
) -> list[AcceptedReview | DeadLetter]:
    """One outcome per record in the message format of reviews, in order.

    Args:
        records: As delivered.
        received_at: When they were (UTC).
        settings: As of :class:`ReviewParser`.
    """
    return _outcomes("parse", _accept_review, records, _ArrivalClock(received_at, settings))


def parse_labels(
    records: Iterable[Record],
    received_at: datetime,
    settings: ConsumerSettings,
    _origin: Origin | None = None,
) -> list[AcceptedLabel | DeadLetter]:
    """One outcome per record, in order.

    Args:
        records: As delivered.
        received_at: When they were (UTC).
        settings: Longer messages than they allow are dead letters. So is a label that was given later than
            Kafka had it, by more than clocks may differ: it would outlive every correction until then.
    """
    return _outcomes("label", _accept_label, records, _ArrivalClock(received_at, settings))


class _ArrivalClock:
    """Kafka's times of records, held against the clock of the worker that has them in hand.

    Producers write these times as a rule, and they may be none, or in the future.
    """

    def __init__(self, received_at: datetime, settings: ConsumerSettings) -> None:
        self.received_at = received_at
        self.max_message_bytes = settings.max_message_bytes
        self._received_ms = (received_at - _EPOCH) // _MILLISECOND
        self._tolerance_ms = settings.clock_tolerance // _MILLISECOND

    def plausible_ms(self, kafka_ms: int) -> int:
        """Kafka's time, in milliseconds since 1970; the time of receipt where it is none or in the future."""
        if 0 <= kafka_ms <= self._received_ms + self._tolerance_ms:
            return kafka_ms
        return self._received_ms

    def moment(self, plausible_ms: int) -> datetime:
        """That time as a moment (UTC)."""
        return self.received_at if plausible_ms == self._received_ms else _EPOCH + plausible_ms * _MILLISECOND

    def is_in_future(self, moment: datetime, plausible_ms: int) -> bool:
        """Whether a moment is later than a record arrived, by more than clocks may differ."""
        return moment.timestamp() * 1000 > plausible_ms + self._tolerance_ms


def _outcomes(
    stage: DeadLetterStage,
    accept: Callable[[Record, int, Replay | None, _ArrivalClock], _Item],
    records: Iterable[Record],
    clock: _ArrivalClock,
) -> list[_Item | DeadLetter]:
    outcomes: list[_Item | DeadLetter] = []
    for record in records:
        kafka_ms, replay = record.timestamp, None
        if record.headers and (replay := read_replay(record.headers)) and replay.timestamp_ms is not None:
            # A replay keeps the time of the first attempt: an old message does not become the newest by it.
            kafka_ms = replay.timestamp_ms
        try:
            outcomes.append(accept(record, kafka_ms, replay, clock))
        except InvalidMessage as err:
            outcomes.append(
                DeadLetter(
                    offset=record.offset,
                    stage="decode" if isinstance(err, Undecodable) else stage,
                    reason=err.reason,
                    message=str(err),
                    raw=record.value,
                    key=record.key,
                    received_at=clock.received_at,
                    kafka_ms=kafka_ms,
                    replay=replay,
                    headers=record.headers,
                )
            )
    return outcomes


def _accept_review(
    record: Record, kafka_ms: int, replay: Replay | None, clock: _ArrivalClock
) -> AcceptedReview:
    return _accepted(
        parse_review(record.value, clock.max_message_bytes), None, record, kafka_ms, replay, clock
    )


def _accept_mapped(  # noqa: PLR0917  four of them are what every such function gets
    mapping: SourceMapping,
    origin: Origin,
    record: Record,
    kafka_ms: int,
    replay: Replay | None,
    clock: _ArrivalClock,
) -> AcceptedReview | AcceptedWithdrawal | FilteredOut:
    message = mapping.direct(record)
    if message is not None:
        return _accepted(message, None, record, kafka_ms, replay, clock)
    # A replay has the place of the first attempt: a review that is named after its place keeps that name.
    named = (
        RecordPlace(*replay[:3]) if replay else RecordPlace(origin.topic_id, origin.partition, record.offset)
    )
    mapped = mapping.read(record, kafka_ms, named)
    if mapped is None:
        if replay:  # its dead letter would wait for ever: nothing of this record is stored that settles it
            raise InvalidMessage("left_out", "The settings of the source leave this record out: discard it.")
        return FilteredOut(record.offset)
    if isinstance(mapped, Withdrawal):
        return _accept_withdrawal(mapped, record, kafka_ms, replay, clock)
    return _accepted(mapped.message, mapped.attributes, record, kafka_ms, replay, clock)


def _accept_withdrawal(
    withdrawal: Withdrawal, record: Record, kafka_ms: int, replay: Replay | None, clock: _ArrivalClock
) -> AcceptedWithdrawal:
    arrived_ms = clock.plausible_ms(kafka_ms)
    return AcceptedWithdrawal(
        record.offset,
        withdrawal,
        clock.moment(arrived_ms),
        clock.received_at,
        record.value,
        record.key,
        kafka_ms,
        replay,
        arrived_ms,
        headers=record.headers,
    )


def _accepted(  # noqa: PLR0917  keywords would cost a plain review a twentieth of its time here
    message: ReviewMessage,
    attributes: bytes | None,
    record: Record,
    kafka_ms: int,
    replay: Replay | None,
    clock: _ArrivalClock,
) -> AcceptedReview:
    event_time = message.published_at or _kafka_time(kafka_ms, clock.received_at)
    record_ms, stated_at = clock.plausible_ms(record.timestamp), None
    arrived_ms = record_ms if replay is None else clock.plausible_ms(kafka_ms)
    # A replay may be corrected: it may state any time until it was published again. A time beyond that is
    # replaced by the first attempt's, so that an old message does not become the newest version.
    if clock.is_in_future(event_time, record_ms):
        stated_at, event_time = event_time, clock.moment(arrived_ms)
    # By position: keywords would add 0.3 µs, a twentieth of what a review takes from here to its row.
    return AcceptedReview(
        record.offset,
        message,
        event_time,
        clock.received_at,
        record.value,
        record.key,
        kafka_ms,
        replay,
        arrived_ms,
        stated_at,
        attributes,
        record.headers,
    )


def _accept_label(
    record: Record, kafka_ms: int, replay: Replay | None, clock: _ArrivalClock
) -> AcceptedLabel:
    message = parse_label(record.value, clock.max_message_bytes)
    labelled_at = message.labelled_at
    if labelled_at is not None and clock.is_in_future(labelled_at, clock.plausible_ms(record.timestamp)):
        raise labelled_in_future()
    return AcceptedLabel(
        record.offset,
        message,
        labelled_at or clock.moment(clock.plausible_ms(kafka_ms)),
        clock.received_at,
        record.value,
        record.key,
        kafka_ms,
        replay,
        headers=record.headers,
    )


def _kafka_time(kafka_ms: int, received_at: datetime) -> datetime:
    """The moment of a record's timestamp; the time of receipt where it has none.

    Raises:
        InvalidMessage: If the timestamp is beyond the year 9999.
    """
    if kafka_ms < 0:
        return received_at
    try:
        return _EPOCH + timedelta(milliseconds=kafka_ms)
    except OverflowError:
        raise InvalidMessage(
            "bad_timestamp", "The record's Kafka timestamp is beyond the year 9999 (it counts milliseconds)."
        ) from None
