"""Keeps erased reviews from coming back by Kafka: by a late record or a restored offset.

The compare-and-set of a position returns up to which offset records may be of an erased review. Beyond it,
and where nothing was ever erased, the check costs nothing. Below it, ids are compared by hash in the
transaction that stores the rows. An erasure locks every position before it looks for anything: a transaction
that was before it is found by it, and one that comes after it knows of it.

A record is not stored again where its offset is before the end that its partition had at the erasure. In a
partition that came later, such as that of a topic made anew or copied, Kafka's time of the record decides.
What is published after the erasure is a new review.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Connection, text

from reviews.erasure import erased_hash
from reviews.stream_records import PartitionRange, StorableT

log = structlog.get_logger()

_MOST_VALUES = 1_000  # of a dead letter are taken for an id
_MOST_DEPTH = 32

# Which of the given records are of erased reviews.
_FIND = text("""
SELECT DISTINCT given.place
  FROM unnest(CAST(:hashes AS bytea[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]),
              CAST(:times AS bigint[]), CAST(:places AS integer[]))
       AS given (hash, partition, record_offset, time_ms, place)
  JOIN erasure_review v ON v.hash = given.hash
  JOIN erasure e ON e.id = v.erasure_id
  LEFT JOIN erasure_position p ON p.erasure_id = e.id AND p.stream_partition_id = given.partition
 WHERE CASE WHEN p.next_offset IS NULL
            THEN given.time_ms <= extract(epoch FROM e.requested_at) * 1000
            ELSE given.record_offset < p.next_offset END
""")


def without_erased(
    connection: Connection,
    ranges: Sequence[PartitionRange[StorableT]],
    erased_until: Mapping[int, int],
    about: Callable[[StorableT], tuple[str, int]],
) -> list[PartitionRange[StorableT]]:
    """The ranges without records of erased reviews: no row comes of them, and their offsets move.

    Args:
        connection: In the transaction that moved the positions of these ranges.
        ranges: What is to be stored.
        erased_until: Of each partition, from its position.
        about: A row's review id, and Kafka's time of its record in milliseconds.
    """
    return [
        _checked(connection, part, about) if part.expected < erased_until.get(part.partition_id, 0) else part
        for part in ranges
    ]


def _checked(
    connection: Connection, part: PartitionRange[StorableT], about: Callable[[StorableT], tuple[str, int]]
) -> PartitionRange[StorableT]:
    first_withdrawal, first_letter = len(part.accepted), len(part.accepted) + len(part.withdrawals)
    keys = [
        (erased_hash(review_id), row.offset, time_ms)
        for row in part.accepted
        for review_id, time_ms in [about(row)]
    ]
    keys += [(erased_hash(one.message.id), one.offset, one.arrived_ms) for one in part.withdrawals]
    places = list(range(first_letter))
    for place, letter in enumerate(part.dead_letters, first_letter):
        time_ms = letter.kafka_ms if letter.kafka_ms >= 0 else int(letter.received_at.timestamp() * 1000)
        more = [
            (erased_hash(value), letter.offset, time_ms) for value in possible_ids(letter.key, letter.raw)
        ]
        keys += more
        places += [place] * len(more)
    erased = _find(connection, part.partition_id, keys, places)
    if not erased:
        return part
    log.warning("erased_records_left_out", partition=part.partition_id, records=len(erased))

    def kept(rows: Sequence[Any], first: int) -> list[Any]:
        return [row for place, row in enumerate(rows, first) if place not in erased]

    return replace(
        part,
        accepted=kept(part.accepted, 0),
        withdrawals=kept(part.withdrawals, first_withdrawal),
        dead_letters=kept(part.dead_letters, first_letter),
    )


def _find(
    connection: Connection, partition: int, keys: Sequence[tuple[bytes, int, int]], places: Sequence[int]
) -> set[int]:
    """The places of those that are of erased reviews."""
    if not keys:
        return set()
    hashes, offsets, times = map(list, zip(*keys, strict=True))
    given = {"hashes": hashes, "offsets": offsets, "times": times, "places": list(places)}
    return set(connection.execute(_FIND, {**given, "partitions": [partition] * len(keys)}).scalars())


def possible_ids(key: bytes | None, raw: bytes | None) -> Iterator[str]:
    """What may be the id of a review in a record that was refused: its key, and each value of its JSON."""
    if key is not None:
        yield key.decode("utf-8", "replace")
    try:
        value = json.loads(raw or b"null")
    except (ValueError, RecursionError):
        return
    found = 0
    waiting = [(value, 0)]
    while waiting and found < _MOST_VALUES:
        one, depth = waiting.pop()
        if isinstance(one, dict | list) and depth < _MOST_DEPTH:
            inner = one.values() if isinstance(one, dict) else one
            waiting += [(each, depth + 1) for each in inner]
        elif isinstance(one, str | int) and not isinstance(one, bool):
            found += 1
            yield str(one)
