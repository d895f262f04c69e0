"""Tens of millions of reviews in minutes: rows of equal length become COPY's binary format by numpy.

The rows are those of `benchmarks/console_data.py`: bundled texts, each with a word of its own, scored as the
bundled adapter scores them, with embeddings, labels, queue items, dead letters and the answers of an adapter
on trial. Indexes are made when all rows are there.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from benchmarks.console_data import ANNOTATORS, TASK, ScoredSample
from benchmarks.million import LABELS, NAMES, PARTITIONS

_CHUNK = 200_000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_TEXT_BYTES = 128
_NAME_BYTES = 6
_TABLES = ("review", "prediction", "prediction_history", "embedding", "label", "label_task", "dead_letter")
_SCORE = "record, task, adapter_id, label, confidence, probabilities, margin, entropy, truncated, scored_at"
_EDITED_EVERY, _EMBEDDED_EVERY, _SHADOWED_EVERY = 20, 10, 20
_LABELLED_EVERY, _AUDITED_EVERY, _OPEN_EVERY = 60, 150, 2_000
_REASONS = ("not_json", "missing_text", "bad_stars", "model_failed")

_Columns = Sequence[tuple[str, npt.NDArray[Any]]]


class GrowthFiller:
    """Writes the rows of a long stream; takes the place of the filler of ``benchmarks.console_data``.

    Args:
        connection: To a migrated database with the adapters.
        samples: What texts, scores and embeddings are drawn from.
        ids: The adapters, one after the other; the last one for a third of the time.
        count: How many reviews.
        days: Over how long a time, evenly, until now.
        density: Not used: how many labels there are follows from the count.
    """

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        samples: Sequence[ScoredSample],
        ids: list[int],
        *,
        count: int,
        days: float,
        density: int,  # noqa: ARG002  as the other filler has it
    ) -> None:
        self._connection = connection
        self._ids = np.array(ids)
        self._count = count
        self._random = np.random.default_rng(3)
        self._step = days * 86_400e6 / count
        self._start = int((datetime.now(UTC) - timedelta(days=days) - _EPOCH) / timedelta(microseconds=1))
        texts = [sample.text.encode()[:_TEXT_BYTES].decode(errors="ignore") for sample in samples]
        self._texts = np.array([text.encode().ljust(_TEXT_BYTES, b".") for text in texts], f"S{_TEXT_BYTES}")
        self._names = np.array([name.encode().ljust(_NAME_BYTES, b"o") for name in NAMES], f"S{_NAME_BYTES}")
        self._labels = np.array([LABELS.index(sample.label) for sample in samples])
        self._scores = {
            "confidence": np.array([sample.confidence for sample in samples], ">f4"),
            "margin": np.array([sample.margin for sample in samples], ">f4"),
            "entropy": np.array([sample.entropy for sample in samples], ">f4"),
        }
        self._probabilities = np.array([sample.probabilities for sample in samples], ">f4")
        self._vectors = np.stack([sample.vector.astype("<f2") for sample in samples])
        self._first = self._add_partitions()

    def fill(self, letters: int) -> None:
        """All rows, then the indexes."""
        began = time.monotonic()
        indexes = self._drop_indexes()
        for first in range(0, self._count, _CHUNK):
            self._fill_chunk(np.arange(first, min(self._count, first + _CHUNK)))
            if first // _CHUNK % 10 == 0:
                print(
                    f"{first:,} of {self._count:,} reviews after {time.monotonic() - began:.0f} s", flush=True
                )
        self._add_letters(letters)
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        for index in indexes:
            self._connection.execute(index)

    def _add_partitions(self) -> int:
        first = 0
        offsets_of_reviews = (self._count + self._count // 50) // PARTITIONS + PARTITIONS
        for topic, offsets in (("reviews", offsets_of_reviews), ("review-labels", 0)):
            for partition in range(PARTITIONS):
                row = self._connection.execute(
                    "INSERT INTO stream_partition "
                    "(cluster_id, topic, topic_id, partition, start_offset, next_offset) "
                    "VALUES ('made-up', %s, %s, %s, 0, %s) RETURNING id",
                    (topic, f"made-up-{topic}", partition, offsets),
                ).fetchone()
                first = first or (int(row[0]) if row else 0)
        return first

    def _drop_indexes(self) -> list[str]:
        """What makes them again; keys stay."""
        rows = self._connection.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE indrelid::regclass::text = ANY(%s) AND NOT indisunique",
            (list(_TABLES),),
        ).fetchall()
        for name, _ in rows:
            self._connection.execute(f"DROP INDEX {name}")
        return [made for _, made in rows]

    def _fill_chunk(self, numbers: npt.NDArray[np.int64]) -> None:
        count = len(numbers)
        drawn = self._random.integers(len(self._texts), size=count)
        records = (self._first + numbers % PARTITIONS) << 40 | numbers // PARTITIONS
        times = (self._start + numbers * self._step).astype(np.int64)
        place = numbers / self._count * 1.5 * (len(self._ids) - 1)
        adapters = self._ids[np.minimum(len(self._ids) - 1, place.astype(int))]
        self._add_reviews(numbers, drawn, records, times)
        self._add_scores(f"prediction ({_SCORE})", drawn, records, times, adapters)
        some = numbers % _EMBEDDED_EVERY == 0
        self._add_embeddings(drawn[some], records[some], adapters[some])
        tried = (numbers % _SHADOWED_EVERY == 1) & (adapters == self._ids[-1])
        changed = np.where(self._random.random(count) < 0.15, np.roll(drawn, 1), drawn)
        self._add_scores(
            f"prediction_history ({_SCORE}, reason, kept_at)", changed[tried], records[tried], times[tried],
            np.full(tried.sum(), self._ids[0]), is_shadow=True,
        )  # fmt: skip
        self._add_answers(numbers, drawn, records, times)

    def _add_reviews(
        self,
        numbers: npt.NDArray[np.int64],
        drawn: npt.NDArray[np.int64],
        records: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
    ) -> None:
        count = len(numbers)
        older = np.where(numbers % _EDITED_EVERY == 0, numbers % 977, 0)
        ids = np.char.add(b"r", np.char.zfill(np.maximum(0, numbers - older).astype("S9"), 9))
        ranks = self._random.zipf(1.3, count) % len(self._names)
        texts = np.char.add(np.char.add(self._texts[drawn], b" "), self._names[ranks])
        products = np.char.add(
            "product-", np.char.zfill((self._random.zipf(1.5, count) % 1000).astype("U4"), 4)
        )
        sources = np.array([b"mail", b"shop", b"site", b"blog", b"call"])[
            self._random.integers(5, size=count)
        ]
        self._copy(
            "review (record, review_id, text, product, source, stars, published_at, received_at, "
            "timestamp_ms)",
            (
                ("record", records.astype(">i8")),
                ("review_id", ids.astype("S10")),
                ("text", texts.astype(f"S{_TEXT_BYTES + 1 + _NAME_BYTES}")),
                ("product", products.astype("S12")),
                ("source", sources.astype("S4")),
                ("stars", self._random.integers(1, 6, count).astype(">i2")),
                ("published_at", times.astype(">i8")),
                ("received_at", times.astype(">i8")),
                ("timestamp_ms", (times // 1000 + 946_684_800_000).astype(">i8")),
            ),
        )

    def _add_scores(
        self,
        target: str,
        drawn: npt.NDArray[np.int64],
        records: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        adapters: npt.NDArray[Any],
        *,
        is_shadow: bool = False,
    ) -> None:
        """Names of labels differ in length, and rows of one COPY may not: a COPY for each label."""
        for number, label in enumerate(LABELS):
            rows = self._labels[drawn] == number
            count, of_label = int(rows.sum()), drawn[rows]
            scored_at = ("scored_at", (times[rows] + 1_000_000).astype(">i8"))
            more = (("reason", _same("shadow", count)), ("kept_at", scored_at[1])) if is_shadow else ()
            self._copy(
                target,
                (
                    ("record", records[rows].astype(">i8")),
                    ("task", _same(TASK, count)),
                    ("adapter_id", adapters[rows].astype(">i4")),
                    ("label", _same(label, count)),
                    ("confidence", self._scores["confidence"][of_label]),
                    ("probabilities", _arrays(self._probabilities[of_label])),
                    ("margin", self._scores["margin"][of_label]),
                    ("entropy", self._scores["entropy"][of_label]),
                    ("truncated", np.zeros(count, "u1")),
                    scored_at,
                    *more,
                ),
            )

    def _add_embeddings(
        self, drawn: npt.NDArray[np.int64], records: npt.NDArray[np.int64], adapters: npt.NDArray[Any]
    ) -> None:
        noise = self._random.normal(0, 0.02, (len(drawn), self._vectors.shape[1])).astype(np.float16)
        vectors = np.ascontiguousarray((self._vectors[drawn] + noise).astype("<f2"))
        self._copy(
            "embedding (record, task, adapter_id, reason, vector)",
            (
                ("record", records.astype(">i8")),
                ("task", _same(TASK, len(drawn))),
                ("adapter_id", adapters.astype(">i4")),
                ("reason", _same("sample", len(drawn))),
                ("vector", vectors.view(f"V{vectors.shape[1] * 2}").reshape(-1)),
            ),
        )

    def _add_answers(
        self,
        numbers: npt.NDArray[np.int64],
        drawn: npt.NDArray[np.int64],
        records: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
    ) -> None:
        """Labels and the queue: one in sixty is labelled, some of them because the audit asked."""
        asked = np.flatnonzero((numbers % _LABELLED_EVERY == 2) | (numbers % _OPEN_EVERY == 3))
        labels, items = [], []
        for place in asked.tolist():
            at = _EPOCH + timedelta(microseconds=int(times[place]) + 60_000_000)
            is_open = numbers[place] % _OPEN_EVERY == 3
            reason = "audit" if numbers[place] % _AUDITED_EVERY == 2 else "uncertain"
            record = int(records[place])
            state = "open" if is_open else "done"
            items.append((record, TASK, reason, "margin", float(place % 1000) / 1000, state, at, at))
            if not is_open:
                said = LABELS[self._labels[drawn[place]]]
                labels.append((record, TASK, said, ANNOTATORS[place % 3], "label", at, at))
                if place % 5 == 0:
                    labels.append(
                        (record, TASK, LABELS[place % 3], ANNOTATORS[(place + 1) % 3], "label", at, at)
                    )
        self._copy_rows(
            "label (record, task, label, annotator, source, labelled_at, received_at)",
            ("int8", "text", "text", "text", "text", "timestamptz", "timestamptz"), labels,
        )  # fmt: skip
        self._copy_rows(
            "label_task (record, task, reason, strategy, priority, state, queued_at, state_changed_at)",
            ("int8", "text", "text", "text", "float4", "text", "timestamptz", "timestamptz"), items,
        )  # fmt: skip

    def _add_letters(self, count: int) -> None:
        step, behind = self._step * self._count / count, self._count // PARTITIONS + 1
        rows = (
            (
                (self._first + number % PARTITIONS) << 40 | behind + number // PARTITIONS, "parse",
                _REASONS[number % len(_REASONS)], "It is no review.", b'{"id": "r%09d"' % number,
                "waiting" if number % 3 else "discarded",
                _EPOCH + timedelta(microseconds=self._start + number * step),
            )
            for number in range(count)
        )  # fmt: skip
        self._copy_rows(
            "dead_letter (record, stage, error, message, raw, state, received_at)",
            ("int8", "text", "text", "text", "bytea", "text", "timestamptz"), rows,
        )  # fmt: skip

    def _copy(self, target: str, columns: _Columns) -> None:
        """Rows of equal length, column by column."""
        count = len(columns[0][1])
        row = np.dtype(
            [("fields", ">i2"), *(pair for name, column in columns for pair in _field(name, column))]
        )
        rows = np.zeros(count, row)
        rows["fields"] = len(columns)
        for name, column in columns:
            rows[f"bytes of {name}"] = column.dtype.itemsize
            rows[name] = column
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.write(_HEADER + rows.tobytes() + _TRAILER)

    def _copy_rows(self, target: str, types: Sequence[str], rows: "Iterator[Any] | Sequence[Any]") -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


def _field(name: str, column: npt.NDArray[Any]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return (f"bytes of {name}", ">i4"), (name, column.dtype)


def _same(value: str, count: int) -> npt.NDArray[Any]:
    return np.full(count, value.encode())


def _arrays(values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """V (rows): float32 (rows, labels) as real[]: dimensions, flags, type, length, lower bound, values."""
    count, labels = values.shape
    pairs = [
        item for label in range(labels) for item in ((f"bytes {label}", ">i4"), (f"value {label}", ">f4"))
    ]
    row = np.dtype([("head", ">i4", (5,)), *pairs])
    rows = np.zeros(count, row)
    rows["head"] = (1, 0, 700, labels, 1)
    for label in range(labels):
        rows[f"bytes {label}"], rows[f"value {label}"] = 4, values[:, label]
    return rows.view(f"V{row.itemsize}")
