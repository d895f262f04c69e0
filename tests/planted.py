"""A database in which one review has left a trace in every table that can have one, and the search for it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter
from reviews.label import Label, UnpinnedLabel
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.stream_records import KeptEmbedding, PartitionRange
from reviews.training_run import TrainingItem
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.runs import TrainingRunStore
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

ACTIVE, EARLIER, OTHER = (f"sentiment-{letter * 12}" for letter in "abc")
NOW = datetime.now(UTC)
ID, OLD_TEXT, NEW_TEXT = (
    "ann-4711",
    "The Zyxomat «broke» after a week.\n",
    "The Zyxomat works again now, thanks.",
)
SAID = Prediction("sentiment", "good", 0.7, (0.3, 0.7), 0.4, 0.6, False, ACTIVE)
ENDS = {1: 100, 2: 100}
# Everything of a database that may hold a text.
_COLUMNS = """
SELECT c.table_name, c.column_name FROM information_schema.columns c
  JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
   AND (c.data_type IN ('text', 'bytea', 'json', 'jsonb', 'ARRAY', 'character varying'))
"""


def a_review(offset: int, review_id: str, content: str, published_at: datetime = NOW) -> Any:
    return scored_review(
        offset, review_id, content, None, None, None, published_at, NOW, (SAID,),
        kept=[KeptEmbedding("sentiment", ACTIVE, "all", b"12")],
        shadows=[SAID._replace(adapter_version=OTHER)],
        timestamp_ms=int(NOW.timestamp() * 1000),
    )  # fmt: skip


def a_letter(offset: int, raw: bytes, key: bytes | None = None) -> DeadLetter:
    return DeadLetter(offset, "parse", "bad_stars", "The stars are wrong.", raw, key, NOW)


# Only the headers of these name the review, or quote it.
_LETTERS = [a_letter(offset, b"no JSON") for offset in (5, 6, 7, 8)]
_HEADERS = (
    [("trace", b"7"), ("review-id", ID.encode())],
    [("was", json.dumps({"text": NEW_TEXT}).encode())],
    [("bytes", b"\x00\xff" + ID.encode() + b"\x00")],
    [("review-id", b"other-2"), ("bytes", b"\x00\xff")],
)


def _held_out(content: str) -> dict[str, bytes]:
    return {"held_out.json": json.dumps({"texts": ["another", content], "labels": [0, 1]}).encode()}


def a_version(name: str, parent: str | None = None) -> AdapterVersion:
    return AdapterVersion(name, "sentiment", ("bad", "good"), "base", None, name[-1] * 64, parent=parent)


_OF_A_RECORD = """
INSERT INTO label_task (record, task, reason, strategy, priority) VALUES (:r, 'sentiment', 'audit', 's', 1);
INSERT INTO label_skip (record, task, annotator) VALUES (:r, 'sentiment', 'bea');
INSERT INTO label_action (id, kind, record, task, annotator)
VALUES (gen_random_uuid(), 'skip', :r, 'sentiment', 'bea')
"""
_OF_THE_REVIEW = """
INSERT INTO audit_log (actor, action, subject, reason, address)
VALUES ('ann', 'review.publish', :id, :new, '');
INSERT INTO guideline (task, version, text, written_by) VALUES ('sentiment', 1, 'As in: ' || :old, 'ann');
INSERT INTO drift_report (task, reference_since, reference_until, since, until, reviews, verdict, measures,
                          attribution)
VALUES ('sentiment', '2020-01-01', '2020-01-02', '2020-01-03', '2100-01-01', 9, 'drift',
        CAST(:measures AS jsonb), CAST(:attribution AS jsonb))
"""


def plant(store: Database) -> Database:
    """Two versions of one review among others, with a trace of it in every table that can have one."""
    adapters, runs, leases = AdapterStore(store), TrainingRunStore(store), LeaseStore(store)
    adapters.add(a_version(EARLIER), _held_out(OLD_TEXT))
    adapters.add(a_version(ACTIVE), {"weights.safetensors": b"12"})
    adapters.add(a_version(OTHER, parent=EARLIER), {"weights.safetensors": b"34"})
    adapters.activate(adapters.find(ACTIVE), expected=None, decided_by="ann", reason=f"better on '{ID}'")
    for number in (1, 2):
        PartitionStore(store).register("cluster", "reviews", "topic", number - 1, 0)
    written = json.dumps({"id": ID, "text": NEW_TEXT, "stars": 9}).encode()
    reviews = [
        a_review(0, ID, OLD_TEXT, NOW - timedelta(days=2)),
        a_review(2, "other-1", "A text of another person."),
    ]
    letters = [a_letter(1, written), a_letter(3, b"{broken", ID.encode()), a_letter(4, b'{"id": "other-2"}')]
    letters += [letter._replace(headers=headers) for letter, headers in zip(_LETTERS, _HEADERS, strict=True)]
    ReviewWriter(store).write([PartitionRange(1, 0, 9, reviews, letters)])
    ReviewWriter(store).write(
        [PartitionRange(2, 0, 2, [a_review(0, ID, NEW_TEXT), a_review(1, "other-3", "Fine.")])]
    )
    records = [record_id(1, 0), record_id(2, 0)]
    label = ("sentiment", "good", "bea", "file", NOW)
    LabelStore(store).add([*(Label(record, *label) for record in [*records, record_id(1, 2)])])
    LabelStore(store).add([UnpinnedLabel("other-9", *label)])
    for statement in _OF_A_RECORD.split(";"):
        for record in records:
            store.execute(text(statement), {"r": record})
    lease = leases.take(training_lease("sentiment"), "test", 60)
    assert lease is not None
    run = runs.start("sentiment", "manual", lease, {"note": f"with {ID}"}, ACTIVE)
    items = [TrainingItem(record, "train", "good", 1.0) for record in (records[0], record_id(1, 2))]
    runs.keep_dataset(run, lease, items, {"rows": {}})
    runs.decide(run, lease, "kept", verdict={"reasons": [NEW_TEXT]}, candidate=ACTIVE)
    runs.fail(run, lease, f"The row '{OLD_TEXT}' is strange.")
    leases.release(lease)
    parts = [{"name": name, "share": 0.5, "reference": 0.1, "window": 0.6} for name in ("zyxomat", "parcel")]
    attribution = {"words": parts, "examples": [*records, 7], "to_label": records}
    given = {
        "id": ID,
        "new": NEW_TEXT,
        "old": OLD_TEXT,
        "measures": json.dumps({"said": NEW_TEXT}),
        "attribution": json.dumps(attribution),
    }
    for statement in _OF_THE_REVIEW.split(";"):
        store.execute(text(statement), {name: one for name, one in given.items() if f":{name}" in statement})
    return store


def places(store: Database, *needles: bytes) -> set[str]:
    """Where one of these stands, in any column of any table."""
    found = set()
    for table, column in store.fetch(text(_COLUMNS)):
        for needle in needles:
            kind = "bytea" if _is_bytes(store, table, column) else "text"
            wanted: object = needle if kind == "bytea" else needle.decode()
            condition = f"position(CAST(:needle AS {kind}) IN CAST({column} AS {kind})) > 0"
            if store.fetch_value(text(f"SELECT count(*) FROM {table} WHERE {condition}"), {"needle": wanted}):
                found.add(f"{table}.{column}")
    return found


def _is_bytes(store: Database, table: str, column: str) -> bool:
    query = (
        "SELECT data_type FROM information_schema.columns WHERE table_name = :table AND column_name = :column"
    )
    return bool(store.fetch_value(text(query), {"table": table, "column": column}) == "bytea")


NEEDLES = (ID.encode(), b"Zyxomat", b"zyxomat")


def held(store: Database) -> set[str]:
    """The files of adapters wait until no adapter serves that has seen the review."""
    found = store.fetch_values(text("SELECT path FROM adapter_file WHERE path = 'held_out.json'"))
    return {"adapter_file.content"} if list(found) else set()
