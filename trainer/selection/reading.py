"""From the database to the choice of a run: candidates are read, chosen from, and audit items added."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from reviews.slices import SliceShares
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.progress import labelled_by_slice
from storage.learning.pool import read_audit_pool, read_embeddings, read_pool
from storage.learning.texts import read_known_texts, read_texts
from trainer.selection.audit_draw import AuditCandidates, audit_choices
from trainer.selection.choice import QueueChoice, as_labels_come, choose, row_weights
from trainer.selection.pool import NOT_EMBEDDED, Floats, Indices, Integers, Pool, margin_uncertainty
from trainer.settings import SelectionSettings

MOST_EMBEDDED = 100_000
"""So many embeddings are read at most, of the candidates with the greatest uncertainty times weight."""
KNOWN_TEXTS = 2_000
"""What is chosen must differ from so many of the texts that were labelled or queued last."""
_NEWEST_ANSWERS = 4_000  # are counted: more than ``first_labels``, as people disagree about some reviews


def choose_for_run(
    database: Database,
    task: str,
    settings: SelectionSettings,
    shares: SliceShares,
    *,
    seed: int,
    now: datetime,
    since: datetime | None = None,
) -> list[QueueChoice]:
    """What a run queues: the strategy's choice, and audit items; none is both.

    The same seed and database give the same choice. The strategy chooses among reviews published and scored
    at or after ``since`` (None: all); ``now`` is the end of the audit window.

    Raises:
        WrongUse: If the task has no active adapter, or a package that the strategy needs is missing.
    """
    settings = _as_labels_come(database, task, settings, shares)
    pool = load_pool(database, task, settings, shares, since, seed=seed)
    known = read_known_texts(database, task, KNOWN_TEXTS) if settings.skip_near_duplicates else ()
    chosen = choose(pool, settings.items_per_night, settings, seed, known)
    window = timedelta(days=settings.audit_window_days)
    columns = read_audit_pool(database, task, shares, now - window, most=settings.pool_records, seed=seed)
    candidates = AuditCandidates(columns.records, columns.review_ids, columns.probabilities)
    audit = audit_choices(
        candidates, settings.audit_items_per_night, shares, seed, even_share=settings.audit_even_share
    )
    return [*chosen, *audit]


def _as_labels_come(
    database: Database, task: str, settings: SelectionSettings, shares: SliceShares
) -> SelectionSettings:
    """The settings with the strategy of now."""
    store = AdapterStore(database)
    active = store.active(task)
    is_zero_shot = active is not None and store.find(active.version).is_zero_shot
    counts = labelled_by_slice(database, task, shares, _NEWEST_ANSWERS) if is_zero_shot else {}
    labels = sum(sum(of_slice.values()) for of_slice in counts.values())
    return as_labels_come(settings, labels, is_zero_shot=is_zero_shot)


def load_pool(
    database: Database,
    task: str,
    settings: SelectionSettings,
    shares: SliceShares,
    since: datetime | None = None,
    *,
    seed: int = 0,
) -> Pool:
    """The candidates of a task, with what the strategy of the settings needs.

    Of more records than the settings say, the latest and a draw with this seed from those before. Memory:
    about 150 bytes a candidate while reading, and 200 MB at most for embeddings of 1,024 numbers.

    Texts are looked up in the database later; embeddings are read for ``diverse-margin`` only.

    Raises:
        WrongUse: If the task has no active adapter.
    """
    columns = read_pool(
        database,
        task,
        shares,
        since,
        most=settings.pool_records,
        seed=seed,
        with_lengths=settings.cost_exponent > 0,
    )
    pool = Pool(
        columns.records,
        columns.probabilities,
        columns.published_at,
        texts_of=lambda records: read_texts(database, records),
        characters=columns.characters,
    )
    if settings.strategy != "diverse-margin":
        return pool
    weights = row_weights(pool, settings)
    scores = margin_uncertainty(pool) * (1.0 if weights is None else weights)
    wanted = pool.records[_greatest(scores, MOST_EMBEDDED)]
    records, embeddings = read_embeddings(database, task, columns.adapter_id, wanted)
    return replace(pool, embeddings=embeddings, embedding_of=places_of(pool.records, records))


def places_of(records: Integers, embedded: Integers) -> Indices:
    """int64 (records): the place of each record among the embedded ones, or -1.

    Args:
        records: int64 (records), ascending.
        embedded: int64 (rows with one): each of them one of the records.
    """
    places = np.full(len(records), NOT_EMBEDDED, np.int64)
    places[np.searchsorted(records, embedded)] = np.arange(len(embedded))
    return places


def _greatest(scores: Floats, count: int) -> Indices:
    return np.argpartition(-scores, count)[:count] if len(scores) > count else np.arange(len(scores))
