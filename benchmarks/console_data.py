"""A database for the console: many reviews as the bundled model scores them, with all that people do to them.

The texts are the bundled ones, each with a word of its own; label, probabilities and embedding are what the
bundled adapter makes of the bundled text. So pages show what they would show of a real stream, and the real
adapter is active.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psycopg
from pydantic import SecretStr

from benchmarks.million import LABELS, NAMES, PARTITIONS
from benchmarks.services import connect
from classifier.adapters.manifest import describe_adapter, read_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from drift.settings import DriftSettings
from reviewloop.demo.sample import ADAPTER_DIRECTORY, REVIEWS_FILE
from reviewloop.drift_reports.reporter import Reporter
from reviews.adapter import AdapterVersion
from reviews.slices import SliceShares, slice_of
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.drift_reports import DriftReportStore
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from storage.windows import WindowStore

TASK = "sentiment"
ANNOTATORS = ("ann", "bob", "cleo")
_SHARES = SliceShares()
_CHUNK = 50_000
_EARLIER = 5  # adapters before the bundled one
_REAL_REPORTS = 2
_FEW = 100_000
_REVIEW = "review (record, review_id, text, product, source, stars, published_at, received_at)"
_REVIEW_TYPES = ("int8", "text", "text", "text", "text", "int2", "timestamptz", "timestamptz")
_SCORE = "record, task, adapter_id, label, confidence, probabilities, margin, entropy, truncated, scored_at"
_SCORE_TYPES = (
    "int8", "text", "int4", "text", "float4", "float4[]", "float4", "float4", "bool", "timestamptz",
)  # fmt: skip
_EMBEDDING = "embedding (record, task, adapter_id, reason, vector)"
_EMBEDDING_TYPES = ("int8", "text", "int4", "text", "bytea")
_LETTER = "dead_letter (record, stage, error, message, raw, key, received_at, timestamp_ms)"
_LETTER_TYPES = ("int8", "text", "text", "text", "bytea", "bytea", "timestamptz", "int8")
_LETTERS = (
    (50, "parse", "not_json", "The value is not JSON: expected value at character 1.", b"id=%d;text=good"),
    (30, "parse", "missing_text", "The field 'text' is missing.", b'{"id": "%d", "review": "Good."}'),
    (10, "parse", "bad_stars", "The field 'stars' is not valid: must be a number from 1 to 5.",
     b'{"id": "%d", "text": "Good.", "stars": 10}'),
    (5, "parse", "not_utf8", "The value is not UTF-8: invalid start byte at byte 27.",
     b'{"id": "%d", "text": "gr\xf6\xdfer"}'),
    (4, "label", "unknown_label", "The task 'sentiment' has no label 'great'.",
     b'{"review_id": "%d", "label": "great", "annotator": "ann"}'),
    (1, "score", "model_failed", "The model failed on this text.", b'{"id": "%d", "text": "Good."}'),
)  # fmt: skip


class Filler(Protocol):
    """Writes the rows of a stream, and what came of them."""

    def fill(self, letters: int) -> None:
        """All rows, with so many dead letters."""


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """A bundled review, and what the bundled adapter says of it."""

    text: str
    product: str
    source: str
    stars: int
    truth: str
    label: str
    confidence: float
    probabilities: list[float]
    margin: float
    entropy: float
    truncated: bool
    vector: npt.NDArray[np.float16]


def fill_console(
    url: str,
    count: int,
    samples: Sequence[ScoredSample],
    days: float = 365,
    *,
    density: int = 1,
    letters: int | None = None,
    filler: Callable[..., Filler] | None = None,
) -> None:
    """So many reviews of the last days into an empty database, and what people and jobs did with them.

    Args:
        url: Of the database; its user owns it.
        count: How many reviews; one in ten has an embedding, one in fifty a label, one in fifty more is a
            dead letter, one in twenty was scored by an adapter on trial as well.
        samples: What the reviews are drawn from.
        days: Over how long a time, evenly.
        density: So many times as many embeddings, labels and dead letters, 1 to 5.
        letters: How many dead letters; None: as many as the density says.
        filler: What writes the rows of the stream; None: the one of this module.
    """
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as database:
        upgrade(database)
        ids = _add_adapters(database)
    with connect(url) as connection:
        _activate(connection, ids, days)
        made = (filler or _Filler)(connection, samples, ids, count=count, days=days, density=density)
        made.fill(count * density // 50 if letters is None else letters)
        connection.execute("VACUUM ANALYZE")
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as database:
        _report_drift(database, count)
    with connect(url) as connection:
        _repeat_reports(connection)
        _add_runs(connection, ids, days)
        _add_erasures(connection)
        connection.execute("VACUUM ANALYZE")


def bundled_samples() -> Iterator[ScoredSample]:
    """The bundled reviews, as the bundled adapter scores them."""
    rows = _rows()
    classifier = load(_base(), ADAPTER_DIRECTORY, ClassifierSettings(threads=2))
    predictions, vectors = classifier.score_and_embed(classifier.encode([row["text"] for row in rows]))
    for row, said, vector in zip(rows, predictions, vectors.astype(np.float16), strict=True):
        yield ScoredSample(
            row["text"], row["product"], row["source"], row["stars"], row["label"], said.label,
            said.confidence, list(said.probabilities), said.margin, said.entropy, said.truncated, vector,
        )  # fmt: skip


def made_up_samples() -> Iterator[ScoredSample]:
    """The bundled reviews with made-up scores, for tests: no model is loaded."""
    random_ = np.random.default_rng(5)
    for row in _rows():
        probabilities = random_.dirichlet([0.4, 0.4, 0.4])
        _, middle, highest = np.sort(probabilities)
        entropy = float(-(probabilities * np.log(probabilities + 1e-9)).sum())
        yield ScoredSample(
            row["text"], row["product"], row["source"], row["stars"], row["label"],
            LABELS[int(probabilities.argmax())], float(highest), probabilities.tolist(),
            float(highest - middle), entropy, False, random_.normal(size=8).astype(np.float16),
        )  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    with REVIEWS_FILE.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _base() -> str:
    manifest, _ = read_files(ADAPTER_DIRECTORY, TASK)
    return manifest.base_model or ""


def _add_adapters(database: Database) -> list[int]:
    """Some earlier adapters and the bundled one, which is the last."""
    store = AdapterStore(database)
    manifest, files = read_files(ADAPTER_DIRECTORY, TASK)
    bundled = describe_adapter(manifest)
    parent: str | None = None
    for number in range(_EARLIER):
        quality = 0.62 + 0.04 * number
        version = f"{TASK}-{number + 1:012x}"
        metrics = {
            "test_macro_f1": quality,
            "test_accuracy": quality + 0.05,
            "test_calibration_error": 0.09 - 0.01 * number,
        }
        made = AdapterVersion(
            version, TASK, LABELS, bundled.base_model, None, f"{number:064x}", metrics=metrics, parent=parent
        )
        store.add(made, {"adapter_config.json": b"{}"})
        parent = version
    store.add(bundled, files)
    query = "SELECT id FROM adapter ORDER BY id"
    with database.begin() as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def _activate(connection: "psycopg.Connection[Any]", ids: Sequence[int], days: float) -> None:
    """One adapter after the other, evenly in time, the last for a third of it."""
    start, replaces = datetime.now(UTC) - timedelta(days=days), None
    times = [start + timedelta(days=days * share) for share in np.linspace(0, 2 / 3, len(ids))]
    for number, at in zip(ids, times, strict=True):
        row = connection.execute(
            "INSERT INTO adapter_activation (task, adapter_id, replaces, activated_at, decided_by, reason) "
            "VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            (TASK, number, replaces, at, "gate" if replaces else "olga",
             "better on 240 frozen test reviews (macro-F1 +0.041, p = 0.002)" if replaces else "the first"),
        ).fetchone()  # fmt: skip
        replaces = row[0] if row else None


class _Filler:
    """Writes the rows of a stream, and what came of them, chunk by chunk."""

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        samples: Sequence[ScoredSample],
        ids: list[int],
        *,
        count: int,
        days: float,
        density: int,
    ) -> None:
        self._connection = connection
        self._samples = samples
        self._ids = ids
        self._count = count
        self._density = density
        self._random = random.Random(3)
        self._noise = np.random.default_rng(3)
        # On the last day there are more complaints, so that the last report has something to say.
        complaints = [sample for sample in samples if sample.truth == "negative"]
        self._shifted = [*samples, *complaints * 3]
        self._shift_at = count - count / days
        self._step = timedelta(days=days) / count
        self._start = datetime.now(UTC) - timedelta(days=days)
        self._first = self._add_partitions("reviews", count // PARTITIONS + count // 10)
        self._letters_at = count // PARTITIONS + 1

    def fill(self, letters: int) -> None:
        """All rows."""
        names = self._random.choices(NAMES, [1 / (rank + 1) for rank in range(len(NAMES))], k=self._count)
        for chunk in range(0, self._count, _CHUNK):
            self._fill_chunk(range(chunk, min(self._count, chunk + _CHUNK)), names)
        self._add_letters(letters)

    def _add_partitions(self, topic: str, offsets: int) -> int:
        for partition in range(PARTITIONS):
            self._connection.execute(
                "INSERT INTO stream_partition "
                "(cluster_id, topic, topic_id, partition, start_offset, next_offset) "
                "VALUES ('made-up', %s, %s, %s, 0, %s)",
                (topic, f"made-up-{topic}", partition, offsets),
            )
        row = self._connection.execute(
            "SELECT min(id) FROM stream_partition WHERE topic = %s", (topic,)
        ).fetchone()
        return int(row[0]) if row else 0

    def _fill_chunk(self, numbers: range, names: Sequence[str]) -> None:
        reviews, scores, vectors, trials, labels, items = [], [], [], [], [], []
        for number in numbers:
            sample = self._random.choice(self._shifted if number > self._shift_at else self._samples)
            record = self._record(number)
            at = self._start + self._step * number
            adapter = self._adapter_at(number)
            review_id = f"r{max(0, number - (number % 977 if number % 20 == 0 else 0)):08d}"
            score = self._score(record, adapter, sample, at)
            reviews.append(
                (record, review_id, self._text(sample, names[number]), sample.product, sample.source,
                 sample.stars, at, at)
            )  # fmt: skip
            scores.append(score)
            in_audit = slice_of(review_id, _SHARES) == "audit"
            if number % (10 // self._density) == 0 or in_audit:
                reason = "audit" if in_audit else "uncertain" if sample.margin < 0.2 else "sample"
                vectors.append((record, TASK, adapter, reason, self._vector(sample)))
            if number % (20 // self._density) == 1 and adapter == self._ids[-1]:
                tried = self._random.choice(self._samples) if self._random.random() < 0.15 else sample
                trials.append((*self._score(record, self._ids[0], tried, at), "shadow"))
            if number % (50 // self._density) == 2 or (in_audit and number % (5 // self._density) == 0):
                labels += self._answers(record, sample, at)
                items.append((record, "audit" if in_audit else "uncertain", "done", sample.margin, at))
            elif number % (200 // self._density) == 3:
                items.append((record, "uncertain", "open", 1 - sample.margin, at))
        copy = self._copy
        copy(_REVIEW, _REVIEW_TYPES, reviews)
        copy(f"prediction ({_SCORE})", _SCORE_TYPES, scores)
        copy(_EMBEDDING, _EMBEDDING_TYPES, vectors)
        copy(f"prediction_history ({_SCORE}, reason)", (*_SCORE_TYPES, "text"), trials)
        copy(
            "label (record, task, label, annotator, source, labelled_at, received_at)",
            ("int8", "text", "text", "text", "text", "timestamptz", "timestamptz"),
            labels,
        )
        copy(
            "label_task (record, task, reason, strategy, priority, state, queued_at, state_changed_at)",
            ("int8", "text", "text", "text", "float4", "text", "timestamptz", "timestamptz"),
            [
                (record, TASK, why, "margin", weight, state, at, at)
                for record, why, state, weight, at in items
            ],
        )

    def _text(self, sample: ScoredSample, name: str) -> str:
        """The bundled text; among very many, each has a word of its own, as real ones have."""
        return f"{sample.text} {name}" if self._count > _FEW else sample.text

    def _record(self, number: int) -> int:
        return (self._first + number % PARTITIONS) << 40 | number // PARTITIONS

    def _adapter_at(self, number: int) -> int:
        """The one that was active then: the last for a third of the time."""
        return self._ids[min(len(self._ids) - 1, int(number / self._count * 1.5 * (len(self._ids) - 1)))]

    def _score(self, record: int, adapter: int, sample: ScoredSample, at: datetime) -> tuple[Any, ...]:
        return (
            record, TASK, adapter, sample.label, sample.confidence, sample.probabilities, sample.margin,
            sample.entropy, sample.truncated, at + timedelta(seconds=1),
        )  # fmt: skip

    def _vector(self, sample: ScoredSample) -> bytes:
        noise = self._noise.normal(0, 0.02, len(sample.vector)).astype(np.float16)
        return bytes((sample.vector + noise).astype("<f2").tobytes())

    def _answers(self, record: int, sample: ScoredSample, at: datetime) -> Iterator[tuple[Any, ...]]:
        """One answer, one in five times two; one in twenty is another one than the bundled label."""
        for annotator in self._random.sample(ANNOTATORS, 2 if self._random.random() < 0.2 else 1):
            label = sample.truth if self._random.random() < 0.95 else self._random.choice(LABELS)
            said_at = min(at + timedelta(minutes=self._random.randrange(1, 2000)), datetime.now(UTC))
            yield (record, TASK, label, annotator, "label", said_at, said_at)

    def _add_letters(self, count: int) -> None:
        kinds = self._random.choices(_LETTERS, [kind[0] for kind in _LETTERS], k=count)
        rows = []
        for number, (_, stage, reason, message, raw) in enumerate(kinds):
            record = (self._first + number % PARTITIONS) << 40 | self._letters_at + number // PARTITIONS
            at = self._start + self._step * (number * self._count // count)
            value = raw % number
            rows.append(
                (record, stage, reason, message, value, b"%d" % number, at, int(at.timestamp() * 1000))
            )
        self._copy(_LETTER, _LETTER_TYPES, rows)
        self._connection.execute(
            "UPDATE dead_letter SET state = 'discarded', state_reason = 'an old publisher', "
            "state_changed_at = received_at WHERE record % 3 = 0"
        )

    def _copy(self, target: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        statement = f"COPY {target} FROM STDIN (FORMAT BINARY)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


def _report_drift(database: Database, count: int) -> None:
    """Real reports of the last days."""
    usual = DriftSettings()
    settings = DriftSettings(reference_reviews=min(usual.reference_reviews, count // 10), reference_days=1)
    reporter = Reporter(WindowStore(database), DriftReportStore(database), settings, TASK, _SHARES)
    now = datetime.now(UTC)
    for days in range(_REAL_REPORTS, 0, -1):
        reporter.report(now - timedelta(days=days), now - timedelta(days=days - 1))


def _repeat_reports(connection: "psycopg.Connection[Any]") -> None:
    """The same for the days before, as if nothing had changed."""
    connection.execute(
        "INSERT INTO drift_report (task, created_at, reference_since, reference_until, since, until, reviews,"
        "                          verdict, measures, attribution, wants_alert, wants_training) "
        "SELECT task, until - ago, reference_since - ago, reference_until - ago, since - ago, until - ago,"
        "       reviews, verdict, measures, attribution, false, false "
        "  FROM drift_report,"
        "       LATERAL (SELECT n * interval '1 day' AS ago FROM generate_series(50, 2, -1) n) days "
        " WHERE id = (SELECT min(id) FROM drift_report)"
    )


def _add_erasures(connection: "psycopg.Connection[Any]") -> None:
    """An erasure that is closed, and one that waits for an export."""
    for number, (requested_by, reason, closed) in enumerate(
        (("olga", "Asked to erase, ticket 17.", True), ("olga", "Asked to erase, ticket 23.", False)), 1
    ):
        asked = datetime.now(UTC) - timedelta(days=10 if closed else 1)
        connection.execute(
            "INSERT INTO erasure (requested_at, requested_by, reason, stage, finished_at, closed_at, seal) "
            "VALUES (%s, %s, %s, 'done', %s, %s, %s)",
            (asked, requested_by, reason, asked, asked if closed else None, "5e" * 32 if closed else None),
        )
        connection.execute(
            "INSERT INTO erasure_review (erasure_id, hash) VALUES (%s, %s)", (number, bytes([number]) * 32)
        )
        for place, rows, state, detail in _FINDINGS:
            if state == "erased" or not closed:
                connection.execute(
                    "INSERT INTO erasure_finding VALUES (%s, %s, %s, %s, %s)",
                    (number, place, rows, state, detail),
                )


_FINDINGS = (
    ("review", 2, "erased", ""),
    ("prediction", 2, "erased", ""),
    ("embedding", 1, "erased", ""),
    ("label", 1, "erased", ""),
    ("dead_letter", 1, "erased", ""),
    ("Kafka", 0, "open",
     "Topics keep their records until their own retention or compaction; none is stored again."),
    ("export s3://lake/reviews", 0, "open",
     "The files of 2026-05-01: 'reviewloop export' writes them anew; with --erase it does nothing else."),
)  # fmt: skip


def _add_runs(connection: "psycopg.Connection[Any]", ids: Sequence[int], days: float) -> None:
    """A run each night: most keep what serves, as one run of a real trainer says."""
    run = json.loads(Path(__file__).with_name("console_run.json").read_text(encoding="utf-8"))
    nights, measured = min(90, int(days)), ("manifest", "metrics", "verdict")
    for night in range(nights):
        started = datetime.now(UTC) - timedelta(days=nights - night)
        state = "waiting" if night % 3 == 0 else "kept"
        connection.execute(
            "INSERT INTO training_run (task, trigger, state, stage, started_at, finished_at, lease_token,"
            "                          config, manifest, metrics, verdict, active_adapter) "
            "VALUES (%s, 'nightly', %s, %s, %s, %s, %s, %s, %s, %s, %s, "
            "        (SELECT version FROM adapter WHERE id = %s))",
            (TASK, state, "labels" if state == "waiting" else "verdict", started,
             started + timedelta(minutes=7), night + 1, json.dumps(run["config"]),
             *(json.dumps(run[part]) if state == "kept" else None for part in measured),
             ids[-1]),
        )  # fmt: skip
