"""What training runs and rescoring send."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np

from benchmarks.every_statement.call import DAY, SHARES, TASK, Call, value_of
from reviews.prediction import Prediction
from reviews.rescoring import Rescored
from reviews.stream_records import (
    KeptEmbedding,
)
from reviews.training_run import TrainingItem
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning import pool
from storage.learning.audits import audit_answers
from storage.learning.disagreements import disagreements
from storage.learning.leases import LeaseStore, schedule_lease, training_lease
from storage.learning.mlflow_outbox import MlflowOutbox
from storage.learning.run_requests import RunRequestStore
from storage.learning.runs import TrainingRunStore, read_pending
from storage.learning.texts import read_known_texts, read_texts
from storage.queries.filters import ReviewFilter
from storage.queries.review_pages import find_page


def learning(database: Database) -> Iterator[Call]:
    """What a nightly run does."""
    now = datetime.now(UTC)
    labels, leases, runs = LabelStore(database), LeaseStore(database), TrainingRunStore(database)
    requests, adapters = RunRequestStore(database), AdapterStore(database)
    yield Call("night: labelled reviews", lambda: labels.labelled(TASK), 30)
    yield Call("night: what only models answered", lambda: labels.labelled_by_models(TASK), 30)
    yield Call("night: labels without a text", lambda: labels.without_text(TASK), 10)
    yield Call("night: edited reviews", lambda: labels.edited_since_label(TASK), 30)
    yield Call("night: pool", lambda: pool.read_pool(database, TASK, SHARES, with_lengths=True), 60)
    yield Call("night: audit pool", lambda: pool.read_audit_pool(database, TASK, SHARES, now - 7 * DAY), 30)
    embedded = value_of(database, "SELECT max(record) FROM embedding") or 0
    own = value_of(database, f"SELECT adapter_id FROM embedding WHERE record = {embedded}")
    yield Call(
        "night: embeddings",
        lambda: pool.read_embeddings(database, TASK, own, np.arange(embedded - 50_000, embedded + 1)),
        10,
    )
    records = [row["record"] for row in find_page(database, ReviewFilter(task=TASK, limit=20)).rows]
    yield Call("night: texts", lambda: read_texts(database, np.array(records, np.int64)))
    yield Call("night: known texts", lambda: read_known_texts(database, TASK, 2_000), 2)
    yield Call("night: disagreements", lambda: disagreements(database, TASK, now - 7 * DAY, SHARES, 150), 10)
    yield Call("schedule: what is new", lambda: read_pending(database, TASK))
    yield Call("ask for a run", lambda: requests.ask(TASK, "walker", "to see"))
    yield Call("requests of late", lambda: (requests.latest(TASK), requests.of_run(1)))
    yield Call("give a request time", lambda: requests.give_time((TASK,), "walker"))
    asked = requests.take((TASK,), "walker")
    yield Call("take a request", lambda: requests.take((TASK,), "walker"))
    lease = leases.take(training_lease(TASK), f"walker-{uuid4()}", 3600)
    if lease is None:
        raise RuntimeError("Somebody trains on this database.")
    yield Call(
        "lease",
        lambda: (
            leases.renew(lease, 3600),
            leases.holder(lease.name),
            leases.take(schedule_lease("walk"), "w", 0),
        ),
    )
    active = adapters.active(TASK)
    if asked is None or active is None:
        raise RuntimeError("The request was taken by somebody else.")
    run = runs.start(TASK, "walk", lease, {}, active.version, request=asked.id)
    items = [TrainingItem(record, "train", "positive", 1.0) for record in records]
    yield Call("run: stage", lambda: runs.reach(run, lease, "collect"))
    yield Call("run: dataset", lambda: runs.keep_dataset(run, lease, items, {}))
    yield Call("run: progress", lambda: runs.note_progress(run, lease, {"step": 1}))
    yield Call("run: decision", lambda: runs.decide(run, lease, "kept", verdict={"checks": []}))
    candidate = adapters.find(active.version)
    yield Call(
        "run: promotion",
        lambda: runs.promote(run, lease, candidate, expected=active, reason="walk", verdict={}, metrics={}),
    )
    yield Call("run: end", lambda: runs.close(run, lease))
    yield Call("run: failure", lambda: runs.fail(run, lease, "walked"))
    yield Call("run: end of the lease", lambda: leases.release(lease))
    outbox = MlflowOutbox(database, f"walk-{uuid4()}")
    yield Call("MLflow: runs, adapters and activations", lambda: _outbox(outbox))
    yield Call("request: failure", lambda: requests.fail(asked.id, "walked"))
    yield Call("runs", lambda: (runs.history(TASK, before=10**6), runs.last_began(TASK), runs.show(run)))
    yield Call(
        "run: items",
        lambda: (runs.items(run), runs.trained_on(active.version), runs.makers([active.version])),
    )
    yield Call("comparisons so far", lambda: runs.comparisons(TASK, "improves"))
    previous = next(one.version for one in adapters.newest(TASK, 2) if one.version != active.version)
    yield Call(
        "audit of an adapter",
        lambda: audit_answers(
            database, TASK, active=active.version, previous=previous, since=now - 365 * DAY, shares=SHARES
        ),
        10,
    )
    yield from _rescoring(database, active.version, previous)


def _outbox(outbox: MlflowOutbox) -> None:
    outbox.runs(5)
    for adapter in outbox.adapters(5):
        outbox.note("adapter", adapter.version, "1")
    outbox.activations()


def _rescoring(database: Database, active: str, other: str) -> Iterator[Call]:
    store, adapters = RescoreStore(database), AdapterStore(database)
    store.cancel(TASK)
    job = store.create(adapters.find(other))
    yield Call("rescoring: find", lambda: (store.find(job.id), store.latest(TASK)))
    claim = store.claim(job, "walker")
    if claim is None:
        return
    yield Call("rescoring: claim", lambda: store.claim(job, "another"))
    texts = store.read(job, claim, 100, 1_000_000)
    yield Call("rescoring: read", lambda: store.read(job, claim, 100, 1_000_000))
    said = Prediction(TASK, "positive", 0.9, (0.04, 0.06, 0.9), 0.84, 0.39, False, other)
    kept = KeptEmbedding(TASK, other, "sample", bytes(16))
    rows = [Rescored(one.record, one.adapter_id, said, kept) for one in texts[:5]]
    done = rows[-1].record + 1 if rows else claim.done_record
    yield Call("rescoring: commit", lambda: store.commit(job, claim, done, rows, 0))
    yield Call("rescoring: progress", lambda: (store.progress(job), store.finish(job)))
    yield Call("rescoring: release", lambda: store.release(claim))
    yield Call(
        "rescoring: begin and end",
        lambda: (store.cancel(TASK), store.create(adapters.find(active)), store.cancel(TASK)),
        5,
    )
