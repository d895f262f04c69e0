"""A database of many reviews, as a year of several shops would leave it."""

import itertools
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from benchmarks.made_up import PRODUCTS, SOURCES, made_up_text

LABELS = ("negative", "neutral", "positive")
SHARES = (0.04, 0.06, 0.90)
ADAPTERS = tuple(f"sentiment-{number:012x}" for number in range(1, 7))
PARTITIONS = 4
TEXT_CHARACTERS = 120
DAYS = 365
_SYLLABLES = tuple(
    start + vowel for start, vowel in zip("bdfgklmnprstvwxzh", "aeiouaeiouaeiouae", strict=True)
)
# The n-th stands in about one of 9 n reviews.
NAMES = tuple("".join(parts) for parts in itertools.product(_SYLLABLES, repeat=3))

_REVIEW = (
    "COPY review (record, review_id, text, product, source, published_at, received_at) "
    "FROM STDIN (FORMAT BINARY)"
)
_REVIEW_TYPES = ("int8", "text", "text", "text", "text", "timestamptz", "timestamptz")
_PREDICTION = (
    "COPY prediction (record, task, adapter_id, label, confidence, probabilities, margin, entropy, "
    "truncated, scored_at) FROM STDIN (FORMAT BINARY)"
)
_PREDICTION_TYPES = (
    "int8", "text", "int4", "text", "float4", "float4[]", "float4", "float4", "bool", "timestamptz",
)  # fmt: skip
_CHUNK = 50_000


def fill_database(
    connection: "psycopg.Connection[Any]", count: int, adapters: int = len(ADAPTERS), days: int = DAYS
) -> None:
    """So many reviews of the last days, by default a year, evenly in time, into a migrated database.

    1,000 products and 5 sources (a few products have a large share), labels 4/6/90 %, six adapters one after
    the other, 5 % of the ids published twice, a few in a hundred uncertain, a name in each text.

    Args:
        connection: To the database.
        count: How many reviews.
        adapters: How many of the six adapters scored them.
        days: Over how long a time.
    """
    ids = [_add_adapter(connection, version) for version in ADAPTERS]
    for partition in range(PARTITIONS):
        connection.execute(
            "INSERT INTO stream_partition "
            "(cluster_id, topic, topic_id, partition, start_offset, next_offset) "
            "VALUES ('made-up', 'reviews', 'made-up', %s, 0, %s)",
            (partition, count // PARTITIONS + 1),
        )
    first_id = connection.execute(
        "SELECT min(id) FROM stream_partition WHERE topic_id = 'made-up'"
    ).fetchone()
    rows = _rows(count, ids[:adapters], first_id[0] if first_id else 0, days)
    for chunk in range(0, count, _CHUNK):
        pairs = [next(rows) for _ in range(min(_CHUNK, count - chunk))]
        _copy(connection, _REVIEW, _REVIEW_TYPES, [review for review, _ in pairs])
        _copy(connection, _PREDICTION, _PREDICTION_TYPES, [prediction for _, prediction in pairs])
    connection.execute("VACUUM ANALYZE")


def _rows(
    count: int, adapters: Sequence[int], first_partition: int, days: int
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    random_ = random.Random(2)
    step = timedelta(days=days) / count
    start = datetime.now(UTC) - timedelta(days=days)
    products = random_.choices(PRODUCTS, [1 / (rank + 1) ** 0.7 for rank in range(len(PRODUCTS))], k=count)
    labels = random_.choices(range(3), SHARES, k=count)
    names = random_.choices(NAMES, [1 / (rank + 1) for rank in range(len(NAMES))], k=count)
    for number in range(count):
        record = (first_partition + number % PARTITIONS) << 40 | number // PARTITIONS
        at = start + step * number
        older = random_.randrange(1, 100_000) if random_.random() < 0.05 else 0
        review_id = f"r{max(0, number - older):08d}"
        text = f"{made_up_text(random_, TEXT_CHARACTERS)} {names[number]}"
        source = random_.choice(SOURCES)
        margin = random_.random() ** (1.0 if random_.random() < 0.2 else 0.1)
        confidence = (1 + margin) / 2
        probabilities = [(1 - confidence) / 2] * 2
        probabilities.insert(labels[number], confidence)
        label, adapter = LABELS[labels[number]], adapters[number * len(adapters) // count]
        scored_at = at + timedelta(seconds=1)
        yield (
            (record, review_id, text, products[number], source, at, at),
            (record, "sentiment", adapter, label, confidence, probabilities, margin, 0.3, False, scored_at),
        )


def _add_adapter(connection: "psycopg.Connection[Any]", version: str) -> int:
    row = connection.execute(
        "INSERT INTO adapter (version, task, labels, base_model, content_hash, temperature, metrics) "
        "VALUES (%s, 'sentiment', %s, 'none', %s, 1, '{}') RETURNING id",
        (version, list(LABELS), version),
    ).fetchone()
    return int(row[0]) if row else 0


def _copy(
    connection: "psycopg.Connection[Any]",
    statement: str,
    types: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
