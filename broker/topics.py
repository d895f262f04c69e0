"""Which topics are meant; creates topics and reads their offsets, without joining a consumer group."""

import re
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from broker.connections import describe_errors, open_admin, open_consumer
from broker.settings import KafkaSettings
from reviews.errors import WrongUse
from reviews.topic_name import topic_name

_ANSWER_MS = 10_000


@dataclass(frozen=True)
class TopicChoice:
    """Which topics are read: some by their names, others by patterns, also those that are made later.

    Attributes:
        names: Topics that have to be there.
        patterns: Regular expressions in the syntax of Python's re; each has to match the whole name.
        excluded: Topics that no pattern takes, such as those that are written.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """The names, and the patterns between slashes."""
        return ", ".join([*self.names, *(f"/{pattern}/" for pattern in self.patterns)])

    def includes(self, topic: str) -> bool:
        """Whether a topic of this name is read."""
        return topic in self.names or self._matched.fullmatch(topic) is not None

    def among(self, topics: Collection[str]) -> list[str]:
        """Those of the topics that are read, in order of their names."""
        return sorted(filter(self.includes, topics))

    def missing_among(self, topics: Collection[str]) -> list[str]:
        """The names that are not among these topics, and the patterns that match none of them."""
        unmatched = [
            f"/{pattern}/"
            for pattern in self.patterns
            if not any(re.fullmatch(pattern, topic) for topic in topics if topic not in self.excluded)
        ]
        return [name for name in self.names if name not in topics] + unmatched

    @property
    def expression(self) -> str | None:
        """One regular expression for all of them, from the beginning to the end; None without patterns."""
        return rf"(?:{self._matched.pattern})\Z" if self.patterns else None

    @cached_property
    def _matched(self) -> re.Pattern[str]:
        excluded = "|".join(map(re.escape, sorted(self.excluded)))
        patterns = "|".join(f"(?:{pattern})" for pattern in self.patterns)
        names = "|".join(map(re.escape, self.names))
        by_pattern = rf"(?!(?:{excluded})\Z)(?:{patterns})" if excluded else patterns
        return re.compile("|".join(filter(None, (names, by_pattern))))


def create_topics(
    settings: KafkaSettings, names: list[str], *, partitions: int, replication_factor: int
) -> dict[str, bool]:
    """Make topics that are not there yet; those that are stay as they are.

    Returns:
        For each name whether it was made now.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If Kafka would not take a name.
    """
    for name in names:
        try:
            topic_name(name)
        except ValueError as err:
            raise WrongUse(f"'{name}' {err}.") from None
    made: dict[str, bool] = {}
    with describe_errors(settings), closing(open_admin(settings)) as admin:
        for name in names:
            try:
                options = {"num_partitions": partitions, "replication_factor": replication_factor}
                admin.create_topics({name: options}, wait_for_metadata=True)
                made[name] = True
            except TopicAlreadyExistsError:
                made[name] = False
    return made


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """How far a topic goes.

    Attributes:
        cluster_id: The cluster that it is in.
        topic_id: Its id, which a topic made anew under its name does not share.
        offsets: The offset after the last readable record, by partition.
    """

    cluster_id: str
    topic_id: str
    offsets: dict[int, int]


def topic_ends(settings: KafkaSettings, topics: Collection[str]) -> dict[str, TopicEnds]:
    """How far each of these topics goes; those that do not exist are left out.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """
    with closing(TopicEndsReader(settings)) as reader:
        return reader.read(TopicChoice(tuple(topics)))


def existing_topics(settings: KafkaSettings) -> set[str]:
    """The names of all topics that the brokers show this user, internal ones left out.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        return set(consumer.topics())


class TopicEndsReader:
    """Reads again and again how far topics go, over one connection.

    Args:
        settings: How to reach the brokers.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        with describe_errors(settings):
            self._consumer = open_consumer(settings)

    def read(self, choice: TopicChoice) -> dict[str, TopicEnds]:
        """How far each of these topics goes now; those that do not exist are left out.

        Raises:
            Unavailable: If no broker answers.
        """
        consumer = self._consumer
        with describe_errors(self._settings):
            topics = choice.among(consumer.topics()) if choice.patterns else choice.names
            places = [
                TopicPartition(topic, number)
                for topic in topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            ends = consumer.end_offsets(places, timeout_ms=_ANSWER_MS) if places else {}
        cluster = consumer._client.cluster  # noqa: SLF001  it has no public accessor
        found: dict[str, TopicEnds] = {}
        for place, offset in ends.items():
            topic_id = str(cluster.topic_id(place.topic))
            known = found.setdefault(place.topic, TopicEnds(str(cluster.cluster_id), topic_id, {}))
            known.offsets[place.partition] = offset
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def first_offsets(settings: KafkaSettings, topics: Collection[str]) -> dict[tuple[str, int], int]:
    """The first offset that the brokers still hold, by topic and partition; missing topics are left out.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        places = [
            TopicPartition(topic, number)
            for topic in topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        firsts = consumer.beginning_offsets(places, timeout_ms=_ANSWER_MS) if places else {}
        return {(place.topic, place.partition): offset for place, offset in firsts.items()}


def end_offset(settings: KafkaSettings, topic: str, partition: int) -> int:
    """The offset after the last record of a partition.

    Raises:
        Unavailable: If no broker answers, or none knows the partition.
    """
    place = TopicPartition(topic, partition)
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        return int(consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place])


@dataclass(frozen=True, slots=True)
class BrokerReport:
    """What the brokers say.

    Attributes:
        cluster_id: Of the cluster.
        brokers: How many there are.
        partitions: How many each topic has that is there.
        ahead: The topics with a record that carries a time after the moment asked about.
    """

    cluster_id: str
    brokers: int
    partitions: dict[str, int]
    ahead: tuple[str, ...]


def look(settings: KafkaSettings, choice: TopicChoice, future_ms: int) -> BrokerReport:
    """Ask the brokers about themselves and these topics.

    Args:
        settings: How to reach them; the group is not joined.
        choice: Which topics.
        future_ms: A moment in the future, milliseconds since 1970; no record should be later.

    Raises:
        Unavailable: If no broker answers.
        ReviewLoopError: If they do not let us in.
    """
    with closing(open_consumer(settings)) as consumer, describe_errors(settings):
        partitions = {
            topic: consumer.partitions_for_topic(topic) for topic in choice.among(consumer.topics())
        }
        cluster = consumer._client.cluster  # noqa: SLF001  it has no public accessor
        return BrokerReport(
            str(cluster.cluster_id),
            len(cluster.brokers()),
            {topic: len(found) for topic, found in partitions.items()},
            tuple(
                topic
                for topic, found in partitions.items()
                if _has_later_records(consumer, topic, found, future_ms)
            ),
        )


def _has_later_records(consumer: KafkaConsumer, topic: str, partitions: set[int], moment_ms: int) -> bool:
    moments = {TopicPartition(topic, number): moment_ms for number in partitions}
    return bool(moments) and any(consumer.offsets_for_times(moments).values())
