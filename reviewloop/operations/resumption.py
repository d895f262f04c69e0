"""Where workers go on with stored offsets, such as those of a backup: what Kafka still has, and what not."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from broker.settings import KafkaSettings
from broker.topics import first_offsets, topic_ends
from reviews.backup import StoredOffset

ResumptionState = Literal["goes on", "gap", "new stream", "beyond the end"]


class Resumption(NamedTuple):
    """What happens to one partition when a worker goes on at its stored offset.

    Attributes:
        topic: The topic's name.
        partition: The number of the partition.
        next_offset: The stored offset.
        to_read: How many offsets are read from there; None where the topic is another one.
        lost: How many offsets Kafka does not have any more: they become a recorded gap.
        state: ``goes on``; ``gap``: after one; ``new stream``: there is no such topic, or it was made anew or
            is another cluster's, so that it is read from its beginning, beside the old rows; ``beyond the
            end``: the brokers have lost data, and workers refuse to read.
    """

    topic: str
    partition: int
    next_offset: int
    to_read: int | None
    lost: int
    state: ResumptionState


def resumptions(settings: KafkaSettings, positions: Iterable[StoredOffset]) -> Iterator[Resumption]:
    """What happens to each partition.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """
    stored = list(positions)
    topics = {one.topic for one in stored}
    firsts, ends = first_offsets(settings, topics), topic_ends(settings, topics)
    for one in stored:
        found = ends.get(one.topic)
        is_same = found is not None and (found.cluster_id, found.topic_id) == (one.cluster_id, one.topic_id)
        end = found.offsets.get(one.partition) if found is not None and is_same else None
        yield _resumption(one, firsts.get((one.topic, one.partition)), end)


def _resumption(one: StoredOffset, first: int | None, end: int | None) -> Resumption:
    if first is None or end is None:
        return Resumption(one.topic, one.partition, one.next_offset, None, 0, "new stream")
    if one.next_offset > end:
        return Resumption(one.topic, one.partition, one.next_offset, 0, 0, "beyond the end")
    lost = max(0, first - one.next_offset)
    to_read = end - one.next_offset - lost
    return Resumption(one.topic, one.partition, one.next_offset, to_read, lost, "gap" if lost else "goes on")
