"""Chooses in a process of its own, so that its greatest memory is its own; prints JSON.

``python -m benchmarks.choice_process pool STRATEGY ROWS COUNT SEED`` chooses from made-up columns,
``python -m benchmarks.choice_process database STRATEGY COUNT SEED`` from the configured database.
"""

import json
import random
import sys
import time
from datetime import UTC, datetime

import numpy as np

from benchmarks.made_up import made_up_text
from reviewloop.settings import load_settings
from reviews.slices import SliceShares
from storage.database import Database
from trainer.fitting.fit_data import peak_memory_bytes
from trainer.selection.choice import choose
from trainer.selection.pool import Pool
from trainer.selection.reading import choose_for_run, load_pool
from trainer.settings import SelectionSettings

LABELS = 3
EMBEDDED = 0.1
HIDDEN = 384
TEXT_CHARACTERS = 120


def main() -> None:
    source, strategy, *numbers = sys.argv[1:]
    *rows, count, seed = map(int, numbers)
    settings = SelectionSettings(strategy=strategy, items_per_night=count, half_life_days=90)
    said = _from_pool(settings, *rows, seed) if source == "pool" else _from_database(settings, seed)
    print(json.dumps({**said, "peak_bytes": peak_memory_bytes()}))


def made_up_pool(rows: int, seed: int) -> Pool:
    """Mostly certain predictions of a year, a tenth with embeddings, texts that are made when asked for."""
    random_ = np.random.default_rng(seed)
    probabilities = random_.dirichlet(np.full(LABELS, 0.3), rows).astype(np.float32)
    embedding_of = np.full(rows, -1, np.int64)
    embedded = random_.permutation(rows)[: int(EMBEDDED * rows)]
    embedding_of[embedded] = np.arange(len(embedded))
    return Pool(
        np.arange(rows, dtype=np.int64),
        probabilities,
        random_.integers(1_700_000_000, 1_731_536_000, rows),
        random_.standard_normal((len(embedded), HIDDEN), np.float32).astype(np.float16),
        embedding_of,
        texts_of=lambda records: [
            made_up_text(random.Random(record), TEXT_CHARACTERS) for record in records.tolist()
        ],
    )


def _from_pool(settings: SelectionSettings, rows: int, seed: int) -> dict[str, float]:
    pool = made_up_pool(rows, seed)
    start = time.perf_counter()
    chosen = choose(pool, settings.items_per_night, settings, seed)
    return {"seconds": time.perf_counter() - start, "chosen": len(chosen)}


def _from_database(settings: SelectionSettings, seed: int) -> dict[str, float]:
    database = Database(load_settings().database)
    shares = SliceShares()
    start = time.perf_counter()
    rows = len(load_pool(database, "sentiment", settings, shares))
    reading_seconds = time.perf_counter() - start
    start = time.perf_counter()
    chosen = choose_for_run(database, "sentiment", settings, shares, seed=seed, now=datetime.now(UTC))
    seconds = time.perf_counter() - start
    database.close()
    return {"rows": rows, "reading_seconds": reading_seconds, "seconds": seconds, "chosen": len(chosen)}


if __name__ == "__main__":
    main()
