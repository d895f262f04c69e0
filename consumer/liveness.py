"""What silence means: whether the brokers are reachable, and whether all of the topics is read.

When the brokers are unavailable, kafka-python reports nothing and delivers nothing, for ever. Silence
therefore proves neither that all is well nor that all is read.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.subscription import TopicPartition
from consumer.measures import Measures
from reviews.errors import Unread, WrongUse
from reviews.retry import Outage

_LOOKS_BEFORE_ALARM = 2  # a process that was frozen itself has heard nothing either, until it looks again


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to read of topics, as brokers and database said one after the other.

    Attributes:
        missing: The names of topics that are not there, and patterns that match none.
        ends: The offset after the last record, by partition.
        stored: The stored offset of each partition that any worker ever began to read.
        owned: The partitions of the worker that asked.
    """

    missing: tuple[str, ...]
    ends: Mapping[TopicPartition, int]
    stored: Mapping[TopicPartition, int]
    owned: frozenset[TopicPartition]

    @property
    def unread(self) -> dict[TopicPartition, int]:
        """Records that no worker has stored, by partition; at least 1 where none began to read."""
        found = {
            partition: end - self.stored[partition] if partition in self.stored else max(1, end)
            for partition, end in self.ends.items()
        }
        return {partition: records for partition, records in found.items() if records > 0}


class BrokerReachability:
    """Says that the brokers went away, ever more rarely that they still are, and once that they are back.

    Args:
        topics: What is read, for the log.
        is_reachable: Whether a broker answered lately; asked at every look.
        measures: Where the state is shown.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        topics: str,
        is_reachable: Callable[[], bool],
        measures: Measures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_reachable = is_reachable
        self._measures = measures
        self._silent_looks = 0
        self._outage = Outage("broker_unreachable", "broker_back", clock=clock, topic=topics)

    @property
    def is_away(self) -> bool:
        """Whether the brokers are known to be away."""
        return self._silent_looks >= _LOOKS_BEFORE_ALARM

    def look(self) -> None:
        """Look once; call it about once a second."""
        if self._is_reachable():
            self._silent_looks = 0
            self._outage.ended()
            self._measures.answered("kafka", by="brokers")
            return
        self._silent_looks += 1
        if self._silent_looks == _LOOKS_BEFORE_ALARM:
            self._measures.failed("kafka", by="brokers")
        if self.is_away:
            self._outage.failed("No Kafka broker answers; reading goes on by itself when one does.")


class IdleDetector:
    """Decides when a worker that runs until idle is done, and when it never will be.

    It is done when nothing was in hand for a while and, asked then, brokers and database agree that every
    record of the topics is stored, also those in partitions of other workers. So success means the same for
    every worker, whichever partitions it had, and a slow poll or database is not taken for silence.

    Args:
        seconds: How long nothing may have been in hand.
        patience_seconds: How long records of partitions of others may stay unread without any progress.
        backlog: Asks brokers and database.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        seconds: float,
        patience_seconds: float,
        backlog: Callable[[], Backlog],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._patience_seconds = patience_seconds
        self._backlog = backlog
        self._clock = clock
        self._stored = 0
        self._quiet_since = self._moved_at = clock()

    def note_work(self) -> None:
        """Take note that something is in hand, or that a service is unavailable: the time begins anew."""
        self._quiet_since = self._moved_at = self._clock()

    def is_idle(self) -> bool:
        """Whether all is read; call it at every turn.

        Raises:
            Unavailable: If brokers or database do not answer.
            WrongUse: If a topic does not exist.
            Unread: If others hold what is unread and get nowhere.
        """
        if self._clock() - self._quiet_since < self._seconds:
            return False
        backlog = self._backlog()
        self._quiet_since = self._clock()  # the next look comes after as long a silence
        if backlog.missing:
            raise WrongUse(
                f"{_say_missing(backlog.missing[0])}: check its name, or make it with 'reviewloop topics "
                "create'."
            )
        if not backlog.unread:
            return True
        self._require_progress(backlog)
        return False

    def _require_progress(self, backlog: Backlog) -> None:
        now, stored = self._clock(), sum(backlog.stored.values())
        if stored != self._stored or backlog.owned & backlog.unread.keys():
            self._stored, self._moved_at = stored, now
        elif now - self._moved_at >= self._patience_seconds:
            partitions = ", ".join(f"{name.topic}[{name.partition}]" for name in sorted(backlog.unread))
            raise Unread(
                f"Records stay unread ({sum(backlog.unread.values()):,}, in {partitions}): this worker was "
                "not given these partitions, and nobody has stored any of them for "
                f"{self._patience_seconds:g} s (consumer.idle_patience_seconds). Is another member of the "
                "group stuck, or does it store in another database?"
            )


def _say_missing(topic: str) -> str:
    return f"No topic matches {topic}" if topic.startswith("/") else f"The topic '{topic}' does not exist"
